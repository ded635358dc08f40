"""Describes images and videos with an MLLM, once, into a cache of text.

Each process describes its share on its own devices, batches split over them.
A killed run goes on where it stopped: what is in the cache is not described
again.
"""
import collections
import concurrent.futures
import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import tqdm
from absl import logging
from jax.experimental import multihost_utils

import jaxret
from jaxret import sharding
from jaxret.data import descriptions as descriptions_lib
from jaxret.data import media, text, types
from jaxret.data.qwen2_vl import reader as inputs_lib
from jaxret.data.videochat import prompts as videochat_prompts
from jaxret.methods.leccr import captioner
from jaxret.models import decoder as decoder_lib
from jaxret.models import generation, names, pretrained
from jaxret.models.qwen2_vl import files
from jaxret.models.videochat import files as videochat
from jaxret.models.videochat import model as vlm
from jaxret.models.videochat import vision as vision_lib

READ_AHEAD = 2  # batches whose media are read while the device works


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

  config: the `captioner` section. params: on `mesh`, of a model that was
  trained here; None = read from the files of the pretrained one.
  """
  model = captioner.model_config(config, tokenizer)
  if params is None:
    params = files.load(config.model.pretrained, model, mesh)
  reader = captioner.reader(config, tokenizer)
  return Describer(
      model.module(), params, reader,
      lambda seen: captioner.shape(config) or inputs_lib.shape_of(
          len(seen.tokens), seen.grids),
      lambda seen, shape: inputs_lib.pad(seen, shape, reader.special, True),
      lambda params, arrays: arrays, tokenizer.decode, _ends(tokenizer),
      _settings(config, params, media=str(reader.resolution),
                questions=str(dict(config.questions))))


def videochat_flash(config, tokenizer, mesh):
  """A Describer of VideoChat-Flash, for videos; an image is one frame."""
  name = config.model.pretrained
  sizes = videochat.read_config(name)
  if sizes['vision'] is None:
    raise ValueError(f'{name} has no vision tower (no mm_vision_tower in its '
                     'config.json): it cannot see what it is to describe')
  numerics = {'dtype': config.model.dtype,
              'param_dtype': config.model.param_dtype}
  tower = vision_lib.VisionConfig(**sizes['vision'], **numerics)
  module = vlm.Vlm(decoder_lib.DecoderConfig(**sizes['decoder'], **numerics),
                   sizes['visual_width'])
  params = _load_videochat(name, module, tower, mesh)
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
      _ends(tokenizer), _settings(
          config, params, media=f'{n_frames} frames of {tower.image_px} px',
          questions=str(dict(config.questions))))


FAMILIES = {'qwen2_vl': qwen2_vl, 'videochat_flash': videochat_flash}


def open_describer(config, tokenizer, mesh):
  """The Describer of pretrained weights that a `captioner` section names."""
  family = config.model.family
  if family not in FAMILIES:
    raise ValueError(f'captioner.model.family {family!r} is not known; want '
                     f'one of {", ".join(FAMILIES)}')
  return FAMILIES[family](config, tokenizer, mesh)


def describe(describer, items, cache_dir, batch_size, max_new_tokens, mesh,
             show_progress=True):
  """Describes those of `items` that the cache lacks; returns {id: key}.

  mesh: of this process's devices, where the Describer's parameters are. Raises
  ValueError naming the first item that cannot be read, once what was begun
  before it is in the cache.
  """
  settings = {**describer.settings, 'max_new_tokens': max_new_tokens}
  index, count = jax.process_index(), jax.process_count()
  cache = descriptions_lib.Cache(cache_dir, settings, f'part-{index}')
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    keys = list(pool.map(
        functools.partial(descriptions_lib.key, settings), items))
  mine, n_empty = [i for i in cache.missing(keys) if i % count == index], 0
  with tqdm.tqdm(total=len(mine), desc='describing', unit='item',
                 disable=not show_progress or not mine) as progress:
    for shape, group in _groups(describer, items, mine, batch_size):
      written = _write(describer, shape, [seen for _, seen in group],
                       batch_size, max_new_tokens, mesh)
      cache.add([{'key': keys[i], 'id': items[i].id, **answer}
                 for (i, _), answer in zip(group, written)])
      n_empty += sum(not answer['text'] for answer in written)
      progress.update(len(group))
  if n_empty:
    logging.warning('%d of %d descriptions are empty', n_empty, len(mine))
  if count > 1:
    multihost_utils.sync_global_devices('describe')  # for their parts
  return {item.id: name for item, name in zip(items, keys)}


def _groups(describer, items, mine, batch_size):
  """Yields (shape, [(index, what was read)]), at most a batch of one shape."""
  waiting = collections.defaultdict(list)
  for index, seen in _read(describer, items, mine, batch_size):
    shape = describer.shape(seen)
    waiting[shape].append((index, seen))
    if len(waiting[shape]) == batch_size:
      yield shape, waiting.pop(shape)
  yield from waiting.items()


def _read(describer, items, mine, batch_size):
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    ahead = collections.deque()
    try:
      for index in mine:
        ahead.append((index, pool.submit(describer.read, items[index])))
        if len(ahead) > READ_AHEAD * batch_size:
          index, found = ahead.popleft()
          yield index, found.result()
      for index, found in ahead:
        yield index, found.result()
    finally:
      pool.shutdown(wait=False, cancel_futures=True)


def _write(describer, shape, seen, batch_size, max_new_tokens, mesh):
  """[{'text', 'tokens', 'finish'}] of one batch, its rows filled up."""
  shards = sharding.batch_shards(mesh)
  n_rows = -(-batch_size // shards) * shards
  arrays = describer.pad(seen + seen[-1:] * (n_rows - len(seen)), shape)
  arrays = {name: jax.device_put(array, sharding.batch_sharding(mesh))
            for name, array in arrays.items()}
  with jax.set_mesh(mesh):
    written = sharding.to_host(generation.greedy(
        describer.module, max_new_tokens, describer.ends, describer.params,
        describer.batch(describer.params, arrays)))
  answers = []
  for row in range(len(seen)):
    count, ended = int(written.count[row]), bool(written.ended[row])
    ids = written.tokens[row, :count - ended]
    answers.append({'text': ' '.join(describer.decode(ids).split()),
                    'tokens': count, 'finish': 'stop' if ended else 'length'})
  return answers


def _ends(tokenizer):
  """Ids of the tokens that end an answer; Qwen2's models have two."""
  ids = [tokenizer.encode(token) for token in (text.END, text.PAD)]
  return tuple(id_[0] for id_ in ids if len(id_) == 1)


def _settings(config, params, **more):
  return {'model': config.model.pretrained or 'trained here',
          'weights': sharding.checksum(params),
          'dtype': config.model.dtype, 'decoding': 'greedy',
          'version': jaxret.__version__, **more}


def _load_videochat(name, module, tower, mesh):
  """Decoder, projector and tower, on the mesh; the rest is not read."""
  def init(key):
    tokens = np.full((1, 2), types.VISUAL)
    features = np.zeros((1, 1, 1, module.visual_width), np.float32)
    pixels = np.zeros((1, tower.n_frames, tower.image_px, tower.image_px, 3),
                      np.float32)
    whole = module.init(key, features, tokens)['params']
    return {'params': {
        'decoder': whole['decoder'],
        'projector': {'vtg': whole['projector']['vtg']},
        'vision': vision_lib.VisionTower(tower).init(key, pixels)['params']}}
  abstract = jax.eval_shape(init, jax.random.key(0))
  places = sharding.shardings(mesh, abstract)
  params, _ = pretrained.load(
      pretrained.open_checkpoint(name), names.VIDEOCHAT_FLASH,
      abstract['params'], places['params'])
  return {'params': params}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _encode(tower, tokens_per_clip, params, frames):
  return vision_lib.encode_clips(tower, params, frames, tokens_per_clip)
