"""TREC files, read back and evaluated by ir-measures."""
import urllib.parse

import ir_measures
import numpy as np
import pytest

from jaxret import metrics
from jaxret.scoring import trec


def test_ir_measures_finds_our_recall(tmp_path):
  rng = np.random.default_rng(0)
  scores = rng.normal(size=(30, 40)).astype(np.float32)
  relevant = [rng.choice(40, 1) for _ in range(30)]
  # What fields are split at; what only Python takes for an end of a line; what
  # looks like another id that was encoded.
  queries = [f'a query {i}' for i in range(27)] + ['', '%', '\u2028']
  candidates = [f'clip\t{i}' for i in range(32)] + [
      'a\x85b', 'half \ud83d', '..', 'a/b', '', '%20', ' ', '日本']
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
  lines = (tmp_path / 'runs' / 'x.trec').read_text().splitlines()
  assert {len(line.split()) for line in lines} == {6}
  assert len({line.split()[2] for line in lines}) == 40
  assert {urllib.parse.unquote(line.split()[2], errors='surrogatepass')
          for line in lines} - {'%'} == set(candidates) - {''}


def test_a_run_holds_the_best_in_order_and_leaves_out_what_is_not_scored(
    tmp_path):
  scores = np.array([[0.5, np.nan, 2.0, -1.0]], np.float32)
  trec.write_run(tmp_path / 'run', scores, ['q'], list('abcd'), 2, 'tag')
  assert (tmp_path / 'run').read_text().splitlines() == [
      'q Q0 c 1 2.0 tag', 'q Q0 a 2 0.5 tag']


@pytest.mark.parametrize('depth', [1, 3, 7, 40])
def test_the_best_are_the_first_of_a_whole_sort(depth, tmp_path):
  """Of scores full of ties, some of which are no numbers."""
  rng = np.random.default_rng(0)
  scores = np.round(rng.normal(size=(20, 9))).astype(np.float32)
  scores[rng.random(scores.shape) < 0.2] = -np.inf
  scores[3] = -np.inf
  ids = [str(q) for q in range(20)], [str(c) for c in range(9)]
  trec.write_run(tmp_path / 'run', scores, *ids, depth, 'tag')
  lines = [line.split() for line in (
      tmp_path / 'run').read_text().splitlines()]
  want = [[str(q), str(c)] for q, row in enumerate(scores)
          for c in [c for c in np.argsort(-row, kind='stable')
                    if np.isfinite(row[c])][:depth]]
  assert [[line[0], line[2]] for line in lines] == want
