"""Frames, sizes and patches of CLIP and SigLIP 2."""
import numpy as np
import PIL.Image
import pytest

from jaxret.data.dual_encoder import pixels
from tests import tiny_dual_encoder as tiny
from tests import tiny_unite


@pytest.mark.parametrize('n_frames, want', [
    (1, [0]), (3, [0, 1, 2]), (5, [0, 1, 2, 3, 4]), (9, [0, 2, 4, 6, 8]),
    (100, [0, 25, 50, 74, 99])])
def test_frames_are_spread_evenly(n_frames, want):
  policy = pixels.Policy(tiny.processor(), pixels.Resolution(max_frames=5))
  assert policy.choose_frames(n_frames, 25.0).tolist() == want


@pytest.mark.parametrize('max_frames', [0, 1.5, True])
def test_a_number_of_frames_that_is_none(max_frames):
  with pytest.raises(ValueError, match=f'max_frames = {max_frames}, want'):
    pixels.Resolution(max_frames)


@pytest.mark.parametrize('size, want', [
    ((20, 30), (8, 12)), ((30, 20), (12, 8)), ((7, 9), (8, 10)),
    ((8, 8), (8, 8)), ((1, 200), (8, 1600))])
def test_the_shorter_side_is_resized(size, want):
  assert pixels.resized(*size, tiny.processor(size=8)) == want
  assert pixels.resized(*size, tiny.processor(size=(4, 6))) == (4, 6)


def test_an_oblong_image_is_refused():
  for size in ((1, 201), (402, 2)):
    with pytest.raises(ValueError, match='one side over 200 times the other'):
      pixels.resized(*size, tiny.processor(size=8))


def test_the_middle_is_cropped_by_hand():
  image = tiny_unite.pixels(0, 8, 13)
  for size, crop, want in ((8, (8, 8), image[:, 2:10]),
                           (8, (3, 3), image[2:5, 5:8]), (8, None, image)):
    got = pixels.resize(image, tiny.processor(size=size, crop=crop))
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize('resample', [2, 3])
def test_pil_resizes(resample):
  image = tiny_unite.pixels(0, 9, 13)
  got = pixels.resize(image, tiny.processor(size=(8, 8), resample=resample))
  np.testing.assert_array_equal(got, np.asarray(PIL.Image.fromarray(
      image).resize((8, 8), resample)))


def test_patches_are_limited_and_as_many_as_can_be():
  for height, width in ((10, 10), (100, 30), (1, 150), (640, 480), (7, 9)):
    rows, columns = (side // 4 for side in pixels.limited(
        height, width, 4, 9))
    assert 1 <= rows * columns <= 9
    # Each side is rounded up from one scale: no larger one has room.
    scale = max(height / rows, width / columns) / 4
    more = [-(-side // (4 * scale * 0.98)) for side in (height, width)]
    assert more[0] * more[1] >= rows * columns
  assert pixels.limited(100, 100, 4, 9) == (12, 12)
  assert pixels.limited(10, 150, 4, 9) == (4, 36)


def test_patches_by_hand():
  images = tiny_unite.pixels(0, 8, 12, 2)
  patches, grid = pixels.patchify(images, 4)
  assert grid == (2, 3) and patches.shape == (2, 6, 48)
  np.testing.assert_array_equal(
      patches[1, 4], images[1, 4:, 4:8].ravel())
