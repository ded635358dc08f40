"""Pools and their union against a full sort, and runs that were killed."""
import numpy as np
import pytest

from jaxret import retrieval
from jaxret.data import types
from jaxret.data.sets import mixed
from jaxret.methods.mm_embed import evaluator
from jaxret.methods.mm_embed import rerank as mixed_rerank
from jaxret.methods.mm_embed import tables as mixed_tables

WIDTH = 8


def item(name):
  """Even numbers are texts, odd ones images."""
  number = int(name.rpartition(':')[2])
  if number % 2:
    return types.Item(name, image=f'{name}.png')
  return types.Item(name, name)


def benchmark():
  pools = {pool: tuple(item(f'{pool}:{i}') for i in range(start, 40, step))
           for pool, start, step in (('a', 0, 2), ('b', 1, 2), ('c', 0, 1))}
  def task(name, pool, modality, **fields):
    rng = np.random.default_rng(len(name))
    names = [i.id for own in pools.values() for i in own]
    return mixed.Task(
        name, tuple(types.Item(f'{name}:{i}', f'{name} {i}') for i in range(6)),
        ('say', 'say', 'tell') * 2, tuple(
            {str(rng.choice(names)): 1, pools[pool][i].id: 2}
            for i in range(6)), pool, modality, **fields)
  return mixed.Benchmark('toy', pools, (
      task('first', 'a', 'text'), task('second', 'b', 'image', depth=10),
      task('third', 'c', 'text', is_composed=True, excluded=tuple(
          (f'c:{20 + i}', 'b:1') for i in range(6)))))


class Encoder:
  """Random vectors by content and prompt; counts what it is asked."""

  def __init__(self, fail_after=None, left_out=()):
    self.calls, self._fail_after, self._left_out = [], fail_after, left_out

  def __call__(self, items, prompt):
    if self._fail_after is not None and len(self.calls) >= self._fail_after:
      raise KeyboardInterrupt
    self.calls += [(one.id, prompt) for one in items]
    return np.stack([self.vector(one, prompt) for one in items])

  def vector(self, one, prompt):
    if one.id in self._left_out:
      return np.full(WIDTH, np.nan, np.float32)
    seed = [*f'{one.id}{prompt}'.encode()]
    vector = np.random.default_rng(seed).standard_normal(WIDTH)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def rank(found, encoder, workdir):
  union = evaluator.Union(found)
  return union, evaluator.rank(
      found, union, retrieval.Encoder(encoder, {'weights': 'w'}), workdir,
      block_items=7)


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


def test_tables_count_wrong_modalities(tmp_path):
  found = benchmark()
  union, rankings = rank(found, Encoder(), tmp_path)
  results = mixed_tables.tabulate(found, union, {'row': rankings}, 'test')
  for task in found.tasks:
    first = rankings[task.name, 'union'].candidates[:, 0]
    wrong = [mixed.modality(union[int(p)]) != task.modality for p in first]
    assert results[task.name]['row']['wrong_modality_at_1'] == pytest.approx(
        100 * np.mean(wrong))
  shares = mixed_tables.wrong_modality(found, results)
  assert shares['row'] == pytest.approx(np.mean([
      results[task.name]['row']['wrong_modality_at_1']
      for task in found.tasks]))


def test_reranking_asks_once_and_reorders_the_first(tmp_path):
  found = benchmark()
  union, rankings = rank(found, Encoder(), tmp_path)
  task = found.tasks[1]  # wants images
  ranking = rankings[task.name, 'union']
  asked = []
  def ask(queries, candidates):
    asked.extend((q.id, c.id) for q, own in zip(queries, candidates)
                 for c in own)
    return [[int(c.id.rpartition(':')[2]) / 100 for c in own] + [0.9] * (
        10 - len(own)) for own in candidates]
  def reranked(mode='replace'):
    return mixed_rerank.rerank_task(
        union, task, ranking, ask, tmp_path / 'p', {'weights': 'w'}, mode,
        block_queries=4)
  got = reranked()
  assert len(asked) == len(set(asked)) and all(
      int(c.rpartition(':')[2]) % 2 for _, c in asked)
  n_asked = len(asked)
  for q in range(len(task.queries)):
    names = [union[int(p)] for p in ranking.candidates[q, :10]]
    value = [int(c.id.rpartition(':')[2]) if c.image else 0 for c in names]
    wanted = sorted(range(10), key=lambda i: -value[i])
    assert [union[int(p)].id for p in got.candidates[q, :10]] == [
        names[i].id for i in wanted]
    np.testing.assert_array_equal(
        got.candidates[q, 10:], ranking.candidates[q, 10:])
    assert (np.diff(got.scores[q]) <= 0).all()
  both = reranked('interpolate')
  assert len(asked) == n_asked  # probabilities are kept
  assert (both.candidates != got.candidates).any()
