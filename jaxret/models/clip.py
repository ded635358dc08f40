"""CLIP's two towers (Radford et al. 2021, arXiv 2103.00020).

The vision tower gives the hidden states of the last layer that runs; the norm
and projection on top are a module of their own. A tower with one layer less
and no head gives the features of the last but one layer.
"""
import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxret.models import (
  config_fields,
  encoder,
  encoder_names,
  layouts,
  model_files,
  pretrained,
)
from jaxret.models.videochat import vision as vision_lib

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

# CLIPConfig, and the CLIPVisionConfig and CLIPTextConfig of its sections.
TOP = config_fields.Fields(
    sizes={'projection_dim': 512}, only={},
    harmless=('logit_scale_init_value', 'text_config', 'vision_config',
              'text_config_dict', 'vision_config_dict', 'tie_word_embeddings'))
_TOWER = {'hidden_act': ('quick_gelu', 'gelu'), 'attention_dropout': (0.0,),
          'dropout': (0.0,)}
VISION = config_fields.Fields(
    sizes={'hidden_size': 768, 'intermediate_size': 3072,
           'num_hidden_layers': 12, 'num_attention_heads': 12,
           'layer_norm_eps': 1e-5, 'image_size': 224, 'patch_size': 32},
    only={**_TOWER, 'model_type': ('clip_vision_model', 'clip'),
          'num_channels': (3,)},
    harmless=('projection_dim', 'vocab_size', 'tie_word_embeddings'))
TEXT = config_fields.Fields(
    sizes={'hidden_size': 512, 'intermediate_size': 2048,
           'num_hidden_layers': 12, 'num_attention_heads': 8,
           'layer_norm_eps': 1e-5, 'vocab_size': 49408,
           'max_position_embeddings': 77, 'eos_token_id': 49407},
    only={**_TOWER, 'model_type': ('clip_text_model', 'clip')},
    harmless=('projection_dim', 'type_vocab_size', 'tie_word_embeddings'))
LEGACY_EOS = 2  # of published files, whose tokenizers have another end


@dataclasses.dataclass(frozen=True)
class ClipVisionConfig:
  """The image side: layers, pixels of a side, pixels of a patch's side."""
  encoder: encoder.EncoderConfig
  image_px: int
  patch_px: int

  def __post_init__(self):
    if self.image_px % self.patch_px:
      raise ValueError(f'CLIP: image_px {self.image_px} is no multiple of '
                       f'patch_px {self.patch_px}: change image_px')

  @property
  def grid(self):
    return self.image_px // self.patch_px

  @property
  def n_tokens(self):
    return self.grid ** 2 + 1


@dataclasses.dataclass(frozen=True)
class ClipTextConfig:
  """The text side. eos_id: the token whose first place is the text's.

  None: that of the highest id.
  """
  encoder: encoder.EncoderConfig
  vocab_size: int
  max_tokens: int
  eos_id: int | None = None


@dataclasses.dataclass(frozen=True)
class ClipConfig:
  """Both towers and the width E of the space where they meet."""
  vision: ClipVisionConfig
  text: ClipTextConfig
  embedding_width: int


def pixel_values(images):
  """uint8 [..., H, W, 3] -> float32, normalised by CLIP's statistics."""
  scaled = images.astype(jnp.float32) / 255
  return (scaled - jnp.array(MEAN)) / jnp.array(STD)


class ClipVision(nn.Module):
  """Pixels in, the hidden state of the class token and each patch out."""
  config: ClipVisionConfig

  @nn.compact
  def __call__(self, pixels, pooled=False):
    """float [B, H, W, 3], normalised -> [B, 1 + P, D], the class token first.

    pooled: the class token alone, [B, D].

    Raises:
      ValueError: if the pixels are not `image_px` square.
    """
    c, e = self.config, self.config.encoder
    if pixels.shape[1:] != (c.image_px, c.image_px, 3):
      raise ValueError(
          f'CLIP: got pixels {pixels.shape}, want [images, {c.image_px}, '
          f'{c.image_px}, 3]: resize the images or set image_px')
    x = vision_lib.patches(pixels[:, None].astype(e.dtype), c.patch_px)
    x = e.dense(e.width, use_bias=False, name='patch')(x)
    init = nn.initializers.normal(e.width ** -0.5)
    first = self.param('class_embedding', init, (e.width,), e.param_dtype)
    table = self.param(
        'positions', init, (c.n_tokens, e.width), e.param_dtype)
    first = jnp.broadcast_to(first.astype(x.dtype), (len(x), 1, e.width))
    x = jnp.concatenate([first, x], 1) + table.astype(x.dtype)
    x = e.norm('pre_norm')(x)
    everything = jnp.ones((1, 1, 1), bool)
    if pooled:
      return encoder.stack_at(
          self, e, 'layers', x, everything, jnp.zeros(len(x), int))
    x, _ = encoder.stack(encoder.PreNormLayer, e, 'layers')(x, everything)
    return x


class ClipVisionHead(nn.Module):
  """Norm and projection to E, of the class token or, in LECCR, of all."""
  config: encoder.EncoderConfig
  embedding_width: int

  @nn.compact
  def __call__(self, x):
    c = self.config
    x = c.norm('norm')(x)
    return c.dense(self.embedding_width, use_bias=False, name='projection')(x)


def resize_positions(table, grid):
  """The position table [1 + P, D] for a grid of another size, float32.

  PyTorch's bicubic interpolation of the patches' rows; the class token's row
  stays. `jax.image.resize` has another kernel and would differ.
  """
  table = np.asarray(table, np.float64)
  old = round((len(table) - 1) ** 0.5)
  if old != grid:
    resize = vision_lib.bicubic_matrix(old, grid)
    patches = np.einsum('yi,xj,ijD->yxD', resize, resize,
                        table[1:].reshape(old, old, -1))
    table = np.concatenate([table[:1], patches.reshape(grid * grid, -1)])
  return table.astype(np.float32)


def open_clip(name, image_px=None, **numerics):
  """Opens a CLIP model in transformers' or OpenAI's format.

  Args:
    name: a directory, a hub model, or a safetensors file in OpenAI's format.
    image_px: to run at; None = as the model was trained.
    numerics: fields of EncoderConfig, for both towers.

  Returns:
    (Checkpoint, table of names, ClipConfig).

  Raises:
    ValueError: if a size is missing, or the model is of another kind.
  """
  checkpoint = pretrained.open_checkpoint(name)
  table = encoder_names.CLIP
  if 'visual.conv1.weight' in map(layouts.bare, checkpoint.tensors):
    table = encoder_names.OPENAI_CLIP
  checkpoint = layouts.fitted(checkpoint, table)
  if table is encoder_names.OPENAI_CLIP:
    config = _openai_sizes(checkpoint.tensors, numerics)
  else:
    config = read_config(name, numerics)
  if image_px:
    config = dataclasses.replace(
        config, vision=dataclasses.replace(config.vision, image_px=image_px))
  return checkpoint, table, config


def read_config(name, numerics):
  """The ClipConfig of a directory or hub model; numerics: of both towers."""
  path, whole = model_files.read_json(name, ('clip',))
  width = config_fields.read(path, whole, TOP)['projection_dim']
  vision = _section(path, whole, 'vision_config', VISION)
  text = _section(path, whole, 'text_config', TEXT)
  return ClipConfig(
      ClipVisionConfig(encoder_sizes(vision, numerics), vision['image_size'],
                       vision['patch_size']),
      ClipTextConfig(encoder_sizes(text, numerics), text['vocab_size'],
                     text['max_position_embeddings'],
                     None if text['eos_token_id'] == LEGACY_EOS
                     else text['eos_token_id']), width)


def _section(path, whole, name, fields):
  """The fields of a section; of an older file's `_dict`, which overrides it."""
  sections = [(key, config_fields.read(
      path, config_fields.section(path, whole, key), fields, key))
              for key in (name, f'{name}_dict')]
  return next((sizes for key, sizes in reversed(sections)
               if whole.get(key) is not None), sections[0][1])


def encoder_sizes(sizes, numerics):
  """The EncoderConfig of a tower; `sizes` as config_fields.read gives them."""
  return encoder.EncoderConfig(
      sizes['hidden_size'], sizes['intermediate_size'],
      sizes['num_hidden_layers'], sizes['num_attention_heads'],
      sizes['hidden_act'], sizes['layer_norm_eps'], **numerics)


def _openai_sizes(tensors, numerics):
  """OpenAI's files hold no sizes but the tensors' own; heads are 64 wide."""
  def sizes(prefix):
    key = prefix + 'transformer.resblocks.{}.mlp.c_fc.weight'
    mlp_width, width = tensors[key.format(0)].shape
    n_layers = sum(key.format(i) in tensors for i in range(len(tensors)))
    return encoder.EncoderConfig(
        width, mlp_width, n_layers, width // 64, 'quick_gelu', **numerics)
  patch_px = tensors['visual.conv1.weight'].shape[-1]
  grid = round((tensors['visual.positional_embedding'].shape[0] - 1) ** 0.5)
  vocab_size = tensors['token_embedding.weight'].shape[0]
  max_tokens = tensors['positional_embedding'].shape[0]
  return ClipConfig(
      ClipVisionConfig(sizes('visual.'), grid * patch_px, patch_px),
      ClipTextConfig(sizes(''), vocab_size, max_tokens),
      tensors['visual.proj'].shape[1])


def load(checkpoint, table, abstract, shardings=None):
  """`pretrained.load`, with the positions resized to the grid that will run.

  abstract: {'vision': ...} and what else is wanted of a Clip's parameters, or
  of another model's that `table` covers.
  """
  checkpoint = layouts.fitted(checkpoint, table)
  weight = next(w for w in table if w.path == 'vision/positions')
  wanted = abstract['vision']['positions']
  stored = wanted.shape
  if weight.key in checkpoint.tensors:  # or else loading says what is missing
    stored = checkpoint.tensors[weight.key].shape
  as_stored = {**abstract, 'vision': {
      **abstract['vision'],
      'positions': jax.ShapeDtypeStruct(stored, wanted.dtype)}}
  params, missing = pretrained.load(checkpoint, table, as_stored, shardings)
  if stored != wanted.shape:
    old = params['vision']['positions']
    grid = round((wanted.shape[0] - 1) ** 0.5)
    params['vision']['positions'] = jax.make_array_from_callback(
        wanted.shape, old.sharding,
        lambda index: resize_positions(
            checkpoint.tensors[weight.key][:], grid)[index].astype(old.dtype))
  return params, missing
