"""Random crops of images on the device."""
import jax
import numpy as np

from jaxret.models import augment


def test_random_crops_are_parts_of_the_image():
  """Of a ramp from left to right: a line, up to a flip and the border."""
  ramp = np.broadcast_to(
      np.linspace(0, 248, 32, dtype=np.uint8)[None, :, None], (32, 32, 3))
  images = np.stack([ramp] * 16)
  crop = jax.jit(augment.random_crops)
  crops = np.asarray(crop(jax.random.key(0), images)).astype(int)
  assert crops.shape == images.shape
  inner = crops[:, 8, 4:-4, 0]
  steps = np.diff(inner, axis=1)
  flipped = steps.mean(1) < 0
  assert 0 < flipped.sum() < 16
  slopes = np.abs(steps.mean(1)) / 8
  assert (slopes <= 1.01).all() and slopes.min() > 0.5
  # Some are as wide as the image, and alike.
  assert len({tuple(row) for row in inner}) > 12
  np.testing.assert_array_equal(crops, crop(jax.random.key(0), images))
  assert (crops != np.asarray(crop(jax.random.key(1), images))).any()
