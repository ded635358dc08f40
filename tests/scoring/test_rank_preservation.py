"""Rankings by a cheap scorer, made those of a dear one where it matters."""
import itertools

import numpy as np
import pytest

from jaxret.scoring import rank_preservation

RNG = np.random.default_rng(0)
TRUE = RNG.normal(size=(40, 60))


def cheap(noise):
  return (TRUE + RNG.uniform(-noise, noise, TRUE.shape)).astype(np.float32)


def best(scores, k):
  return np.argsort(-scores, 1, kind='stable')[:, :k]


@pytest.mark.parametrize('k', [1, 10, 60, 100])
@pytest.mark.parametrize('noise', [0.0, 0.01, 0.3])
def test_the_best_k_are_those_of_all_pairs(k, noise):
  asked = np.zeros(TRUE.shape, int)
  def score(mask):
    asked[mask] += 1
    return np.where(mask, TRUE, np.nan)
  found = rank_preservation.best_k_again(cheap(noise), k, score, sample=200)
  np.testing.assert_array_equal(best(found.scores, k), best(TRUE, k))
  assert asked.max() == 1  # none is scored twice
  np.testing.assert_array_equal(asked == 1, found.again)
  if k == 1 and noise < 0.1:
    assert found.again.mean() < 0.15  # 200 of 2,400 are the sample


def test_a_pair_that_is_not_close_cannot_be_among_the_best():
  """Whatever the true scores are within the difference, tried at its ends."""
  scores = np.array([[5.0, 4.0, 3.1, 1.9, 0.0]])
  near = rank_preservation.close(scores, 2, 0.5)[0]
  assert near.tolist() == [True, True, True, False, False]
  for ends in itertools.product((-0.5, 0.5), repeat=5):
    assert near[best(scores + np.array(ends), 2)[0]].all()


def test_a_report_of_the_same_and_of_a_reversed_ranking():
  relevant = [[np.argmax(row)] for row in TRUE]
  same = rank_preservation.report(TRUE, TRUE, relevant, 3)
  assert same == {
      'overlap_at_3': 1, 'same_at_1': 1, 'kendall_tau': pytest.approx(1),
      'largest_difference': 0, 'recall_at_1': 100, 'recall_at_3': 100,
      'reference_recall_at_1': 100, 'reference_recall_at_3': 100}
  turned = rank_preservation.report(-TRUE, TRUE, relevant, 3)
  assert turned['overlap_at_3'] == turned['recall_at_3'] == 0
  assert turned['kendall_tau'] == pytest.approx(-1)
  assert turned['reference_recall_at_1'] == 100


def test_what_is_not_known_is_refused():
  with pytest.raises(ValueError, match='factor: got 0.5'):
    rank_preservation.best_k_again(TRUE, 1, lambda mask: TRUE, factor=0.5)
  with pytest.raises(ValueError, match='not finite'):
    rank_preservation.best_k_again(
        np.where(TRUE > 2, np.nan, TRUE), 1, lambda mask: TRUE)
