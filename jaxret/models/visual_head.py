"""BLiM's visual head on a backbone that continues prompts.

The head predicts a video's frames from its text: a query for each clip, which
is a part of the video, against what the backbone's own tower gives of it.
Source: BLiM (arXiv 2507.23284), whose head is that of one backbone.

The functions of a `module` are methods of Linen for `apply`, for a
qwen2_vl.model.Qwen2Vl or what is made of one, with positions of three axes.
"""
import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxret.models import decoder as decoder_lib
from jaxret.models import layers, masks
from jaxret.models.qwen2_vl import model as qwen2_vl


def _head(width):
  # float32 as in the authors' code: it is trained whole, not by LoRA.
  return layers.Dense(width, kernel_init=nn.initializers.normal(0.02))


def init(key, width):
  """Random parameters of a head, which reads and predicts `width` numbers."""
  return _head(width).init(key, jnp.zeros((1, width)))['params']


def queries(params, hidden):
  """hidden [..., D] -> float32 [..., D], to be matched with the clips."""
  return _head(hidden.shape[-1]).apply(
      {'params': params['params']['visual_head']}, hidden.astype(jnp.float32))


def clip_features(module, batch, weights):
  """What a clip is to the head: float32 [B, K, 1, D].

  The mean over the visual tokens of a clip as they enter the decoder. They are
  projected first and averaged then, as BLiM does for its inputs (spec §1). Of
  DeepStack's levels none is in: they belong to single tokens of an image.

  batch: patches, segments, coordinates as for the backbone. weights: float32
  [B, K, M], the share of each of M visual tokens in each of K clips.
  """
  visual = module.visual_tokens(
      batch['patches'], batch['segments'], batch['coordinates'])
  visual = visual[..., :module.config.width].astype(jnp.float32)
  return jnp.einsum('BKM,BMD->BKD', weights, visual,
                    precision=jax.lax.Precision.HIGHEST)[:, :, None]


def text_prefix(module, tokens, positions, lengths):
  """Last hidden state [P, D] and Cache of right-padded texts int [P, S].

  positions: int [P, S]; lengths: int [P].
  """
  x = module.decoder.embed_tokens(tokens)
  keys = decoder_lib.length_mask(lengths, x.shape[1])
  hidden, cache = module.decoder.prefix(
      x, module.places(positions),
      masks.causal(keys), keys)
  return qwen2_vl.last(hidden, keys), cache


def label_rows(module, batch, keys, count):
  """Hidden states [B, L, D] that predict the labels behind prompts.

  batch: as the backbone's reader pads prompts with all their labels but the
  last, and start int [B], the last token of each prompt. keys: bool [B, T] or
  None, further hides keys. count: L, of labels; rows past the end are any.
  """
  x, visual = module.read(batch)
  mask = decoder_lib.length_mask(batch['length'], x.shape[1])
  hidden = module.hidden(
      x, mask if keys is None else mask & keys, batch['positions'], visual)
  rows = jnp.minimum(batch['start'][:, None] + jnp.arange(count),
                     x.shape[1] - 1)
  return jnp.take_along_axis(hidden, rows[..., None], 1)


def clip_rows(module, tokens, lengths, clips):
  """Hidden states [B, K, D] that predict the clips behind texts.

  A clip is one token and stands as text does, at the next position on all
  axes. tokens: int [B, S], right-padded; lengths: int [B]; clips: [B, K, D],
  all but the last are inputs: nothing is predicted after it.
  """
  count = clips.shape[1]
  tokens = jnp.pad(tokens, ((0, 0), (0, count - 1)))
  place = jnp.arange(tokens.shape[1])
  number = place - lengths[:, None]
  is_clip = (number >= 0) & (number < count - 1)
  x = module.embed(tokens, clips, jnp.where(is_clip, number, -1))
  hidden = module.hidden(
      x, decoder_lib.length_mask(lengths + count - 1, x.shape[1]),
      jnp.broadcast_to(place, (len(tokens), 3, len(place))))
  rows = lengths[:, None] - 1 + jnp.arange(count)
  return jnp.take_along_axis(hidden, rows[..., None], 1)
