"""MLLMs that describe images and videos: Qwen2-VL, 2.5 and VideoChat-Flash.
"""
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxret
from jaxret import models, sharding
from jaxret.data import continuations, media, text
from jaxret.data.qwen2_vl import reader as reader_lib
from jaxret.data.videochat import prompts as videochat_prompts
from jaxret.methods.leccr import captioner
from jaxret.models import decoder as decoder_lib
from jaxret.models.videochat import files as videochat
from jaxret.models.videochat import generator as videochat_generator
from jaxret.models.videochat import model as vlm
from jaxret.models.videochat import vision as vision_lib


class Describer(NamedTuple):
  """An MLLM that is ready to describe.

  module, params: as generation.greedy takes them. read: Item -> what is seen
  of it, or ValueError naming it; thread-safe. shape: (what was read) -> what
  the items of one batch have in common. pad: ([what was read], shape) ->
  arrays, a row each. batch: (params, arrays on devices) -> what
  module.start takes. decode: ids -> text. ends: ids that end an answer.
  settings: flat dict of all that a description depends on.
  """
  module: Any
  params: Any
  read: Callable
  shape: Callable
  pad: Callable
  batch: Callable
  decode: Callable
  ends: tuple[int, ...]
  settings: dict


def qwen2_vl(config, tokenizer, mesh, params=None):
  """A Describer of Qwen2-VL: that of `config.model.pretrained`, or trained.

  Of Qwen2.5-VL too, where that is what was pretrained.

  config: the `captioner` section. params: on `mesh`, of a model that was
  trained here; None = read from the files of the pretrained one.
  """
  model = captioner.model_config(config, tokenizer)
  if params is None:
    params = models.files_of(config.model.pretrained).load(
        config.model.pretrained, model, mesh, generates=True)
  reader = captioner.reader(config, tokenizer)
  return Describer(
      model.module(), params, reader,
      lambda seen: captioner.shape(config) or reader_lib.shape_of(
          len(seen.tokens), seen.grids),
      reader.pad,
      lambda params, arrays: arrays, tokenizer.decode,
      continuations.ends(tokenizer.encode), _settings(
          config, params, media=str(reader.resolution),
          questions=str(dict(config.questions))))


def videochat_flash(config, tokenizer, mesh):
  """A Describer of VideoChat-Flash, for videos; an image is one frame."""
  name = config.model.pretrained
  sizes = videochat.read_config(name)
  if sizes['vision'] is None:
    raise ValueError(f'{name} has no vision tower (no mm_vision_tower in its '
                     'config.json): it cannot see what it is to describe')
  numerics = {'dtype': config.model.dtype,
              'param_dtype': config.model.param_dtype,
              'attention': config.model.get('attention', 'xla')}
  tower = vision_lib.VisionConfig(**sizes['vision'], **numerics)
  module = vlm.Vlm(decoder_lib.DecoderConfig(**sizes['decoder'], **numerics),
                   sizes['visual_width'])
  params = videochat_generator.load(name, module, tower, mesh)
  n_frames = config.media.clips * tower.n_frames
  prompts = {kind: videochat_prompts.visual_prefix(
      tokenizer, config.questions[kind], clips * sizes['tokens_per_clip'])
             for kind, clips in (('image', 1), ('video', config.media.clips))}

  def read(item):
    kind = 'image' if item.image is not None else 'video'
    return kind, media.load_frames(
        item, 1 if kind == 'image' else n_frames, tower.image_px)

  def pad(seen, kind):
    tokens = np.repeat(prompts[kind][None], len(seen), 0)
    return {'frames': np.stack([frames for _, frames in seen]),
            'tokens': tokens,
            'length': np.full(len(seen), tokens.shape[1], np.int32)}

  def batch(params, arrays):
    frames = arrays.pop('frames')
    return {**arrays, 'features': _encode(
        tower, sizes['tokens_per_clip'], params['params']['vision'], frames)}

  return Describer(
      module, params, read, lambda seen: seen[0], pad, batch, tokenizer.decode,
      continuations.ends(tokenizer.encode), _settings(
          config, params, media=f'{n_frames} frames of {tower.image_px} px',
          questions=str(dict(config.questions))))


FAMILIES = {'qwen2_vl': qwen2_vl, 'qwen2_5_vl': qwen2_vl,
            'videochat_flash': videochat_flash}


def pretrained(config, mesh):
  """The Describer of the weights that a `captioner` section names.

  Errors: ValueError for a family that is not known.
  """
  family = config.model.family
  if family not in FAMILIES:
    raise ValueError(f'captioner.model.family {family!r} is not known; want '
                     f'one of {", ".join(FAMILIES)}')
  tokenizer = text.load_tokenizer(config.model.pretrained)
  return FAMILIES[family](config, tokenizer, mesh)


def _settings(config, params, **more):
  return {'model': config.model.pretrained or 'trained here',
          'weights': sharding.checksum(params),
          'dtype': config.model.dtype, 'decoding': 'greedy',
          'reading': media.READING, 'version': jaxret.__version__, **more}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _encode(tower, tokens_per_clip, params, frames):
  return vision_lib.encode_clips(tower, params, frames, tokens_per_clip)
