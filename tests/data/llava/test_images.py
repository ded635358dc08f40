"""Canvases, tiles and the order of visual tokens, against plain loops."""
import numpy as np
import PIL.Image
import pytest

from jaxret.data import media
from jaxret.data.llava import images as llava_images

PINPOINTS = ((8, 16), (16, 8), (16, 16), (24, 8), (8, 24))
GRID = llava_images.Grid(8, 2, PINPOINTS)
SIZES = ((30, 30), (31, 9), (9, 31), (5, 40), (100, 20), (8, 16), (7, 8),
         (13, 21))


def image(size, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def test_a_single_crop_is_the_squashed_image_and_one_newline():
  grid = llava_images.Grid(8, 2)
  for size in SIZES:
    crops = llava_images.crops(image(size), grid)
    np.testing.assert_array_equal(
        crops, llava_images.squash(image(size), 8)[None])
    assert llava_images.n_crops(size, grid) == 1
    np.testing.assert_array_equal(
        llava_images.token_order(size, grid), [*range(16), -1])


@pytest.mark.parametrize('size', SIZES)
def test_tiles_put_together_are_the_canvas(size):
  """Its margins are black, opposite ones alike but for a pixel."""
  crops = llava_images.crops(image(size), GRID)
  canvas = llava_images.best_canvas(size, PINPOINTS)
  assert len(crops) == llava_images.n_crops(size, GRID)
  rows, columns = (side // 8 for side in canvas)
  page = np.concatenate([
      np.concatenate(list(crops[1 + row * columns:][:columns]), 1)
      for row in range(rows)])
  assert page.shape[:2] == canvas
  seen = page.any(-1)
  shown = [np.flatnonzero(seen.any(axis)) for axis in (1, 0)]
  for places, side in zip(shown, canvas):
    before, after = places[0], side - 1 - places[-1]
    assert after - before in (0, 1)
  # One side is filled; the other keeps the aspect ratio.
  lengths = [places[-1] - places[0] + 1 for places in shown]
  assert any(length == side for length, side in zip(lengths, canvas))
  scale = min(side / own for side, own in zip(canvas, size))
  for length, own, side in zip(lengths, size, canvas):
    assert abs(length - min(own * scale, side)) < 1


@pytest.mark.parametrize('size', SIZES)
def test_tokens_follow_the_rows_of_the_canvas(size):
  """Crop 0, then every row that shows the image, with a newline."""
  order = llava_images.token_order(size, GRID)
  side = GRID.side
  canvas = llava_images.best_canvas(size, PINPOINTS)
  rows, columns = (length // 8 for length in canvas)
  np.testing.assert_array_equal(order[:side ** 2], np.arange(side ** 2))
  found = np.split(order[side ** 2:], np.flatnonzero(
      order[side ** 2:] == llava_images.NEWLINE) + 1)
  assert not len(found.pop())
  first = None
  for number, line in enumerate(found):
    assert line[-1] == llava_images.NEWLINE
    tile, patch = np.divmod(line[:-1] - side ** 2, side ** 2)
    y = tile // columns * side + patch // side
    x = tile % columns * side + patch % side
    first = y[0] if first is None else first
    np.testing.assert_array_equal(y, first + number)
    np.testing.assert_array_equal(np.diff(x), 1)
    # What is left out on either side is alike.
    assert x[0] == columns * side - 1 - x[-1]
  assert first == rows * side - len(found) - first


def test_the_canvas_that_keeps_most_then_wastes_least_wins():
  assert llava_images.best_canvas((8, 16), PINPOINTS) == (8, 16)
  assert llava_images.best_canvas((100, 100), PINPOINTS) == (16, 16)
  assert llava_images.best_canvas((30, 5), PINPOINTS) == (24, 8)


def test_transposed_grids_differ_where_the_canvas_is_not_square():
  for size in SIZES:
    plain, other = (llava_images.token_order(
        size, GRID._replace(transposed=transposed))
        for transposed in (False, True))
    height, width = llava_images.best_canvas(size, PINPOINTS)
    assert (height == width) == np.array_equal(plain, other)


def test_an_image_is_the_same_from_a_file_bytes_and_memory(tmp_path):
  """Turned as its EXIF says, what is transparent on white or as released."""
  exif = PIL.Image.Exif()
  exif[0x0112] = 6
  rgba = np.concatenate([image((9, 14)), np.zeros((9, 14, 1), np.uint8)], 2)
  file = tmp_path / 'x.png'
  PIL.Image.fromarray(rgba).save(file, exif=exif)
  for alpha, want in (('white', np.full((14, 9, 3), 255)),
                      ('released', np.rot90(rgba[..., :3], -1))):
    for source in str(file), file.read_bytes(), PIL.Image.open(file):
      np.testing.assert_array_equal(
          llava_images.read(source, 'x', alpha), want)
      llava_images.check(source, 'x')
  with pytest.raises(media.MediaError, match='^x: its image cannot be read'):
    llava_images.read(PIL.Image.fromarray(rgba[..., 0].astype(float)), 'x')


def test_what_is_no_image_is_refused_by_name():
  with pytest.raises(media.MediaError, match='d1: its image cannot be read'):
    llava_images.read('/nowhere.jpg', 'd1')
  with pytest.raises(ValueError, match=r'd2: its image is float64 \(2, 2, 3\)'):
    llava_images.read(np.zeros((2, 2, 3)), 'd2')
