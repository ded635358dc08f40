"""Qwen2-VL and UNITE directories: config.json and weights, both checked."""
import dataclasses
from typing import NamedTuple

import jax

from jaxret.models import decoder as decoder_lib
from jaxret.models import layouts, model_files, names, pretrained
from jaxret.models.qwen2_vl import MODEL_TYPES
from jaxret.models.qwen2_vl import model as qwen2_vl
from jaxret.models.qwen2_vl import vision as vision_lib

# (key of the text part, the value that we implement, what it means)
SUPPORTED = (
    ('hidden_act', 'silu', 'the activation of the decoder'),
    ('use_sliding_window', False, 'sliding-window attention'),
)
VISION_SUPPORTED = (
    ('hidden_act', 'quick_gelu', 'the activation of the tower'),
    ('in_channels', 3, 'the channels of an image'),
)


class Found(NamedTuple):
  """What config.json says: our sizes, and the ids of the control tokens.

  special: {'image', 'video', 'vision_start', 'vision_end'} -> id.
  """
  config: qwen2_vl.Qwen2VlConfig
  special: dict[str, int]


def read_config(name, position_mode='sequential', **numerics):
  """Reads config.json of a directory or hub model.

  Both layouts are read: flat, as published (the text sizes at the top), and
  with a `text_config`, as newer versions of transformers write it.

  Args:
    name: the directory or hub name.
    position_mode: see Qwen2VlConfig; config.json does not say it.
    **numerics: dtype, param_dtype, remat of both parts; lora_scale,
      lora_dropout of the decoder.

  Raises:
    ValueError: if a field is missing, or asks for what is not implemented.
  """
  path, whole = model_files.read_json(name, MODEL_TYPES)
  text = {**whole, **whole.get('text_config', {})}
  vision = whole.get('vision_config', {})
  for part, table in ((text, SUPPORTED), (vision, VISION_SUPPORTED)):
    model_files.check_supported(path, part, table)
  shared = {name: value for name, value in numerics.items()
            if not name.startswith('lora')}
  try:
    tied = whole.get('tie_word_embeddings', text.get('tie_word_embeddings'))
    decoder = _decoder(text, bool(tied), numerics)
    tower = _tower(vision, decoder.width, shared)
    special = {kind: whole.get(f'{kind}_token_id', text.get(f'{kind}_token_id'))
               for kind in ('image', 'video', 'vision_start', 'vision_end')}
  except KeyError as error:
    raise ValueError(f'{path}: no field {error}; want the config.json of a '
                     'Qwen2-VL model') from error
  return Found(qwen2_vl.Qwen2VlConfig(decoder, tower, position_mode), special)


def _decoder(text, tied, numerics):
  heads, width = text['num_attention_heads'], text['hidden_size']
  rope = text.get('rope_parameters') or text.get('rope_scaling') or {}
  return decoder_lib.DecoderConfig(
      vocab_size=text['vocab_size'], width=width,
      mlp_width=text['intermediate_size'], layers=text['num_hidden_layers'],
      heads=heads, kv_heads=text['num_key_value_heads'],
      head_width=text.get('head_dim') or width // heads,
      rope_theta=float(rope.get('rope_theta') or text['rope_theta']),
      rope_sections=tuple(rope['mrope_section']),
      norm_eps=text['rms_norm_eps'], tie_embeddings=tied, **numerics)


def _tower(vision, decoder_width, numerics):
  width = vision['embed_dim']
  return vision_lib.VisionConfig(
      out_width=vision.get('hidden_size', decoder_width), width=width,
      layers=vision['depth'], heads=vision['num_heads'],
      mlp_width=int(width * vision['mlp_ratio']),
      patch_px=vision['patch_size'], merge=vision['spatial_merge_size'],
      temporal_patch=vision['temporal_patch_size'], **numerics)


def without_absent_head(name, config):
  """The Qwen2VlConfig with no head of its own where the files hold none.

  For what is trained to embed: as if the head were the embedding, since
  neither is read as a head.
  """
  try:
    tensors = pretrained.open_checkpoint(name).tensors
  except ValueError:  # sizes alone do for plans; who loads says what is wrong
    return config
  if 'lm_head.weight' in map(layouts.bare, tensors):
    return config
  return dataclasses.replace(config, decoder=dataclasses.replace(
      config.decoder, tie_embeddings=True))


def load(name, config, mesh, head=True, generates=False):
  """The weights of a directory or hub model, on the mesh: {'params': ...}.

  Any layout of `layouts` is known, in one file or several. head: whether an
  output head of its own is among them. generates: whether it is used. Raises
  ValueError for tensors that are left over, missing, of another shape, or not
  finite.
  """
  abstract = jax.eval_shape(
      lambda key: qwen2_vl.init(config, key, head), jax.random.key(0))
  return model_files.load(name, names.QWEN2_VL, abstract, mesh,
                          config.decoder.tie_embeddings, generates)
