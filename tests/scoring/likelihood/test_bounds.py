"""Bounds against the sums they bound, in NumPy."""
import numpy as np
import pytest

from jaxret.scoring.likelihood import bounds, cpn
from tests import tiny_search as tiny


@pytest.mark.parametrize('direction', ('text_to_video', 'video_to_text'))
@pytest.mark.parametrize('seed', range(10))
def test_bounds_hold_and_fall_as_more_becomes_known(direction, seed):
  drawn = tiny.draw(seed)
  known, rng = tiny.known(drawn, direction), np.random.default_rng(seed)
  weights = cpn.Weights(*rng.random(2))
  final = tiny.brute_force(drawn, direction, weights)
  order = rng.random((2, *known.shape))
  last = np.inf
  for share in (0.0, 0.3, 0.8, 1.0):
    now = bounds.upper(known.within(*(order < share)), weights)
    assert (now >= final - 1e-5).all()
    assert (now <= last + 1e-5).all()
    last = now
  np.testing.assert_allclose(last, final, atol=1e-6)


def test_a_bound_is_the_first_likelihood_over_all():
  """By hand: 2 queries, 3 candidates of 2, 4 and 4 labels and 5 clips."""
  nan = np.float32(np.nan)
  labels = bounds.Part(np.array([[-1, nan, nan], [nan, -2, -3]], np.float32),
                       np.array([[-1, -2, -4], [-1, -4, -8]], np.float32),
                       np.array([[2, 4, 4]], np.float32))
  clips = bounds.Part(np.array([[-3, nan, -1], [nan, -2, nan]], np.float32),
                      np.full((2, 3), -5, np.float32),
                      np.array([[5]], np.float32))
  known = bounds.Known(labels, clips, np.array([[-1, 0, -2]], np.float32))
  weights = cpn.Weights(alpha=0.5, c=0.25)
  np.testing.assert_allclose(bounds.upper(known, weights), [
      [0.25 * -3 + 0.75 * (-1 + 0.5), 0.25 * -1 + 0.75 * -0.5,
       0.25 * -1 + 0.75 * (-1 + 1)],
      [0.25 * -1 + 0.75 * (-0.5 + 0.5), 0.25 * -2 + 0.75 * -2,
       0.25 * -1 + 0.75 * (-3 + 1)]])
  np.testing.assert_array_equal(
      known.whole(), [[True, False, False], [False, True, False]])
  found = bounds.scores(known, weights)
  assert np.isinf(found).sum() == 4
  np.testing.assert_allclose(
      bounds.thresholds(found, 1), [-0.75 - 0.375, -2.0])
  assert np.isinf(bounds.thresholds(found, 2)).all()
  assert np.isinf(bounds.thresholds(found, 4)).all()  # fewer candidates


def test_a_part_without_weight_need_not_be_known():
  known = tiny.known(tiny.draw(0), 'video_to_text')
  assert known.used(cpn.Weights(c=1.0)).candidate is None
  assert known.used(cpn.Weights(c=0.0)).query is None
  both = known.used(cpn.Weights(c=0.5))
  assert both.candidate is not None and both.query is not None
  zero_shot = known._replace(query=None)
  assert zero_shot.used(cpn.Weights(c=1.0)).candidate is not None


def test_a_value_above_its_bound_is_found():
  known = tiny.known(tiny.draw(3), 'text_to_video')
  assert bounds.violation(known, 1e-4) is None
  most = known.query.most()[4, 2]
  known.query.mean[4, 2] = most + 0.5e-4
  assert bounds.violation(known, 1e-4) is None
  known.query.mean[4, 2] = most + 1e-3
  found = bounds.violation(known, 1e-4)
  assert found[:3] == ('query', 4, 2)
  np.testing.assert_allclose(found[3:], (most + 1e-3, most), atol=1e-6)


def test_the_share_that_is_expected_follows_the_ratio_law():
  """Captions ranked by their own likelihood: k-th best over random pair's."""
  shape = 50, 20
  scores = np.full(shape, -4, np.float32)
  labels = bounds.Part(scores, np.zeros(shape, np.float32),
                       np.full((1, 20), 21, np.float32))
  share = bounds.expected_share(
      bounds.Known(labels, None, None), cpn.Weights(),
      np.full((50, 1), -1.5, np.float32), {'candidate': np.full((1, 20), 20)})
  np.testing.assert_allclose(share, (1.0, 1.5 / 4), atol=1e-6)
  hopeless = bounds.Part(scores, np.full(shape, -42, np.float32), labels.count)
  share = bounds.expected_share(
      bounds.Known(hopeless, None, None), cpn.Weights(),
      np.full((50, 1), -1.5, np.float32), {'candidate': np.full((1, 20), 20)})
  assert share == (0.0, 0.0)


def test_the_share_is_that_of_what_stays_open_after_the_clips():
  shape = 4, 10
  def part(mean, first, count):
    return bounds.Part(np.full(shape, mean, np.float32),
                       np.full(shape, first, np.float32),
                       np.full((1, 1), count, np.float32))
  known = bounds.Known(part(-2, 0, 11), part(-6, -8, 4), None)
  # c = .5: at most -1, after the clips -3, and -4 in the end.
  tokens = {'query': np.full((1, 1), 3), 'candidate': np.full((1, 1), 10)}
  for threshold, expected in ((-0.5, 0), (-2, 3 / 13), (-3.5, 1)):
    share = bounds.expected_share(
        known, cpn.Weights(c=0.5), np.full((4, 1), threshold), tokens)
    np.testing.assert_allclose(share.expected, expected)
    np.testing.assert_allclose(
        share.least, max(0, (-1 - threshold) / 3), atol=1e-6)


def test_blocks_cover_all_queries_once(monkeypatch):
  monkeypatch.setattr(bounds, 'BLOCK_CELLS', 20)
  rows = [list(range(10))[part] for part in bounds.blocks((10, 7))]
  assert rows == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
