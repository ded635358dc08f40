"""Describes images and videos with an MLLM, once, into a cache of text.

Each process describes its share on its own devices, batches split over them.
A killed run goes on where it stopped: what is in the cache is not described
again.
"""
import collections
import concurrent.futures
import dataclasses
import functools
import os
import pathlib

import jax
import tqdm
from absl import logging
from ml_collections import ConfigDict

from jaxret import processes, reading, sharding
from jaxret import train as train_lib
from jaxret.data import descriptions as descriptions_lib
from jaxret.methods.leccr import captioner, tokenizers, visuals
from jaxret.methods.leccr import describer as describer_lib
from jaxret.models import generation

READ_AHEAD = 2  # batches whose media are read while the device works


def described(config, workdir, mesh, splits, where, file_names):
  """`splits` with a description of each visual, made here if none are given.

  splits: {(language, name): ParallelSplit}; by the same keys where: {visual
  id: 'file, line n'}, for messages, and file_names: {visual id: its file} if
  published descriptions are named by these, or None.
  """
  directory, keys = config.data.descriptions, None
  if not directory:
    directory = pathlib.Path(workdir) / 'descriptions'
    keys = describe_all(config, workdir, mesh, splits, directory)
  def texts(key, split):
    lines = {visual.id: where[key][visual.id] for visual in split.videos}
    return tuple(descriptions_lib.load(
        directory, lines, keys, file_names[key]).values())
  return {key: dataclasses.replace(split, descriptions=texts(key, split))
          for key, split in splits.items()}


def describe_all(config, workdir, mesh, splits, directory):
  """Describes each image or video once; returns {id: key in the cache}."""
  items = {visual.id: visual for split in splits.values()
           for visual in split.videos}
  local = sharding.local_mesh()
  describer = open_describer(config, workdir, mesh, local, splits)
  section = config.captioner
  return describe(
      describer, list(items.values()), directory, section.batch_size,
      section.max_new_tokens, local, processes.first())


def open_describer(config, workdir, mesh, local, splits):
  """A Describer on the mesh `local`, of a captioner trained on `mesh`.

  Nothing is trained if the config names a pretrained one.
  """
  stage = ConfigDict({**config.captioner.to_dict(), 'seed': config.seed})
  if stage.model.pretrained:
    return describer_lib.pretrained(stage, local)
  split = splits[config.data.languages[0], 'train']
  directory = pathlib.Path(workdir) / 'captioner'
  tokenizer = tokenizers.captioner(
      stage, directory, [caption.text for caption in split.texts])
  method = captioner.method(stage, tokenizer)
  examples = method.examples(split, visuals.spare_bytes(config, splits))
  params = sharding.to_host(
      train_lib.fit(method, examples, stage, directory, mesh))
  params = jax.device_put(params, sharding.shardings(local, params))
  return describer_lib.qwen2_vl(stage, tokenizer, local, params)


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
  share, n_empty = [i for i in cache.missing(keys) if i % count == index], 0
  with tqdm.tqdm(total=len(share), desc='describing', unit='item',
                 disable=not show_progress or not share) as progress:
    for shape, group in _groups(describer, items, share, batch_size):
      written = _write(describer, shape, [seen for _, seen in group],
                       batch_size, max_new_tokens, mesh)
      cache.add([{'key': keys[i], 'id': items[i].id, **answer}
                 for (i, _), answer in zip(group, written)])
      n_empty += sum(not answer['text'] for answer in written)
      progress.update(len(group))
  if n_empty:
    logging.warning('%d of %d descriptions are empty', n_empty, len(share))
  processes.wait_for_all()  # whose parts are read next
  return {item.id: name for item, name in zip(items, keys)}


def _groups(describer, items, indices, batch_size):
  """Yields (shape, [(index, what was read)]), at most a batch of one shape."""
  waiting = collections.defaultdict(list)
  for index, seen in _read(describer, items, indices, batch_size):
    shape = describer.shape(seen)
    waiting[shape].append((index, seen))
    if len(waiting[shape]) == batch_size:
      yield shape, waiting.pop(shape)
  yield from waiting.items()


def _read(describer, items, indices, batch_size):
  """Yields (index, what was read) in their order, read ahead by threads."""
  def read(index):
    return describer.read(items[index])
  for index, result in reading.read_ahead(
      read, indices, READ_AHEAD * batch_size):
    yield index, result()


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
