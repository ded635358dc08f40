"""Qwen3-VL directories: config.json and weights, both checked."""
from typing import NamedTuple

import jax

from jaxret import foreign_files
from jaxret.models import (
  config_fields,
  model_files,
  names,
  pretrained,
  rotary,
)
from jaxret.models import decoder as decoder_lib
from jaxret.models.qwen3_vl import MODEL_TYPES
from jaxret.models.qwen3_vl import model as qwen3_vl
from jaxret.models.qwen3_vl import vision as vision_lib

IDS = {'image_token_id': 151655, 'video_token_id': 151656,
       'vision_start_token_id': 151652, 'vision_end_token_id': 151653}
# Qwen3VLConfig. What is in neither section stands beside them.
TOP = config_fields.Fields(
    sizes={'tie_word_embeddings': False}, only={},
    harmless=('text_config', 'vision_config', *IDS))
TEXT = config_fields.Fields(
    sizes={'vocab_size': 151936, 'hidden_size': 4096,
           'intermediate_size': 22016, 'num_hidden_layers': 32,
           'num_attention_heads': 32, 'num_key_value_heads': 32,
           'head_dim': 128, 'max_position_embeddings': 128000,
           'rms_norm_eps': 1e-6, 'tie_word_embeddings': False},
    only={'model_type': ('qwen3_vl_text',), 'hidden_act': ('silu',),
          'attention_bias': (False,), 'attention_dropout': (0.0,)},
    optional=('num_key_value_heads',), harmless=rotary.CONFIG_FIELDS)
VISION = config_fields.Fields(
    sizes={'depth': 27, 'hidden_size': 1152, 'intermediate_size': 4304,
           'num_heads': 16, 'patch_size': 16, 'out_hidden_size': 3584,
           'num_position_embeddings': 2304,
           'deepstack_visual_indexes': [8, 16, 24]},
    only={'model_type': ('qwen3_vl_vision', 'qwen3_vl'),
          'hidden_act': ('gelu_pytorch_tanh',), 'in_channels': (3,),
          'spatial_merge_size': (2,), 'temporal_patch_size': (2,),
          'rope_parameters': (
              None, {'rope_type': 'axial', 'rope_theta': 10000.0})})
PIXELS = {'image_mean': ([vision_lib.MEAN] * 3,),
          'image_std': ([vision_lib.STD] * 3,), 'patch_size': (16,),
          'merge_size': (2,), 'temporal_patch_size': (2,)}
# Of what chooses a video's frames and sizes: the values that we implement.
SAMPLING = {'do_sample_frames': (True,), 'cap_pixels_per_frame': (False,),
            'num_frames': (), 'max_duration': (), 'min_pixels': (),
            'max_pixels': ()}
MROPE = ('mrope_section', 'mrope_interleaved')
SECTIONS = [24, 20, 20]  # of the class, where the file has no mrope_section


class Found(NamedTuple):
  """What config.json says: our sizes, and the ids of the control tokens.

  special: {'image', 'video', 'vision_start', 'vision_end'} -> id.
  """
  config: qwen3_vl.Qwen3VlConfig
  special: dict[str, int]


def read_config(name, position_mode='mrope', **numerics):
  """Reads config.json of a directory or hub model.

  The rotary positions may be `rope_theta` and `rope_scaling` of the text, as
  published, or `rope_parameters`, as newer versions of transformers write
  them. What a file leaves out is as its class has it, but for rope_theta:
  versions differ in it.

  Args:
    name: the directory or hub name.
    position_mode: 'mrope', what there is of it here; as of Qwen2-VL.
    **numerics: dtype, param_dtype, remat, attention of both parts; lora_scale,
      lora_dropout of the decoder.

  Raises:
    ValueError: if a field asks for what is not implemented, or is not known,
      or for another position_mode.
  """
  if position_mode != qwen3_vl.Qwen3VlConfig.position_mode:
    raise ValueError(f'position_mode is {position_mode!r}, want '
                     f'{qwen3_vl.Qwen3VlConfig.position_mode!r}: Qwen3-VL has '
                     'no other')
  path, whole = model_files.read_json(name, MODEL_TYPES)
  config_fields.read(path, whole, TOP)
  text = config_fields.section(path, whole, 'text_config')
  decoder = _decoder(f'{path}: text_config', text, _tied(path, whole, text),
                     numerics)
  model_files.check_pixels(path.parent, PIXELS)
  tower = _tower(path, config_fields.section(path, whole, 'vision_config'), {
      name: value for name, value in numerics.items()
      if not name.startswith('lora')})
  special = {field.removesuffix('_token_id'): whole.get(field) or default
             for field, default in IDS.items()}
  return Found(qwen3_vl.Qwen3VlConfig(decoder, tower), special)


def _tied(path, whole, text):
  """Whether the output head is the embedding: of some files the text says it.
  """
  above, below = (part.get('tie_word_embeddings') for part in (whole, text))
  if None not in (above, below) and above != below:
    raise ValueError(
        f'{path}: got tie_word_embeddings = {above}, and {below} in '
        'text_config, want one of them: correct the file')
  return bool(above or below)


def _decoder(path, part, tied, numerics):
  sizes = config_fields.read(path, part, TEXT)
  rope = rotary.parameters(path, part)
  config_fields.check_value(f'{path}: ', 'mrope_interleaved',
                            rope.get('mrope_interleaved', True), (True,))
  heads = sizes['num_attention_heads']
  return decoder_lib.DecoderConfig(
      vocab_size=sizes['vocab_size'], width=sizes['hidden_size'],
      mlp_width=sizes['intermediate_size'], layers=sizes['num_hidden_layers'],
      heads=heads, kv_heads=sizes['num_key_value_heads'] or heads,
      head_width=sizes['head_dim'], norm_eps=sizes['rms_norm_eps'],
      rope_sections=tuple(rope.get('mrope_section') or SECTIONS),
      rope_interleaved=True, qkv_bias=False, qk_norm=True,
      tie_embeddings=tied,
      **rotary.read(path, part, sizes['head_dim'],
                    sizes['max_position_embeddings'], None, also=MROPE),
      **numerics)


def _tower(path, part, numerics):
  vision = config_fields.read(path, part, VISION, 'vision_config')
  return vision_lib.VisionConfig(
      out_width=vision['out_hidden_size'], width=vision['hidden_size'],
      layers=vision['depth'], heads=vision['num_heads'],
      mlp_width=vision['intermediate_size'], patch_px=vision['patch_size'],
      merge=vision['spatial_merge_size'],
      temporal_patch=vision['temporal_patch_size'],
      positions=vision['num_position_embeddings'],
      deepstack=tuple(vision['deepstack_visual_indexes']), **numerics)


def read_processor(name):
  """How media are made for the model, ((field, value), ...) of a Processor.

  As the files of its image and video processor say it, either apart or as
  sections of processor_config.json. Raises ValueError, naming the file, for a
  value that cannot be or that is not implemented.
  """
  directory, found = pretrained.find_model(name), {}
  for kind, file in (('image', 'preprocessor_config.json'),
                     ('video', 'video_preprocessor_config.json')):
    for path, section in ((directory / file, None), (
        directory / 'processor_config.json', f'{kind}_processor')):
      if path.is_file():
        part = foreign_files.read_object(path)
        part = config_fields.section(path, part, section) if section else part
        for field, values in SAMPLING.items():
          config_fields.check_value(
              f'{path}: ', field, part.get(field), (None, *values))
        limits = _limits(path, part)
        found |= {kind: limits} if limits else {}
        if kind == 'video':
          found |= {field: _positive(path, field, part[field])
                    for field in ('fps', 'min_frames', 'max_frames')
                    if part.get(field) is not None}
  return tuple(found.items())


def _limits(path, part):
  """(least, most) pixels of the `size` of a processor's file, () for none."""
  size = config_fields.section(path, part, 'size')
  if not size:
    return ()
  return tuple(_positive(path, f'size: {edge}', size.get(edge))
               for edge in ('shortest_edge', 'longest_edge'))


def _positive(path, field, value):
  if isinstance(value, bool) or not isinstance(
      value, (int, float)) or not 0 < value < float('inf'):
    raise ValueError(f'{path}: got {field} = {value!r}, want a positive '
                     'number: correct the file')
  return value


def load(name, config, mesh, head=True, generates=False):
  """The weights of a directory or hub model, on the mesh: {'params': ...}.

  Any layout of `layouts` is known, in one file or several. head: whether an
  output head of its own is among them. generates: whether it is used. Raises
  ValueError for tensors that are left over, missing, of another shape, or not
  finite.
  """
  abstract = jax.eval_shape(
      lambda key: qwen3_vl.init(config, key, head), jax.random.key(0))
  return model_files.load(name, names.QWEN3_VL, abstract, mesh,
                          config.decoder.tie_embeddings, generates)
