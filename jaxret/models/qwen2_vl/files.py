"""Qwen2-VL and UNITE directories: config.json and weights, both checked."""
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxret.models import (
  config_fields,
  layouts,
  model_files,
  pretrained,
  rotary,
)
from jaxret.models import decoder as decoder_lib
from jaxret.models.qwen2_vl import MODEL_TYPES
from jaxret.models.qwen2_vl import model as qwen2_vl
from jaxret.models.qwen2_vl import vision as vision_lib

IDS = {'image_token_id': 151655, 'video_token_id': 151656,
       'vision_start_token_id': 151652, 'vision_end_token_id': 151653}
# Qwen2VLTextConfig; before transformers 4.52 its fields are Qwen2VLConfig's.
TEXT = config_fields.Fields(
    sizes={'vocab_size': 152064, 'hidden_size': 8192,
           'intermediate_size': 29568, 'num_hidden_layers': 80,
           'num_attention_heads': 64, 'num_key_value_heads': 8,
           'head_dim': None, 'max_position_embeddings': 32768,
           'rms_norm_eps': 1e-5, 'tie_word_embeddings': False},
    only={'model_type': ('qwen2_vl_text', 'qwen2_vl'),
          'hidden_act': ('silu',), 'use_sliding_window': (False, None),
          'attention_dropout': (0.0,)},
    optional=('num_key_value_heads',),
    harmless=('sliding_window', 'max_window_layers', *rotary.CONFIG_FIELDS,
              *IDS, 'vision_token_id'))
VISION = config_fields.Fields(
    sizes={'depth': 32, 'embed_dim': 1280, 'hidden_size': 3584,
           'mlp_ratio': 4.0, 'num_heads': 16, 'patch_size': 14},
    only={'spatial_merge_size': (2,), 'temporal_patch_size': (2,),  # as read
          'model_type': ('qwen2_vl', 'qwen2_vl_vision'),
          'hidden_act': ('quick_gelu',), 'in_channels': (3,), 'in_chans': (3,),
          'rope_parameters': (
              None, {'rope_type': 'axial', 'rope_theta': 10000.0})},
    harmless=('spatial_patch_size',))  # of the hub's files; no class has it
PIXELS = {'image_mean': (list(vision_lib.MEAN),),
          'image_std': (list(vision_lib.STD),), 'patch_size': (14,),
          'merge_size': (2,), 'temporal_patch_size': (2,)}
SECTIONS = [16, 24, 24]  # of the class, where the file has no mrope_section


class Family(NamedTuple):
  """A backbone that is laid out as Qwen2-VL is.

  name: in messages. config: a Qwen2VlConfig or a subclass. text, vision: the
  Fields of its sections. tower: (sizes of `vision`, numerics) -> its vision
  config.
  """
  name: str
  config: Any
  model_types: tuple[str, ...]
  text: config_fields.Fields
  vision: config_fields.Fields
  tower: Callable


class Found(NamedTuple):
  """What config.json says: our sizes, and the ids of the control tokens.

  special: {'image', 'video', 'vision_start', 'vision_end'} -> id.
  """
  config: qwen2_vl.Qwen2VlConfig
  special: dict[str, int]


def read_config(name, position_mode='sequential', **numerics):
  """The Found of a directory or hub model; see `read_family`."""
  return read_family(FAMILY, name, position_mode, **numerics)


def read_family(family, name, position_mode='sequential', **numerics):
  """Reads config.json of a directory or hub model.

  Both layouts are read: flat, as published (the text sizes at the top), and
  with a `text_config`, as newer versions of transformers write it. What a file
  leaves out is as its class has it.

  Args:
    family: the Family that it is to be of.
    name: the directory or hub name.
    position_mode: see Qwen2VlConfig; config.json does not say it.
    **numerics: dtype, param_dtype, remat of both parts; lora_scale,
      lora_dropout of the decoder.

  Raises:
    ValueError: if a field asks for what is not implemented, or is not known.
  """
  path, whole = model_files.read_json(name, family.model_types)
  top = family.text._replace(harmless=(
      *family.text.harmless, 'text_config', 'vision_config'))
  config_fields.read(path, whole, top)  # what stands beside a text_config too
  text = config_fields.section(path, whole, 'text_config')
  shared = {name: value for name, value in numerics.items()
            if not name.startswith('lora')}
  flat = whole.get('text_config') is None
  decoder = _decoder(path if flat else f'{path}: text_config',
                     whole if flat else text, top if flat else family.text,
                     _tied(path, whole, text), numerics, family.name)
  model_files.check_pixels(path.parent, PIXELS)
  tower = family.tower(config_fields.read(
      path, config_fields.section(path, whole, 'vision_config'), family.vision,
      'vision_config'), shared)
  special = {field.removesuffix('_token_id'):
             whole.get(field, text.get(field)) or default
             for field, default in IDS.items()}
  return Found(family.config(decoder, tower, position_mode), special)


def _tied(path, whole, text):
  """Whether the output head is the embedding: of old files the text says it.
  """
  above, below = (part.get('tie_word_embeddings') for part in (whole, text))
  if above and below is False:  # versions of transformers differ
    raise ValueError(f'{path}: got tie_word_embeddings = True, and False in '
                     'text_config, want one of them: correct the file')
  return bool(above or below)


def _decoder(path, part, fields, tied, numerics, model):
  sizes = config_fields.read(path, part, fields)
  heads, width = sizes['num_attention_heads'], sizes['hidden_size']
  head_width = width // heads
  if sizes['head_dim'] not in (None, head_width):
    raise ValueError(f'{path}: got head_dim = {sizes["head_dim"]}, want '
                     f'{head_width}, hidden_size by num_attention_heads: '
                     f'{model} has no other; use another model')
  rope = rotary.parameters(path, part)
  return decoder_lib.DecoderConfig(
      vocab_size=sizes['vocab_size'], width=width,
      mlp_width=sizes['intermediate_size'], layers=sizes['num_hidden_layers'],
      heads=heads, kv_heads=sizes['num_key_value_heads'] or heads,
      head_width=head_width,
      rope_sections=tuple(rope.get('mrope_section') or SECTIONS),
      norm_eps=sizes['rms_norm_eps'], tie_embeddings=tied,
      **rotary.read(path, part, head_width, sizes['max_position_embeddings'],
                    1e6, also=('mrope_section',)),
      **numerics)


def _tower(vision, numerics):
  width = vision['embed_dim']
  return vision_lib.VisionConfig(
      out_width=vision['hidden_size'], width=width, layers=vision['depth'],
      heads=vision['num_heads'], mlp_width=int(width * vision['mlp_ratio']),
      patch_px=vision['patch_size'], merge=vision['spatial_merge_size'],
      temporal_patch=vision['temporal_patch_size'], **numerics)


FAMILY = Family('Qwen2-VL', qwen2_vl.Qwen2VlConfig, MODEL_TYPES, TEXT, VISION,
                _tower)


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
  return model_files.load(name, config.weights, abstract, mesh,
                          config.decoder.tie_embeddings, generates)
