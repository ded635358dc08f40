"""Embeds texts, images, videos and mixtures; compares and searches them.

  model = jaxret.load('friedrichor/Unite-Base-Qwen2-VL-2B')
  queries = model.encode(['a dog in the snow'])
  candidates = model.encode([{'image': 'a.jpg'}, {'video': 'b.mp4'}])
  scores, indices = model.search(queries, candidates, k=2)

The names follow sentence-transformers.
"""
import collections
import concurrent.futures
import functools
import json
import os
import pathlib

import jax
import numpy as np
import tqdm
from absl import logging

from jaxret import checkpoint, methods, run, sharding
from jaxret.data import text, types
from jaxret.data.qwen2_vl import pixels as qwen2_vl
from jaxret.data.qwen2_vl import reader as inputs_lib
from jaxret.methods.mm_embed import method as mm_embed
from jaxret.models import adapters, names, pretrained
from jaxret.models.llava import mm_embed as mm_embed_lib
from jaxret.models.llava import mm_embed_files
from jaxret.models.qwen2_vl import files

FIELDS = ('id', *inputs_lib.MODALITIES)
READ_AHEAD = 2  # batches whose items are read while the device works


def load(path, position_mode='sequential', dtype='float32', adapter=None,
         resolution=None, max_tokens=2048, trim_text=False, mesh=None):
  """Opens a model: an Embedder.

  Args:
    path: a directory or hub model as transformers writes it (Qwen2-VL and
      what is trained from it, UNITE among others; nvidia/MM-Embed and
      nvidia/NV-Embed-v1, where position_mode and resolution do not count), or
      the workdir of a training run of ours. A workdir keeps its own settings:
      position_mode, dtype, adapter, resolution and max_tokens are those of its
      config.
    position_mode: 'sequential', as UNITE is trained, or 'mrope'.
    dtype: of weights and computation, 'float32' or 'bfloat16'.
    adapter: a directory with a PEFT adapter, to be merged into the weights.
    resolution: a data.qwen2_vl.pixels.Resolution; default: as UNITE is
      released.
    max_tokens: of an item, visual tokens included; to MM-Embed an image counts
      as one.
    trim_text: True cuts the text of a longer item and says so; False refuses
      it.
    mesh: of devices; default: all of them.

  Raises:
    ValueError: for what is not there, damaged, or of another kind.
  """
  mesh = mesh or sharding.make_mesh()
  if _is_workdir(path):
    return _load_workdir(pathlib.Path(path).expanduser(), trim_text, mesh)
  if _model_type(path) in mm_embed_files.MODEL_TYPES:
    return _load_mm_embed(path, dtype, adapter, max_tokens, trim_text, mesh)
  config, _ = files.read_config(
      path, position_mode, dtype=dtype, param_dtype=dtype)
  tokenizer = text.load_tokenizer(path)
  params = files.load(path, config, mesh)
  if adapter is not None:
    params = adapters.merge(
        params, adapters.import_peft(adapter, names.QWEN2_VL))
  reader = inputs_lib.Reader(
      tokenizer, resolution or qwen2_vl.Resolution(), max_tokens, trim_text,
      mrope=position_mode == 'mrope')
  return Embedder(config, params, reader, mesh)


class Embedder:
  """A model that turns items into unit vectors, all in one space.

  config: the model's sizes, and reader: as a method that embeds gives them,
  see methods.base.Embeds; params: of that method; mesh: where the work is
  done. shape: a bucket that every item is padded to, in full batches, instead
  of the smallest: little models compile longer than they run.
  """

  def __init__(self, config, params, reader, mesh=None, shape=None):
    self.config, self.reader, self.shape = config, reader, shape
    self.mesh = mesh or sharding.make_mesh()
    self.params = jax.device_put(
        params, sharding.shardings(self.mesh, params))
    self.embed = _compiled(config)

  @property
  def width(self):
    """How many numbers an embedding has, D."""
    return self.config.width

  def encode(self, items, prompt=None, batch_size=32, on_error='raise',
             show_progress=True):
    """Embeds items, float32 [N, D], in their order; one item alone as [D].

    Items are grouped by size into buckets; the model is compiled once for
    each bucket and power of two of rows, so that a second call with like
    items compiles nothing.

    Args:
      items: dicts of `text`, `image`, `video`, one or several of them, or
        texts, or data.types.Items. A medium is a path, encoded bytes, uint8
        pixels ([H, W, 3], [frames, H, W, 3]), a PIL image, or a list of
        several. A text may mark where its media stand by <|IMAGE|> and
        <|VIDEO|>; without marks they come first. The order of the keys is
        that in which the prompt names the modalities.
      prompt: an instruction, which UNITE puts in front of every text. To
        MM-Embed a prompt, '' for none, says that the items are queries.
      batch_size: rows of a batch, over all devices.
      on_error: 'raise', or 'skip': an item that cannot be used is reported,
        and its row is NaN. Or a function that is called with the error then.
      show_progress: a bar on standard error.

    Raises:
      ValueError: one line that names the first item that cannot be used.
    """
    failed = _reaction(on_error)
    alone = isinstance(items, (str, dict, types.Item))
    items = [items] if alone else list(items)
    out = np.full((len(items), self.width), np.nan, np.float32)
    waiting, running = collections.defaultdict(list), None
    with tqdm.tqdm(total=len(items), desc='embedding', unit='item',
                   disable=not show_progress) as progress:
      for shape, group in self._groups(items, prompt, batch_size, waiting,
                                       failed):
        previous, running = running, self._start(shape, group, batch_size)
        self._finish(previous, out, failed, progress)
      self._finish(running, out, failed, progress)
    return out[0] if alone else out

  def similarity(self, left, right):
    """Cosine similarity of all pairs, [N, D] and [M, D] -> float32 [N, M]."""
    left, right = (np.atleast_2d(np.asarray(x, np.float32))
                   for x in (left, right))
    norms = [np.linalg.norm(x, axis=1, keepdims=True) for x in (left, right)]
    return (left / norms[0]) @ (right / norms[1]).T

  def search(self, queries, candidates, k=10, exclude=None):
    """The k best candidates of each query: (scores, indices), both [Q, k].

    candidates: [C, D], or an iterable of blocks of them where they are more
    than fit in memory; see scoring.embeddings.similarity.search.
    """
    from jaxret.scoring.embeddings import similarity
    return similarity.search(
        np.atleast_2d(queries), candidates, k, mesh=self.mesh, exclude=exclude)

  def _groups(self, items, prompt, batch_size, waiting, failed):
    """Yields (shape, [(index, Inputs)]), at most batch_size of one bucket."""
    for index, result in self._read(items, prompt, batch_size):
      try:
        inputs = result()
      except ValueError as error:  # media.MediaError is one
        failed(error)
        continue
      shape = self.shape or self.reader.bucket(inputs)
      waiting[shape].append((index, inputs))
      if len(waiting[shape]) == batch_size:
        yield shape, waiting.pop(shape)
    for shape, group in waiting.items():
      shards = sharding.batch_shards(self.mesh)
      for part in [group] if self.shape else _parts(group, shards):
        yield shape, part

  def _read(self, items, prompt, batch_size):
    """Yields (index, function that gives its Inputs or raises), in order."""
    def read(index):
      return self.reader(as_item(items[index], index), prompt)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      ahead = collections.deque()
      try:
        for index in range(len(items)):
          ahead.append((index, pool.submit(read, index).result))
          if len(ahead) > READ_AHEAD * batch_size:
            yield ahead.popleft()
        yield from ahead
      finally:
        pool.shutdown(wait=False, cancel_futures=True)

  def _start(self, shape, group, batch_size):
    """Starts embedding a group, its rows padded by repeating the last."""
    shards = sharding.batch_shards(self.mesh)
    n_rows = batch_size if self.shape else 2 ** (len(group) - 1).bit_length()
    n_rows = -(-n_rows // shards) * shards
    inputs = [inputs for _, inputs in group]
    batch = self.reader.pad(
        inputs + inputs[-1:] * (n_rows - len(inputs)), shape)
    with jax.set_mesh(self.mesh):
      return group, self.embed(
          self.params, sharding.global_batch(self.mesh, batch))

  def _finish(self, running, out, failed, progress):
    """Waits for what `_start` gave and writes its rows to their places."""
    if running is None:
      return
    group, vectors = running
    for (index, inputs), vector in zip(group, sharding.to_host(vectors)):
      if np.isfinite(vector).all():
        out[index] = vector
      else:
        failed(ValueError(f'{inputs.id}: its embedding is not finite; the '
                          'weights are damaged, or overflow in this dtype'))
    progress.update(len(group))


def _parts(group, shards):
  """Cuts a group so that at most a quarter of the rows are padding.

  Rows are padded to a power of two, over so many shards at least.
  """
  while group:
    size = 2 ** (len(group) - 1).bit_length()
    if size > shards and 4 * len(group) < 3 * size:
      size //= 2
    yield group[:size]
    group = group[size:]


@functools.lru_cache
def _compiled(config):
  """The jitted forward pass; models of one config share what it compiles."""
  return jax.jit(config.module().apply)


def _reaction(on_error):
  """What is done with the error of an item."""
  if callable(on_error):
    return on_error
  if on_error not in ('raise', 'skip'):
    raise ValueError(f"on_error is {on_error!r}; want 'raise' or 'skip'")
  def failed(error):
    if on_error == 'raise':
      raise error
    logging.warning('skipped: %s', error)
  return failed


def as_item(given, index):
  """The Item of one entry of what `encode` is given; errors name it."""
  if isinstance(given, types.Item):
    return given
  if isinstance(given, str):
    given = {'text': given}
  if not isinstance(given, dict):
    raise ValueError(f'item {index}: got {type(given).__name__}; want a text '
                     'or a dict with text, image or video')
  name = str(given.get('id', f'item {index}'))
  unknown = sorted(set(given) - set(FIELDS), key=str)
  if unknown:
    raise ValueError(f'{name}: unknown key {unknown[0]!r}; want '
                     f'{", ".join(FIELDS)}')
  fields = {key: tuple(value) if isinstance(value, list) else value
            for key, value in given.items() if key != 'id'}
  return types.Item(name, order=tuple(fields), **fields)


def _is_workdir(path):
  file = pathlib.Path(path).expanduser() / 'config.json'
  return file.is_file() and 'method' in json.loads(file.read_text())


def _load_workdir(workdir, trim_text, mesh):
  config = checkpoint.read_config(workdir)
  embeds = methods.embeds(config.method)
  if embeds is None:
    raise ValueError(f'{workdir} was made by the method {config.method!r}, '
                     "which gives no embeddings; want one made by 'unite', say")
  name = config.model.tokenizer or config.model.pretrained
  own = pathlib.Path(config.init_from or workdir) / 'tokenizer'
  if not own.is_dir():  # the stages of a run share the run's
    own = workdir.parent / 'tokenizer'
  tokenizer = text.load_tokenizer(name or own)
  reader = embeds.reader(config, tokenizer)
  reader.trim_text = trim_text
  return Embedder(embeds.model(config, tokenizer),
                  run.trained(config, tokenizer, workdir, mesh), reader, mesh)


def _model_type(path):
  file = pretrained.find_model(path) / 'config.json'
  return json.loads(file.read_text()).get('model_type') if (
      file.is_file()) else None


def _load_mm_embed(path, dtype, adapter, max_tokens, trim_text, mesh):
  found = mm_embed_files.read_config(path, dtype=dtype, param_dtype=dtype)
  params = mm_embed_files.load(path, found.config, mesh)
  if adapter is not None:
    params = adapters.merge(params, adapters.import_peft(
        adapter, mm_embed_files.weight_names(found.config)))
  return Embedder(*mm_embed_lib.fold(found.config, params), mm_embed.its_reader(
      found.config, text.load_tokenizer(path), max_tokens, trim_text=trim_text),
                  mesh)
