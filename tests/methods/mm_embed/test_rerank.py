"""New orders by a second model, which is asked once."""
import numpy as np

from jaxret.methods.mm_embed import rerank as mixed_rerank
from tests.tiny_mixed import Encoder, benchmark, rank


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
