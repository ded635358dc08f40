"""CLIP's and SigLIP's directories: config.json, processor and weights."""
import math

import jax

from jaxret import foreign_files
from jaxret.models import (
  clip,
  config_fields,
  encoder_names,
  model_files,
  pretrained,
)
from jaxret.models.dual_encoder import MODEL_TYPES
from jaxret.models.dual_encoder import model as model_lib

# SiglipConfig, Siglip2Config, and those of their sections.
TOP = config_fields.Fields(
    sizes={}, only={},
    harmless=('text_config', 'vision_config', 'text_config_dict',
              'vision_config_dict', 'tie_word_embeddings'))
_TOWER = {'hidden_size': 768, 'intermediate_size': 3072,
          'num_hidden_layers': 12, 'num_attention_heads': 12,
          'layer_norm_eps': 1e-6}
_HOW = {'hidden_act': ('gelu_pytorch_tanh', 'gelu'),
        'attention_dropout': (0.0,)}
TEXT = config_fields.Fields(
    sizes={**_TOWER, 'vocab_size': 32000, 'max_position_embeddings': 64,
           'projection_size': None},
    only={**_HOW, 'model_type': ('siglip_text_model', 'siglip2_text_model')},
    harmless=('tie_word_embeddings',))
VISION = config_fields.Fields(
    sizes={**_TOWER, 'image_size': 224, 'patch_size': 16},
    only={**_HOW, 'model_type': ('siglip_vision_model',),
          'num_channels': (3,), 'vision_use_head': (True,)},
    harmless=('tie_word_embeddings',))
NAFLEX = config_fields.Fields(
    sizes={**_TOWER, 'num_patches': 256, 'patch_size': 16},
    only={**VISION.only, 'model_type': ('siglip2_vision_model',)},
    harmless=('tie_word_embeddings',))
# The image processors of all three. What is None here has no default: versions
# and models differ in it.
_PIXELS = {'resample': None, 'image_mean': None, 'image_std': None}
_STEPS = {'do_resize': (True,), 'do_rescale': (True,), 'do_normalize': (True,),
          'rescale_factor': (1 / 255,), 'do_convert_rgb': (True, None),
          'do_pad': (False, None)}
_HARMLESS = ('image_processor_type', 'feature_extractor_type',
             'processor_class', 'default_to_square', 'data_format',
             'input_data_format', 'device', 'return_tensors',
             'disable_grouping', 'use_fast')
SQUARE = config_fields.Fields(
    sizes={**_PIXELS, 'size': None, 'crop_size': None, 'do_center_crop': None},
    only=_STEPS, harmless=_HARMLESS)
ANY_SHAPE = config_fields.Fields(
    sizes={**_PIXELS, 'patch_size': 16, 'max_num_patches': 256},
    only={**_STEPS, 'do_center_crop': (False, None)},
    # Its class says them and does not read them.
    harmless=(*_HARMLESS, 'size', 'crop_size'))
RESAMPLE = (2, 3)  # of PIL: bilinear, bicubic


def read_config(name, **numerics):
  """The DualEncoderConfig of a directory or hub model.

  numerics: dtype, param_dtype, remat of both towers. Raises ValueError, naming
  the file, for a field that asks for what is not implemented or is not known.
  """
  path, whole = model_files.read_json(name, MODEL_TYPES)
  if whole['model_type'] == 'clip':
    sizes = clip.read_config(name, numerics)
    vision, text, width = sizes.vision, sizes.text, sizes.embedding_width
  else:
    config_fields.read(path, whole, TOP)
    _check_tokenizer(path.parent)
    text, width = _text(path, whole, numerics)
    vision = _vision(path, whole, numerics)
    if vision.encoder.width != width:
      raise ValueError(
          f'{path}: got images {vision.encoder.width} wide and texts {width} '
          'wide (projection_size), want one width: correct the file')
  return model_lib.DualEncoderConfig(
      whole['model_type'], vision, text, width,
      _processor(path.parent, vision))


def _text(path, whole, numerics):
  section = config_fields.section(path, whole, 'text_config')
  sizes = config_fields.read(path, section, TEXT, 'text_config')
  return model_lib.SiglipTextConfig(
      clip.encoder_sizes(sizes, numerics), sizes['vocab_size'],
      sizes['max_position_embeddings']), (
          sizes['projection_size'] or sizes['hidden_size'])


def _vision(path, whole, numerics):
  section = config_fields.section(path, whole, 'vision_config')
  flexible = whole['model_type'] == 'siglip2'
  sizes = config_fields.read(
      path, section, NAFLEX if flexible else VISION, 'vision_config')
  patch_px = sizes['patch_size']
  grid = (math.isqrt(sizes['num_patches']) if flexible
          else sizes['image_size'] // patch_px)
  if flexible and grid ** 2 != sizes['num_patches']:
    raise ValueError(
        f'{path}: vision_config: got num_patches = {sizes["num_patches"]}, '
        'want a square number: correct the file')
  return model_lib.SiglipVisionConfig(
      clip.encoder_sizes(sizes, numerics),
      None if flexible else sizes['image_size'], patch_px, grid)


def _check_tokenizer(directory):
  """Raises ValueError for SigLIP 1's, whose class cleans texts besides."""
  path = directory / 'tokenizer_config.json'
  if path.is_file():
    found = foreign_files.read_object(path).get('tokenizer_class')
    if found in ('SiglipTokenizer', 'SiglipTokenizerFast'):
      raise ValueError(
          f'{path}: got tokenizer_class {found}, which takes punctuation out '
          'of texts by code that no file says; want that of SigLIP 2: use '
          'google/siglip2-base-patch16-224, say')


def _processor(directory, vision):
  """The Processor that a model's files describe."""
  path, part = _processor_file(directory)
  if vision.image_px is None:
    sizes = config_fields.read(path, part, ANY_SHAPE)
    if sizes['patch_size'] != vision.patch_px:
      raise ValueError(
          f'{path}: got patch_size = {sizes["patch_size"]}, want that of the '
          f'model, {vision.patch_px}: correct the file')
    size, crop = None, None
    more = sizes['patch_size'], sizes['max_num_patches']
  else:
    sizes, more = config_fields.read(path, part, SQUARE), ()
    size = _size(path, 'size', sizes['size'])
    crop = (_size(path, 'crop_size', sizes['crop_size'])
            if sizes['do_center_crop'] else None)
    crop = (crop, crop) if isinstance(crop, int) else crop
    _check_square(path, size, crop, vision.image_px)
  config_fields.check_value(
      f'{path}: ', 'resample', sizes['resample'], RESAMPLE)
  return model_lib.Processor(
      size, crop, sizes['resample'],
      *(_channels(path, name, sizes[name])
        for name in ('image_mean', 'image_std')), *more)


def _processor_file(directory):
  """(path, fields) of the image processor, of transformers 4 or 5."""
  for name, section in (('preprocessor_config.json', None),
                        ('processor_config.json', 'image_processor')):
    path = directory / name
    if path.is_file():
      part = foreign_files.read_object(path)
      if section is None:
        return path, part
      if section in part:
        return path, config_fields.section(path, part, section)
  raise ValueError(
      f'{directory}: no preprocessor_config.json, which says how images are '
      'resized and normalised; want that of the model beside its config.json')


def _size(path, field, value):
  """The pixels of the shorter side, or (height, width); see Processor."""
  if isinstance(value, dict):
    value = {edge: pixels for edge, pixels in value.items()
             if pixels is not None}
  if isinstance(value, dict) and set(value) == {'height', 'width'}:
    found = value['height'], value['width']
  elif isinstance(value, dict) and set(value) == {'shortest_edge'}:
    found = value['shortest_edge'],
  else:
    found = value,  # of old files
  if not all(type(one) is int and one > 0 for one in found):
    raise ValueError(
        f'{path}: got {field} = {value!r}, want height and width, or '
        'shortest_edge, in pixels: correct the file')
  return found[0] if len(found) == 1 else found


def _check_square(path, size, crop, image_px):
  """Raises ValueError if images do not come out as large as the model sees."""
  least = (size, size) if isinstance(size, int) else size
  made = crop or least
  cropped = crop is None or (crop[0] <= least[0] and crop[1] <= least[1])
  if made != (image_px, image_px) or not cropped or (
      crop is None and isinstance(size, int)):
    raise ValueError(
        f'{path}: got size = {size} and crop_size = {crop}, want images of '
        f'{image_px}x{image_px}, which the model sees: correct the file')


def _channels(path, field, value):
  if not isinstance(value, list) or len(value) != 3 or not all(
      type(one) in (int, float) and math.isfinite(one) for one in value) or (
          field == 'image_std' and min(value) <= 0):
    raise ValueError(f'{path}: got {field} = {value!r}, want three numbers, '
                     'one of each channel: correct the file')
  return tuple(map(float, value))


def load(name, config, mesh):
  """The weights of a directory or hub model, on the mesh: {'params': ...}.

  Raises ValueError for tensors that are left over, missing, of another shape,
  or not finite. What makes logits of similarities stays unread.
  """
  table = encoder_names.CLIP
  if not config.is_clip:
    table = (encoder_names.SIGLIP if config.vision.image_px
             else encoder_names.SIGLIP_NAFLEX)
  abstract = jax.eval_shape(
      lambda key: model_lib.init(config, key), jax.random.key(0))
  return model_files.load(
      pretrained.find_model(name), table, abstract, mesh)
