"""Scores of all pairs against a double loop."""
import numpy as np
import pytest

from jaxret.scoring.embeddings import double_similarity


@pytest.fixture
def sides():
  """5 texts, 3 visuals with 2 slots each: unlike numbers."""
  random = np.random.default_rng(0)
  return (random.normal(size=(5, 4)).astype(np.float32),
          random.normal(size=(3, 4)).astype(np.float32),
          random.normal(size=(3, 2, 4)).astype(np.float32))


@pytest.mark.parametrize('block_cells', [1, 7, 1 << 20])
def test_scores_equal_a_loop_over_pairs(sides, block_cells, monkeypatch):
  monkeypatch.setattr(double_similarity, '_BLOCK_CELLS', block_cells)
  texts, visuals, slots = sides
  cosine = double_similarity.cosine(texts, visuals)
  best = double_similarity.best_slot(texts, slots)
  wanted_cosine, wanted_best = np.zeros((5, 3)), np.zeros((5, 3))
  for t, text in enumerate(texts):
    for v in range(3):
      wanted_cosine[t, v] = sum(text * visuals[v])
      wanted_best[t, v] = max(sum(text * slot) for slot in slots[v])
  np.testing.assert_allclose(cosine, wanted_cosine, atol=1e-6)
  np.testing.assert_allclose(best, wanted_best, atol=1e-6)
  scaled = [(m - m.max()) / (m.max() - m.min())
            for m in (wanted_cosine, wanted_best)]
  np.testing.assert_allclose(
      double_similarity.fuse(cosine, best, 0.7),
      0.7 * scaled[0] + 0.3 * scaled[1], atol=1e-5)


def test_normalized_scores_reach_from_minus_one_to_zero(sides):
  texts, visuals, _ = sides
  scores = double_similarity.normalize(texts @ visuals.T)
  assert scores.min() == -1 and scores.max() == 0
  assert not double_similarity.normalize(np.ones((2, 3), np.float32)).any()
