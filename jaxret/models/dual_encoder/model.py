"""CLIP and SigLIP: a tower for texts, one for images, one space of both.

Source: CLIP (arXiv 2103.00020), SigLIP (2303.15343), SigLIP 2 (2502.14786);
checked on golden data. Of a video every frame is seen as an image: the mean of
their unit vectors, of length 1 again (CLIP4Clip's mean pooling, 2104.08860).
"""
import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxret.models import clip, encoder
from jaxret.models import decoder as decoder_lib
from jaxret.models.videochat import vision as vision_lib


@dataclasses.dataclass(frozen=True)
class Processor:
  """How an image becomes pixels, as the files of a model say it.

  size: (height, width) that it is resized to, its shape not kept; or how long
    its shorter side becomes. None where the patches are limited instead.
  crop: (height, width) of the middle part that is seen; None = all of it.
  resample: of PIL, 2 = bilinear, 3 = bicubic.
  mean, std: of each channel, of values from 0 to 1.
  patch_px, max_patches: of a model that sees images of any shape, how many
    patches it sees at most; None of others.
  """
  size: int | tuple[int, int] | None
  crop: tuple[int, int] | None
  resample: int
  mean: tuple[float, ...]
  std: tuple[float, ...]
  patch_px: int | None = None
  max_patches: int | None = None


@dataclasses.dataclass(frozen=True)
class SiglipVisionConfig:
  """The image side. grid: of the table of positions, patches of a side.

  image_px: None of a model that sees images of any shape (naflex); else
  pixels that make no whole patch, on the right and below, are not seen.
  """
  encoder: encoder.EncoderConfig
  image_px: int | None
  patch_px: int
  grid: int


@dataclasses.dataclass(frozen=True)
class SiglipTextConfig:
  """The text side; max_tokens: of every text, shorter ones are padded."""
  encoder: encoder.EncoderConfig
  vocab_size: int
  max_tokens: int


@dataclasses.dataclass(frozen=True)
class DualEncoderConfig:
  """Both towers and the width of the space where they meet."""
  name: str
  vision: clip.ClipVisionConfig | SiglipVisionConfig
  text: clip.ClipTextConfig | SiglipTextConfig
  width: int
  processor: Processor

  @property
  def is_clip(self):
    return isinstance(self.vision, clip.ClipVisionConfig)

  def module(self):
    return Clip(self) if self.is_clip else Siglip(self)


class ClipText(nn.Module):
  """CLIP's text tower; a token sees those before it."""
  config: clip.ClipTextConfig

  @nn.compact
  def __call__(self, tokens, mask, at=None):
    """int [B, T], bool [B, T] -> [B, T, D] after the last norm.

    at: one token int [B] of each row alone, [B, D].
    """
    c, e = self.config, self.config.encoder
    x = encoder.Embed(e, c.vocab_size, c.max_tokens, name='embed')(
        tokens, jnp.arange(tokens.shape[1]))
    causal = jnp.tril(jnp.ones((tokens.shape[1],) * 2, bool))
    mask = causal & mask[:, None]
    if at is None:
      x, _ = encoder.stack(encoder.PreNormLayer, e, 'layers')(x, mask)
    else:
      x = encoder.stack_at(self, e, 'layers', x, mask, at)
    return e.norm('final_norm')(x)


class SiglipText(nn.Module):
  """SigLIP's: every token sees all, padding too, which it is trained with."""
  config: SiglipTextConfig

  @nn.compact
  def __call__(self, tokens):
    """int [B, max_tokens] -> [B, max_tokens, D] after the last norm."""
    c, e = self.config, self.config.encoder
    x = encoder.Embed(e, c.vocab_size, c.max_tokens, name='embed')(
        tokens, jnp.arange(c.max_tokens))
    x, _ = encoder.stack(encoder.PreNormLayer, e, 'layers')(
        x, jnp.ones((1, 1, 1), bool))
    return e.norm('final_norm')(x)


class SiglipVision(nn.Module):
  """Patches in, the hidden state of each out, after the last norm."""
  config: SiglipVisionConfig

  @nn.compact
  def __call__(self, patches, grids=None):
    """float [B, P, V], normalised -> [B, P, D].

    grids: int [B, 2], rows and columns of an image of any shape, whose patches
    come first; None = P patches are the whole square image.
    """
    c, e = self.config, self.config.encoder
    x = e.dense(e.width, name='patch')(patches.astype(e.dtype))
    table = self.param('positions', nn.initializers.normal(e.width ** -0.5),
                       (c.grid ** 2, e.width), e.param_dtype)
    if grids is None:
      x, mask = x + table.astype(x.dtype), jnp.ones((1, 1, 1), bool)
    else:
      x = x + resized_positions(table, grids, x.shape[1]).astype(x.dtype)
      mask = real_patches(grids, x.shape[1])[:, None]
    x, _ = encoder.stack(encoder.PreNormLayer, e, 'layers')(x, mask)
    return e.norm('final_norm')(x)


def real_patches(grids, n_patches):
  """bool [B, P]: the first rows * columns of int [B, 2]."""
  return decoder_lib.length_mask(grids[:, 0] * grids[:, 1], n_patches)


def resized_positions(table, grids, n_patches):
  """A square table [S * S, D] at the patches of other grids, float32 [B, P, D].

  PyTorch's bilinear interpolation, antialiased, corners not aligned. What lies
  behind the last patch of a grid has some finite value.
  """
  side = round(table.shape[0] ** 0.5)
  sizes = grids[:, None].astype(jnp.float32)  # [B, 1, 2]
  place = jnp.arange(n_patches)[None]
  columns = grids[:, 1:]
  places = jnp.stack([place // columns, place % columns], -1)  # [B, P, 2]
  scale = side / sizes
  center = (places + 0.5) * scale - 0.5
  distance = jnp.abs(jnp.arange(side) - center[..., None])
  weight = jnp.maximum(1 - distance / jnp.maximum(scale, 1)[..., None], 0)
  total = weight.sum(-1, keepdims=True)
  weight = weight / jnp.where(total > 0, total, 1)  # [B, P, 2, S]
  weight = weight[:, :, 0, :, None] * weight[:, :, 1, None]
  return weight.reshape(*weight.shape[:2], -1) @ table.astype(jnp.float32)


class SiglipHead(nn.Module):
  """A learned query attends to all patches; an MLP is added."""
  config: encoder.EncoderConfig

  @nn.compact
  def __call__(self, x, mask=None):
    """[B, P, D], bool [B, P] (None = all) -> [B, D]."""
    c = self.config
    probe = self.param('probe', nn.initializers.normal(c.width ** -0.5),
                       (1, 1, c.width), c.param_dtype)
    probe = jnp.broadcast_to(probe.astype(x.dtype), (len(x), 1, c.width))
    mask = jnp.ones((1, 1, 1), bool) if mask is None else mask[:, None]
    y = encoder.Attention(c, name='attention')(probe, x, mask)
    return (y + encoder.Mlp(c, name='mlp')(c.norm('norm')(y)))[:, 0]


class DualEncoder(nn.Module):
  """Texts or images in, one unit vector per row out.

  A subclass has texts(tokens, length) -> [B, D] and images(pixels, grids) ->
  [B, D].
  """
  config: DualEncoderConfig

  def __call__(self, batch):
    """Unit vectors float32 [B, D] of a batch as data.dual_encoder pads it.

    batch: tokens int [B, T] and length int [B]; or pixels uint8 [B, F, ...],
    n_frames int [B] and, of images of any shape, grids int [B, 2].
    """
    if 'tokens' in batch:
      return unit(self.texts(batch['tokens'], batch['length']))
    pixels, grids = batch['pixels'], batch.get('grids')
    rows, frames = pixels.shape[:2]
    if grids is not None:
      grids = jnp.repeat(grids, frames, 0)
    each = unit(self.images(
        self.normalized(pixels.reshape(-1, *pixels.shape[2:])), grids))
    real = decoder_lib.length_mask(batch['n_frames'], frames)
    each = jnp.where(real[..., None], each.reshape(rows, frames, -1), 0)
    return unit(each.sum(1) / batch['n_frames'][:, None])

  def normalized(self, pixels):
    """uint8 [..., values], channels innermost -> float32."""
    p = self.config.processor
    times = pixels.shape[-1] // len(p.mean)
    scaled = pixels.astype(jnp.float32) / 255
    return (scaled - jnp.tile(jnp.array(p.mean), times)) / jnp.tile(
        jnp.array(p.std), times)


class Clip(DualEncoder):
  """The embedding of a text is at its end, of an image at its class token."""

  def setup(self):
    c = self.config
    self.vision = clip.ClipVision(c.vision)
    self.vision_head = clip.ClipVisionHead(c.vision.encoder, c.width)
    self.clip_text = ClipText(c.text)
    self.clip_text_head = c.text.encoder.dense(c.width, use_bias=False)

  def texts(self, tokens, length):
    mask = decoder_lib.length_mask(length, tokens.shape[1])
    found = tokens == self.config.text.eos_id
    if self.config.text.eos_id is None:
      found = jnp.where(mask, tokens, -1)  # the highest id
    return self.clip_text_head(
        self.clip_text(tokens, mask, jnp.argmax(found, 1)))

  def images(self, pixels, grids=None):
    return self.vision_head(self.vision(pixels, pooled=True))


class Siglip(DualEncoder):
  """The embedding of a text is at the last token, which may be padding."""

  def setup(self):
    c = self.config
    self.vision = SiglipVision(c.vision)
    self.vision_head = SiglipHead(c.vision.encoder)
    self.text_encoder = SiglipText(c.text)
    self.text_head = c.text.encoder.dense(c.width)

  def texts(self, tokens, length):
    return self.text_head(self.text_encoder(tokens)[:, -1])

  def images(self, pixels, grids=None):
    c = self.config.vision
    if grids is None:
      seen = c.grid * c.patch_px
      pixels = vision_lib.patches(pixels[:, None, :seen, :seen], c.patch_px)
      return self.vision_head(self.vision(pixels))
    return self.vision_head(
        self.vision(pixels, grids), real_patches(grids, pixels.shape[1]))


def unit(x):
  """float [..., D] of length 1, float32."""
  x = x.astype(jnp.float32)
  norm = jnp.sqrt(jnp.sum(jnp.square(x), -1, keepdims=True))
  return x / jnp.maximum(norm, 1e-12)


def init(config, key):
  """Random parameters {'params': ...} of both towers."""
  c, one = config, jnp.ones(1, int)
  image = {'pixels': jnp.zeros((1, 1, 1, 3 * c.vision.patch_px ** 2), 'uint8'),
           'grids': jnp.ones((1, 2), int)}
  if c.vision.image_px:
    side = c.vision.image_px
    image = {'pixels': jnp.zeros((1, 1, side, side, 3), 'uint8')}
  text = {'tokens': jnp.zeros((1, c.text.max_tokens), int), 'length': one}
  keys = jax.random.split(key)
  made = [c.module().init(key, batch)['params']
          for key, batch in zip(keys, (text, {**image, 'n_frames': one}))]
  return {'params': made[0] | made[1]}
