"""The golden files of LECCR in the form that our code takes.

Every size comes from the configs and arrays in the folder; only the number of
attention heads of OpenAI's format (64 wide) and of the slots is the authors'.
"""
import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from jaxret.models import (
  bert,
  clip,
  encoder,
  encoder_names,
  leccr,
  names,
  pretrained,
)

ATOL = 1e-5
GRADIENT_ATOL = 1e-4
_NORM = (names.Weight('scale', 'weight'), names.Weight('bias', 'bias'))
_LINEAR = (names.Weight('kernel', 'weight', 'transpose'),
           names.Weight('bias', 'bias'))


def unread(table):
  """The same weights, for parts of the authors' model that are never used."""
  return tuple(w._replace(path=f'unread/{w.path}', optional=True)
               for w in table)


SLOT_LAYER = (
    *encoder_names.fused_attention('attention/', 'multihead_attn.'),
    *names.within(_LINEAR, 'mlp/in/', 'linear1.'),
    *names.within(_LINEAR, 'mlp/out/', 'linear2.'),
    *names.within(_NORM, 'mlp_norm/', 'norm2.'),
    *unread(names.within(_NORM, 'attention_norm/', 'norm1.')),
)


def stack(ours, theirs):
  layers = names.within(SLOT_LAYER, '', f'{theirs}layers.{{layer}}.')
  return tuple(
      w._replace(path=f'unread/{ours}{w.path}') if w.optional
      else w._replace(path=f'{ours}layers/{w.path}') for w in layers)


# The authors' names of the model's parts around its two encoders.
COMMON = (
    *stack('description_to_slots/', 'crossattn_query.'),
    *stack('slots_to_vision/', 'crossattn.'),
    *stack('vision_to_slots/', 'crossattn2.'),
    *names.within(_LINEAR, 'heads/text/', 'text_proj.'),
    *names.within(_LINEAR, 'heads/vision/', 'vision_proj.'),
    *names.within(_LINEAR, 'heads/description/', 'caption_proj.'),
    *names.within(_LINEAR, 'heads/slot/', 'caption_proj1.'),
    *names.within(_LINEAR, 'heads/matched_slot/', 'cproj.'),
    *names.within(_LINEAR, 'heads/matched_vision/', 'vproj.'),
    names.Weight('temperature', 'temp'),
    *unread(tuple(names.Weight(f'{i}.{kind}', f'itm_head.{i}.{kind}')
                  for i in (0, 1, 3) for kind in ('weight', 'bias'))),
)
HEAD = (*COMMON, names.Weight('queries', 'queries'))
FRAMES = stack('frames/', 'vid_encoder.')


def read(folder, name):
  with np.load(folder / name) as arrays:
    return dict(arrays)


def misc(folder):
  return json.loads((folder / 'misc.json').read_text())


def sub(arrays, prefix):
  """{rest of the name: array} of those under a prefix."""
  return {name.removeprefix(prefix): array for name, array in arrays.items()
          if name.startswith(prefix)}


def plain(tensors):
  """Queries without the axis of the batch, [n, 1, V] -> [n, V]."""
  if 'queries' in tensors:
    tensors = {**tensors, 'queries': tensors['queries'][:, 0]}
  return tensors


def load(tensors, table, abstract=None):
  params, _ = pretrained.load(
      pretrained.Checkpoint('golden', plain(tensors)), table, abstract)
  return {name: tree for name, tree in params.items() if name != 'unread'}


def table_of(branch):
  return HEAD + FRAMES if branch == 'video' else HEAD


def model(folder, branch, **changes):
  """(Leccr, {'params': ...}, its weights of the losses) of a branch.

  The encoders are not there: golden data begins at their outputs.
  """
  sizes = misc(folder)[f'{branch}_config']
  tensors = load_file(folder / f'{branch}_model_params.safetensors')
  text = bert.BertConfig(
      encoder.EncoderConfig(sizes['text_width'], 1, 1, 1), 1, 1)
  vision = None
  if branch == 'image':
    vision = clip.ClipVisionConfig(
        encoder.EncoderConfig(sizes['vision_width'], 1, 1, 1), 1, 1)
  config = leccr.LeccrConfig(**{
      'text': text, 'vision': vision, 'visual_width': sizes['vision_width'],
      'embedding_width': sizes['embed_dim'], 'slots': sizes['num_queries'],
      'reader_layers': sizes['caption_ca_layer'],
      'interaction_layers': sizes['caption_interaction_layer'],
      'frame_layers': sizes.get('vision_layer', 0),
      'temperature': sizes['temp'], **changes})
  return leccr.Leccr(config), {'params': load(tensors, table_of(branch))}, {
      'description_weight': sizes['weight_cv_loss'],
      'regularization_weight': sizes['weight_reg_loss'],
      'slot_weight': sizes['weight_caption_loss'],
      'softened_weight': sizes['weight_dstl_loss']}


def masks(arrays):
  return arrays['caption_attention_mask'].astype(bool)


def batch_first(array):
  return np.swapaxes(array, 0, 1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def apply(module, method, params, *arguments):
  return module.apply(params, *arguments, method=method)


def features(module, params, visual, visual_mask, arrays):
  """leccr.Features of golden inputs; frames go through their encoder."""
  if visual_mask is not None:
    visual = module.apply(params, visual, visual_mask, method='visual_tokens')
  return module.apply(
      params, visual, visual_mask, arrays['text_hidden_src'],
      arrays['text_hidden_tgt'], arrays['caption_hidden'], masks(arrays),
      method='features')


def check(got, want, atol, name=''):
  """Within a tolerance relative to max(1, the largest value wanted)."""
  want = np.asarray(want)
  scale = max(1.0, float(np.abs(want).max()))
  np.testing.assert_allclose(
      np.asarray(got), want, rtol=0, atol=atol * scale, err_msg=name)


class ClipText(nn.Module):
  """CLIP's text tower; a token sees those before it. LECCR has none."""
  config: clip.ClipTextConfig

  @nn.compact
  def __call__(self, tokens, mask):
    """int [B, T], bool [B, T] -> [B, T, D] after the last norm."""
    c, e = self.config, self.config.encoder
    x = encoder.Embed(e, c.vocab_size, c.max_tokens, name='embed')(
        tokens, jnp.arange(tokens.shape[1]))
    causal = jnp.tril(jnp.ones((tokens.shape[1],) * 2, bool))
    x, _ = encoder.stack(encoder.PreNormLayer, e, 'layers')(
        x, causal & mask[:, None])
    return e.norm('final_norm')(x)


class Clip(nn.Module):
  """Both towers of CLIP; embeddings are not normalised."""
  config: clip.ClipConfig

  def setup(self):
    c = self.config
    self.vision = clip.ClipVision(c.vision)
    self.vision_head = clip.ClipVisionHead(c.vision.encoder, c.embedding_width)
    self.clip_text = ClipText(c.text)
    self.clip_text_head = c.text.encoder.dense(
        c.embedding_width, use_bias=False)
    self.logit_scale = self.param(
        'logit_scale', nn.initializers.constant(np.log(1 / 0.07)), ())

  def image_tokens(self, pixels):
    """[B, H, W, 3] -> [B, 1 + P, E]."""
    return self.vision_head(self.vision(pixels))

  def text_tokens(self, tokens, mask):
    """int [B, T], bool [B, T] -> [B, T, E]."""
    return self.clip_text_head(self.clip_text(tokens, mask))

  def __call__(self, pixels, tokens, lengths):
    """(images [B, E], texts [B, E], scale of their cosine similarities).

    A text is read at its end token, the last of `lengths` int [B].
    """
    mask = jnp.arange(tokens.shape[1]) < lengths[:, None]
    texts = jnp.take_along_axis(
        self.text_tokens(tokens, mask), (lengths - 1)[:, None, None], 1)
    return (self.image_tokens(pixels)[:, 0], texts[:, 0],
            jnp.exp(self.logit_scale))
