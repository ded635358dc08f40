"""Questions in batches: each candidate's answer is its own, whatever is near.

The witness asks one query about one candidate at a time.
"""
import types as python_types

import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.data import types
from jaxret.methods.mm_embed import ask


class Reader:
  """A question is its three lengths; nothing is tokenised."""
  grid = None

  def __call__(self, query, candidate, question):
    return len(query.text), len(candidate.text), len(question)


@pytest.fixture
def reranker(monkeypatch):
  """Its model answers by the numbers of the question, and counts batches."""
  seen = []
  def pad(groups, shape, grid):
    seen.append((len(groups), shape))
    return {'numbers': np.array(groups, np.float32)}
  monkeypatch.setattr(ask, 'rerank_inputs', python_types.SimpleNamespace(
      pad_groups=pad, group_shape=lambda groups: np.shape(groups)))
  monkeypatch.setattr(ask, '_compiled', lambda config: lambda params, batch,
                      words: batch['numbers'] @ words.astype(np.float32))
  mesh = sharding.make_mesh(devices=jax.devices()[:2])
  made = ask.Reranker(None, {}, Reader(), [1, 10, 100], mesh, batch_size=3)
  return made, seen


def texts(*lengths):
  return [types.Item(str(n), text='x' * n) for n in lengths]


def test_answers_stand_where_their_questions_do(reranker):
  model, seen = reranker
  queries, candidates = texts(1, 2, 3, 4, 5), [
      texts(*(np.arange(3) + 2 * q)) for q in range(1, 6)]
  found = model.p_true(queries, candidates, 'why?', show_progress=False)
  assert found.dtype == np.float32 and found.shape == (5, 3)
  for q in range(5):
    for c in range(3):
      assert found[q, c] == (
          len(queries[q].text) + 10 * len(candidates[q][c].text) + 100 * 4)
  # Three do not split over two devices: four a batch, the last filled up.
  assert model.batch_size == 4
  assert seen == [(4, (4, 3, 3)), (4, (4, 3, 3))]
