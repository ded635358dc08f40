"""LLaVA-NeXT directories: config.json and weights, both checked."""
from typing import Any, NamedTuple

import jax

from jaxret.models import clip, config_fields, model_files, rotary
from jaxret.models import decoder as decoder_lib
from jaxret.models.llava import model as llava_next
from jaxret.models.llava import names as mm_embed_names

# LlavaNextConfig.
TOP = config_fields.Fields(
    sizes={'image_token_index': 32000},
    only={'projector_hidden_act': ('gelu',), 'vision_feature_layer': (-2,),
          'vision_feature_select_strategy': ('default',),
          'use_image_newline_parameter': (True,),
          'multimodal_projector_bias': (True,),
          'tie_word_embeddings': (False,)},
    harmless=('text_config', 'vision_config', 'image_grid_pinpoints',
              'image_token_id', 'image_seq_length', 'ignore_index',
              'vocab_size'))
PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
# MistralConfig, and NV-Embed's BidirectionalMistralConfig.
TEXT = config_fields.Fields(
    sizes={'vocab_size': 32000, 'hidden_size': 4096,
           'intermediate_size': 14336, 'num_hidden_layers': 32,
           'num_attention_heads': 32, 'num_key_value_heads': 8,
           'head_dim': None, 'max_position_embeddings': 131072,
           'rms_norm_eps': 1e-6, 'sliding_window': 4096},
    only={'hidden_act': ('silu',), 'tie_word_embeddings': (False,),
          'attention_dropout': (0.0,)},
    optional=('num_key_value_heads', 'sliding_window'),
    harmless=rotary.CONFIG_FIELDS)
# The tower of LLaVA-NeXT where the file has no vision_config at all; where it
# has one, that leaves out what CLIP's class has by default.
VISION = {'hidden_size': 1024, 'intermediate_size': 4096,
          'num_hidden_layers': 24, 'num_attention_heads': 16,
          'image_size': 336, 'patch_size': 14}


class Found(NamedTuple):
  """What the files of a model say.

  config: our sizes. image_id: the token that stands for an image, or None.
  pinpoints: (height, width) of the canvases that tiles are cut from.
  """
  config: Any
  image_id: int | None
  pinpoints: tuple[tuple[int, int], ...]


def read_config(name, rope_theta=None, **numerics):
  """Reads config.json of a directory or hub model: a Found.

  Args:
    name: the directory or hub name.
    rope_theta: in place of what the file says, or its class by default.
    **numerics: dtype, param_dtype, remat of all parts; lora_scale,
      lora_dropout of the decoder.

  Raises:
    ValueError: if a field asks for what is not implemented, or is not known.
  """
  path, whole = model_files.read_json(name, ('llava_next',))
  image_id = config_fields.read(path, whole, TOP)['image_token_index']
  text = config_fields.section(path, whole, 'text_config')
  if text.get('model_type') != 'mistral':
    raise ValueError(
        f'{path}: got model_type = {text.get("model_type")!r} in text_config, '
        "want 'mistral' (where there is none the class takes 'llama'): use "
        'another model')
  decoder = decoder_config(path, text, rope_theta, numerics, 1e4)
  return Found(
      llava_next.LlavaNextConfig(decoder, vision_config(path, whole, numerics)),
      whole.get('image_token_id') or image_id, pinpoints(path, whole))


def pinpoints(path, whole):
  """(height, width) of the canvases, as the class has them by default."""
  found = whole.get('image_grid_pinpoints')
  found = PINPOINTS if found is None else found
  if not isinstance(found, (list, tuple)) or not all(
      isinstance(size, (list, tuple)) and len(size) == 2
      and all(isinstance(px, int) and px > 0 for px in size) for size in found):
    raise ValueError(f'{path}: got image_grid_pinpoints = {found!r}, want '
                     'pairs of height and width: correct the file')
  return tuple(map(tuple, found))


def decoder_config(path, text, rope_theta, numerics, default=None):
  """The DecoderConfig of a Mistral.

  rope_theta: in place of what the file says. default: that of the class that
  wrote it; None where that is not known, and the file must say it.
  """
  sizes = config_fields.read(path, text, TEXT, 'text_config')
  heads, width = sizes['num_attention_heads'], sizes['hidden_size']
  head_width = sizes['head_dim'] or width // heads
  rope = rotary.read(f'{path}: text_config', text, head_width,
                     sizes['max_position_embeddings'], default, rope_theta)
  window, kind = sizes['sliding_window'], text.get('model_type')
  if window and kind != 'bidir_mistral':  # which has no window in its masks
    if window < rope.get('max_tokens', window + 1):
      rope |= {'max_tokens': window, 'limited_by': f'sliding_window = {window}'}
  return decoder_lib.DecoderConfig(
      vocab_size=sizes['vocab_size'], width=width,
      mlp_width=sizes['intermediate_size'], layers=sizes['num_hidden_layers'],
      heads=heads, kv_heads=sizes['num_key_value_heads'] or heads,
      head_width=head_width, norm_eps=sizes['rms_norm_eps'], qkv_bias=False,
      **rope, **numerics)


def vision_config(path, whole, numerics):
  """The ClipVisionConfig of the layers that run, one less than there are."""
  part = config_fields.section(path, whole, 'vision_config')
  part = VISION if whole.get('vision_config') is None else part
  sizes = config_fields.read(path, part, clip.VISION, 'vision_config')
  shared = {name: value for name, value in numerics.items()
            if not name.startswith('lora')}
  tower = clip.encoder_sizes(
      {**sizes, 'num_hidden_layers': sizes['num_hidden_layers'] - 1}, shared)
  px = sizes['image_size']
  model_files.check_pixels(path.parent, {
      'image_mean': (list(clip.MEAN),), 'image_std': (list(clip.STD),),
      'crop_size': ({'height': px, 'width': px}, px),
      'do_center_crop': (True,), 'do_pad': (True,)})
  return clip.ClipVisionConfig(tower, px, sizes['patch_size'])


def load(name, config, mesh):
  """The weights of a directory or hub model, on the mesh: {'params': ...}.

  Any layout of `layouts` is known, in one file or several. Raises ValueError
  for tensors that are left over, missing, of another shape, or not finite.
  """
  abstract = jax.eval_shape(
      lambda key: llava_next.init(config, key), jax.random.key(0))
  return model_files.load(name, mm_embed_names.LLAVA_NEXT, abstract, mesh,
                          config.decoder.tie_embeddings, generates=True)
