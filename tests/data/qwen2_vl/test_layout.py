"""Index work against double loops and hand numbers."""
import numpy as np
import pytest

from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.data.qwen2_vl import seen

SPECIAL = {'image': 7, 'video': 8}


def test_slices_and_tokens():
  grids = [(1, 4, 6), (3, 2, 4)]
  assert visual_tokens.slices(grids) == [24, 8, 8, 8]
  assert [visual_tokens.n_tokens(grid) for grid in grids] == [6, 6]


def test_first_fit():
  assert visual_tokens.fill([4, 8, 4, 8, 4], 12) == (
      [(0, 0), (0, 4), (1, 0), (1, 4), (2, 0)], 3)
  assert visual_tokens.fill([], 12) == ([], 0)
  with pytest.raises(ValueError, match='16 patches does not fit a row of 12'):
    visual_tokens.fill([16], 12)


def test_coordinates_go_block_by_block():
  got = visual_tokens.block_coordinates(4, 6)
  want = [(2 * block_row + row, 2 * block_column + column)
          for block_row in range(2) for block_column in range(3)
          for row in range(2) for column in range(2)]
  np.testing.assert_array_equal(got, want)


def test_patches_of_a_slice_stay_together():
  grids = [(2, 2, 4), (1, 2, 2)]
  rows = visual_tokens.lay_out(grids, 2, 16)
  np.testing.assert_array_equal(
      rows.segments, [[1] * 8 + [2] * 8, [3] * 4 + [0] * 12])
  np.testing.assert_array_equal(rows.patch_index, np.arange(20))
  np.testing.assert_array_equal(
      rows.coordinates[0, :8], visual_tokens.block_coordinates(2, 4))
  rows = visual_tokens.lay_out(grids, 3, 12)
  np.testing.assert_array_equal(
      rows.patch_index,
      [*range(8), *range(12, 20), *range(8, 12)])
  with pytest.raises(ValueError, match='take 2 rows of 16 patches, there are'):
    visual_tokens.lay_out(grids, 1, 16)


def test_each_placeholder_gets_its_token():
  """An image and a video, in that order though the text has them reversed."""
  kinds, grids = ('image', 'video'), [(1, 2, 4), (2, 2, 2)]
  rows = visual_tokens.lay_out(grids, 3, 8)
  tokens = np.array([1, 8, 8, 2, 7, 7, 3])
  index = visual_tokens.visual_index(
      tokens, kinds, grids, rows.patch_index, SPECIAL, 'x')
  np.testing.assert_array_equal(index, [-1, 2, 3, -1, 0, 1, -1])
  with pytest.raises(ValueError, match='x: 3 placeholder tokens for 2 visual'):
    visual_tokens.visual_index(
        np.append(tokens, 7), kinds, grids, rows.patch_index, SPECIAL, 'x')
  with pytest.raises(ValueError, match='x: 0 placeholder tokens for 2 .*image'):
    visual_tokens.visual_index(
        tokens[:4], kinds, grids, rows.patch_index, SPECIAL, 'x')


def test_positions_go_on_after_the_largest():
  """A video of 3 slices of 2 x 1 tokens, then text; by hand."""
  tokens = np.array([1, 1] + [8] * 6 + [1])
  got = visual_tokens.mrope_positions(tokens, ('video',), [(3, 4, 2)], SPECIAL)
  np.testing.assert_array_equal(got, [
      [0, 1, 2, 2, 3, 3, 4, 4, 5],
      [0, 1, 2, 3, 2, 3, 2, 3, 5],
      [0, 1, 2, 2, 2, 2, 2, 2, 5]])
  text = visual_tokens.mrope_positions(np.ones(4, int), (), [], SPECIAL)
  np.testing.assert_array_equal(text, np.tile(np.arange(4), (3, 1)))


@pytest.mark.parametrize('h, w, window', [
    (4, 6, 2), (10, 6, 2), (4, 4, 4), (6, 14, 3), (2, 2, 8)])
def test_patches_of_a_window_follow_each_other(h, w, window):
  rows = visual_tokens.lay_out([(1, h, w)], 1, h * w, window=window)
  windows = [tuple(place // (2 * window)) for place in rows.coordinates[0]]
  starts = [one for i, one in enumerate(windows)
            if i == 0 or one != windows[i - 1]]
  assert starts == sorted(set(windows))  # row by row, each of them once
  # Every patch is where the index says, and tokens stay whole.
  np.testing.assert_array_equal(
      rows.coordinates[0, rows.patch_index],
      visual_tokens.block_coordinates(h, w))
  np.testing.assert_array_equal(
      rows.patch_index.reshape(-1, 4) - rows.patch_index[::4, None],
      np.tile(np.arange(4), (h * w // 4, 1)))
  assert (rows.patch_index[::4] % 4 == 0).all()


def test_windows_lie_within_their_slice():
  rows = visual_tokens.lay_out([(2, 4, 6), (1, 4, 4)], 2, 48, window=2)
  np.testing.assert_array_equal(
      rows.segments, [[1] * 24 + [2] * 24, [3] * 16 + [0] * 32])
  alone = visual_tokens.lay_out([(1, 4, 6)], 1, 24, window=2)
  for part in (slice(0, 24), slice(24, 48)):
    np.testing.assert_array_equal(
        rows.coordinates[0, part], alone.coordinates[0])


def test_positions_in_time():
  """By hand: 0.5 s a slice, 5 positions a second; text goes on behind all."""
  tokens = [1, 8, 8, 8, 2, 7, 3]
  got = visual_tokens.mrope_positions(
      tokens, ('image', 'video'), [(1, 2, 2), (3, 2, 2)], SPECIAL,
      steps=[(1, 1), (0.5, 5)])
  np.testing.assert_array_equal(got, [
      [0, 1, 3, 6, 7, 8, 9], [0, 1, 1, 1, 7, 8, 9], [0, 1, 1, 1, 7, 8, 9]])


def test_steps_of_media():
  sampled = seen.Sampled(np.arange(4), 40, 10.0)  # one frame a second
  assert visual_tokens.QWEN2_VL.steps((None, sampled)) == ()
  layout = visual_tokens.Layout(tokens_per_second=2)
  assert layout.steps((None, sampled)) == ((1, 1), (2.0, 2))
