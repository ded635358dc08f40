"""MM-Embed: LLaVA-NeXT's eyes, NV-Embed-v1's decoder, one unit vector.

Source: MM-Embed (arXiv 2411.02571) and NV-Embed (2405.17428). The decoder sees
in both directions; latent attention, a mean without the instruction's tokens
and the L2 norm make the embedding. NV-Embed-v1 is the same without a tower.
"""
import dataclasses

import jax.numpy as jnp

from jaxret.models import decoder as decoder_lib
from jaxret.models.llava import latent_attention as latent_lib
from jaxret.models.llava import model as llava_next


@dataclasses.dataclass(frozen=True)
class MmEmbedConfig(llava_next.LlavaNextConfig):
  """Sizes of all parts. `latent` None: the mean is of the hidden states."""
  latent: latent_lib.LatentConfig | None = None

  def __post_init__(self):
    if self.latent is not None and self.latent.width != self.decoder.width:
      raise ValueError(
          f'latent attention is {self.latent.width} wide, the decoder '
          f'{self.decoder.width}: make them equal')

  @property
  def name(self):
    return 'nv_embed_v1' if self.vision is None else 'mm_embed'

  @property
  def width(self):
    """How many numbers an embedding has, D."""
    return self.decoder.width

  def module(self):
    return MmEmbed(self)


class MmEmbed(llava_next.LlavaNext):
  """Images and tokens in, one unit vector per row out."""
  config: MmEmbedConfig

  def setup(self):
    super().setup()
    if self.config.latent is not None:
      self.latent_attention = latent_lib.LatentAttention(self.config.latent)

  def hidden(self, x, keys):
    """Hidden states [B, T, D]; every token sees all of its row.

    x [B, T, D] is padded on the right, keys bool [B, T] False there: positions
    count from 0, and visual tokens like others.
    """
    positions = jnp.broadcast_to(jnp.arange(x.shape[1]), keys.shape)
    return self.decoder(x, positions, keys[:, None])

  def token_outputs(self, hidden):
    """What is averaged, [B, T, D]."""
    if self.config.latent is None:
      return hidden
    return self.latent_attention(hidden)

  def __call__(self, batch):
    """Unit vectors float32 [B, D] of a batch as data.llava.reader pads it.

    batch: tokens int [B, T], right-padded, length and pool_start int [B]; with
    images pixels [B, 1, S, S, 3] and visual_index int [B, T].
    """
    x = self.inputs(batch['tokens'], batch.get('pixels'),
                    batch.get('visual_index'))
    keys = decoder_lib.length_mask(batch['length'], x.shape[1])
    pooled = keys & ~decoder_lib.length_mask(batch['pool_start'], x.shape[1])
    return pool(self.token_outputs(self.hidden(x, keys)), pooled)


def pool(x, mask):
  """The mean of [B, T, D] over True in bool [B, T], of length 1; float32."""
  x = jnp.where(mask[..., None], x.astype(jnp.float32), 0)
  mean = jnp.sum(x, 1) / jnp.maximum(jnp.sum(mask, 1), 1)[:, None]
  norm = jnp.sqrt(jnp.sum(jnp.square(mean), -1, keepdims=True))
  return mean / jnp.maximum(norm, 1e-12)


def embed(config, params, batch, key=None):
  """Unit vectors float32 [B, D]; see MmEmbed. Without a key no dropout."""
  rngs = None if key is None else {'dropout': key}
  return config.module().apply(params, batch, rngs=rngs)


def init(config, key):
  """Random parameters {'params': ...}; there is no output head."""
  batch = {**llava_next.init_batch(config), 'pool_start': jnp.zeros(1, int)}
  return config.module().init(key, batch)


def fold(config, params):
  """(config, params) with latent attention folded, for inference.

  Nothing changes for a model that is folded, or has none. LoRA stays as it is.
  """
  latent = config.latent
  if latent is None or latent.folded:
    return config, params
  folded = latent_lib.fold(params['params']['latent_attention'], latent)
  config = dataclasses.replace(
      config, latent=dataclasses.replace(latent, folded=True))
  return config, {**params, 'params': {
      **params['params'], 'latent_attention': folded}}


def flops(config, tokens, images=0):
  """Forward FLOPs of embedding one item of `tokens` tokens."""
  c = config
  # Attention in both directions does twice the work of a causal one, about.
  attention = (4 * c.decoder.layers * c.decoder.heads * c.decoder.head_width
               * tokens ** 2)
  each = decoder_lib.flops_per_token(c.decoder)
  if c.latent is not None:
    each += latent_lib.flops_per_token(c.latent)
  seen = images * llava_next.image_flops(c) if images else 0
  return seen + tokens * each + attention
