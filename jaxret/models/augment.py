"""Random crops and flips of images that are on the device already.

As torchvision's RandomResizedCrop and RandomHorizontalFlip, by explicit keys:
a step that is done again sees the same crops.
"""
import functools

import jax
import jax.numpy as jnp

MIN_AREA = 0.5  # of the image, the authors' scale
RATIOS = (3 / 4, 4 / 3)  # width to height


def random_crops(key, images, min_area=MIN_AREA):
  """uint8 [B, H, W, 3] -> uint8 [B, H, W, 3], each with a crop of its own.

  A crop of `min_area` to 1 of the image, its ratio log-uniform in RATIOS and
  its corner uniform, is resized bicubically to the whole; half are flipped.
  Where torchvision draws again for a crop that does not fit, its longer side
  is cut to the image's.
  """
  keys = jax.random.split(key, len(images))
  return jax.vmap(functools.partial(_random_crop, min_area))(keys, images)


def _random_crop(min_area, key, image):
  area_key, ratio_key, corner_key, flip_key = jax.random.split(key, 4)
  size = jnp.array(image.shape[:2], jnp.float32)
  area = jax.random.uniform(area_key, (), minval=min_area) * size.prod()
  low, high = jnp.log(jnp.array(RATIOS))
  ratio = jnp.exp(jax.random.uniform(ratio_key, (), minval=low, maxval=high))
  crop = jnp.minimum(
      jnp.sqrt(area * jnp.array([1 / ratio, ratio])), size)
  first = jax.random.uniform(corner_key, (2,)) * (size - crop)
  scale = size / crop
  resized = jax.image.scale_and_translate(
      image.astype(jnp.float32), image.shape, (0, 1), scale, -first * scale,
      'cubic', antialias=False)
  resized = jnp.where(jax.random.bernoulli(flip_key), resized[:, ::-1], resized)
  return jnp.clip(jnp.round(resized), 0, 255).astype(image.dtype)
