"""Pools and their union against a full sort, and runs that were killed."""
import numpy as np
import pytest

from jaxret.methods.mm_embed import evaluator
from jaxret.methods.mm_embed import tables as mixed_tables
from tests.tiny_mixed import Encoder, benchmark, rank


def test_pools_and_union_are_those_of_a_full_sort(tmp_path):
  found, encoder = benchmark(), Encoder()
  union, rankings = rank(found, encoder, tmp_path)
  candidates = [union[place] for place in range(len(union))]
  assert [c.id for c in candidates] == [
      i.id for pool in found.pools.values() for i in pool]
  matrix = np.stack([encoder.vector(c, None) for c in candidates])
  for task in found.tasks:
    for where in evaluator.POOLS:
      ranking = rankings[task.name, where]
      for q, query in enumerate(task.queries):
        scores = matrix @ encoder.vector(query, task.instructions[q])
        out = set(task.excluded[q]) if task.excluded else set()
        allowed = [p for p, c in enumerate(candidates) if c.id not in out and (
            where == 'union' or c.id.startswith(task.pool))]
        order = sorted(allowed, key=lambda p: -scores[p])[:evaluator.SEARCHED]
        got = ranking.candidates[q]
        assert got[got >= 0].tolist() == order
        relevant = [p for p in order if candidates[p].id in task.relevant[q]]
        wanted = 1 + order.index(relevant[0]) if relevant else (
            evaluator.SEARCHED + 1)
        assert evaluator.ranks(union, task, ranking)[q] == wanted


def test_everything_is_embedded_once(tmp_path):
  found, encoder = benchmark(), Encoder()
  rank(found, encoder, tmp_path)
  assert len(encoder.calls) == len(set(encoder.calls))
  n_candidates = sum(map(len, found.pools.values()))
  assert len(encoder.calls) == n_candidates + 18
  again = Encoder()
  rank(found, again, tmp_path)
  assert not again.calls


def test_a_killed_run_goes_on(tmp_path, monkeypatch):
  found, killed = benchmark(), Encoder(fail_after=40)
  with pytest.raises(KeyboardInterrupt):
    rank(found, killed, tmp_path)
  assert len(killed.calls) >= 40
  rest = Encoder()
  _, rankings = rank(found, rest, tmp_path)
  assert not set(rest.calls) & set(killed.calls)
  _, whole = rank(found, Encoder(), tmp_path / 'whole')
  for key, ranking in whole.items():
    for got, wanted in zip(rankings[key], ranking):
      np.testing.assert_array_equal(got, wanted)
  # Finished searches are not done again either, nor are pools read.
  monkeypatch.setattr(
      evaluator.searches.similarity, 'search', lambda *_: pytest.fail('again'))
  rank(found, Encoder(), tmp_path)


def test_what_cannot_be_embedded_is_not_found(tmp_path):
  found = benchmark()
  left_out = ('a:4', 'b:3', 'first:2')
  union, rankings = rank(found, Encoder(left_out=left_out), tmp_path)
  assert rankings['first', 'union'].kept.tolist() == [0, 1, 3, 4, 5]
  assert [union[place].id for place in (2, 21)] == ['a:4', 'b:3']
  for ranking in rankings.values():
    assert not np.isin(ranking.candidates, (2, 21)).any()
  results = mixed_tables.tabulate(found, union, {'row': rankings}, 'test')
  assert results['tasks']['first']['left_out'] == 1
