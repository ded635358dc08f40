"""TREC files, read back and evaluated by ir-measures."""
import ir_measures
import numpy as np
import pytest

from jaxret import metrics
from jaxret.scoring import trec


def test_ir_measures_finds_our_recall(tmp_path):
  rng = np.random.default_rng(0)
  scores = rng.normal(size=(30, 40)).astype(np.float32)
  relevant = [rng.choice(40, 1) for _ in range(30)]
  queries = [f'a query {i}' for i in range(30)]
  candidates = [f'clip\t{i}' for i in range(40)]
  trec.write_run(tmp_path / 'runs' / 'x.trec', scores, queries, candidates, 40,
                 'jaxret')
  trec.write_relevance(tmp_path / 'x.qrels', relevant, queries, candidates)
  found = ir_measures.calc_aggregate(
      [ir_measures.parse_measure(f'R@{k}') for k in (1, 5, 10)],
      ir_measures.read_trec_qrels(str(tmp_path / 'x.qrels')),
      ir_measures.read_trec_run(str(tmp_path / 'runs' / 'x.trec')))
  ranks = metrics.ranks(scores, relevant)
  assert {str(name): 100 * value for name, value in found.items()} == (
      pytest.approx({f'R@{k}': metrics.recall_at_k(ranks, k)
                     for k in (1, 5, 10)}))


def test_a_run_holds_the_best_in_order_and_leaves_out_what_is_not_scored(
    tmp_path):
  scores = np.array([[0.5, np.nan, 2.0, -1.0]], np.float32)
  trec.write_run(tmp_path / 'run', scores, ['q'], list('abcd'), 2, 'tag')
  assert (tmp_path / 'run').read_text().splitlines() == [
      'q Q0 c 1 2.0 tag', 'q Q0 a 2 0.5 tag']
