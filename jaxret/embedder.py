"""Embeds texts, images, videos and mixtures; compares and searches them.

  model = jaxret.load('friedrichor/Unite-Base-Qwen2-VL-2B')
  queries = model.encode(['a dog in the snow'])
  candidates = model.encode([{'image': 'a.jpg'}, {'video': 'b.mp4'}])
  scores, indices = model.search(queries, candidates, k=2)

The names follow sentence-transformers.
"""
import collections
import functools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast, overload

import jax
import numpy as np
import PIL.Image
import tqdm
from jax.sharding import Mesh

from jaxret import (
  batches,
  process_settings,
  quantization,
  reading,
  sentence_names,
  sharding,
)
from jaxret import vectors as vectors_lib
from jaxret.data import images, types
from jaxret.methods import base
from jaxret.models import quantized

if TYPE_CHECKING:
  from jaxret.scoring.embeddings.similarity import Placed
  Blocks: TypeAlias = np.ndarray | Iterable[np.ndarray] | Placed

FIELDS = ('id', 'text', 'image', 'video')

# Pixels and PIL images are images; a video is said to be one, in a dict.
Given: TypeAlias = (
    str | dict[str, Any] | types.Item | np.ndarray | PIL.Image.Image)


class Embedder(sentence_names.SentenceNames):
  """A model that turns items into unit vectors, all in one space.

  An item is a text, a PIL image, a data.types.Item, or a dict of `text`,
  `image`, `video`, one or several of them. A medium is a path, encoded bytes,
  uint8 pixels ([H, W, 3], [frames, H, W, 3]), a PIL image, or a list of
  several; as a video a list of images is its frames, and a list of lists is
  several videos. A text may mark where its media stand by <|IMAGE|> and
  <|VIDEO|>; without marks they come first. The order of the keys is that in
  which the prompt names the modalities.

  config: the model's sizes, and reader: as a method that embeds gives them,
  see methods.base.Embeds; params: of that method; mesh: where the work is
  done. shape: a bucket that every item is padded to, in full batches, instead
  of the smallest: little models compile longer than they run. truncate_dim: how
  many numbers of an embedding are kept, of a model that is trained so
  (Matryoshka, arXiv 2205.13147); None = all.
  """

  def __init__(self, config: base.EmbedderConfig, params: dict[str, Any],
               reader: base.Reader, mesh: Mesh | None = None,
               shape: tuple[int, ...] | None = None,
               truncate_dim: int | None = None):
    process_settings.exact_float32()
    self.truncate_dim = _checked_dim(truncate_dim, config.width)
    self.config, self.reader, self.shape = config, reader, shape
    self.mesh = mesh or sharding.make_mesh()
    self.params = jax.device_put(
        params, sharding.shardings(self.mesh, params))
    self.embed = _compiled(config)
    self.prompts: dict[str, str] = {}

  def __repr__(self) -> str:
    devices = self.mesh.devices.ravel()
    return (f'Embedder({self.config.name}, width {self.width}, '
            f'{_main_dtype(self.params)}, '
            f'{len(devices)} x {devices[0].device_kind})')

  def in_8_bits(self, kind: str = 'int8') -> 'Embedder':
    """This model with its layers in 8 bits: half the memory of bfloat16.

    Embeddings differ a little from those of the model as it is, so queries and
    candidates want the same. kind: 'int8', or 'fp8' (e4m3) for devices that
    multiply it. Raises ValueError for a model without such layers, and where
    qwix is not installed; see models.quantized.
    """
    found = Embedder(self.config, quantized.quantize(self.params, kind),
                     self.reader, self.mesh, self.shape, self.truncate_dim)
    found.prompts = self.prompts
    return found

  @property
  def width(self) -> int:
    """How many numbers an embedding has, D."""
    return self.truncate_dim or self.config.width

  @overload
  def encode(self, items: Given | Sequence[Given], prompt: str | None = None,
             batch_size: int = 32,
             on_error: str | Callable[[ValueError], None] = 'raise',
             show_progress: bool = True,
             truncate_dim: int | None = None, precision: str = 'float32',
             calibration: np.ndarray | None = None, *,
             prompt_name: str | None = None,
             show_progress_bar: bool | None = None,
             convert_to_numpy: bool = True, convert_to_tensor: bool = False,
             normalize_embeddings: bool = True, device: Any = None,
             ids: None = None, **more: Any) -> np.ndarray: ...

  @overload
  def encode(self, items: Sequence[Given], prompt: str | None = None, *,
             ids: Sequence[Any], **more: Any) -> vectors_lib.Vectors: ...

  def encode(self, items: Given | Sequence[Given], prompt: str | None = None,
             batch_size: int = 32,
             on_error: str | Callable[[ValueError], None] = 'raise',
             show_progress: bool = True,
             truncate_dim: int | None = None, precision: str = 'float32',
             calibration: np.ndarray | None = None, *,
             prompt_name: str | None = None,
             show_progress_bar: bool | None = None,
             convert_to_numpy: bool = True, convert_to_tensor: bool = False,
             normalize_embeddings: bool = True, device: Any = None,
             ids: Sequence[Any] | None = None, **more: Any) -> Any:
    """Embeds items, float32 [N, D], in their order; one item alone as [D].

    Items are grouped by size into buckets; the model is compiled once for
    each bucket and power of two of rows, so that a second call with like
    items compiles nothing.

    Args:
      items: see `Embedder`.
      prompt: an instruction, which UNITE puts in front of every text. To
        MM-Embed a prompt, '' for none, says that the items are queries. To
        Qwen3-VL, GME and GVE it is the system's text. Of CLIP, SigLIP and text
        encoders it is the beginning of a text; '' is none, where a model's
        files have one by default.
      batch_size: rows of a batch, over all devices.
      on_error: 'raise', or 'skip': an item that cannot be used is reported,
        and its row is NaN. Or a function that is called with the error then.
      show_progress: a bar on standard error.
      truncate_dim: keeps so many numbers of each embedding, made unit vectors
        again; default: as many as the Embedder does.
      precision: 'float32'; 'int8' or 'uint8', [N, D]; 'binary' (int8) or
        'ubinary', [N, D / 8]: codes as sentence-transformers has them.
      calibration: floats [M, D], whose ranges 'int8' and 'uint8' divide; None
        = of these items; see quantization.quantize.
      prompt_name: this and the next ones, show_progress_bar to device, are
        those of sentence-transformers; see sentence_names.Options.
      ids: of the items, each once: Vectors come back, see vectors.Vectors, of
        those that could be used.
      **more: its other keywords, taken at their defaults.

    Raises:
      ValueError: one line that names the first item that cannot be used.
    """
    asked = sentence_names.Options(
        prompt_name, show_progress_bar, convert_to_numpy, convert_to_tensor,
        normalize_embeddings, device)
    sentence_names.check_defaults(more)
    prompt = asked.prompt(self.prompts, prompt)
    if ids is not None:
      items = vectors_lib.with_ids(items, ids, is_one(items))
    found = self._encode(
        items, prompt, batch_size, on_error, asked.progress(show_progress),
        truncate_dim, precision, calibration)
    return (asked.given(found) if ids is None else
            vectors_lib.usable(ids, found))

  def _encode(self, items, prompt, batch_size, on_error, show_progress,
              truncate_dim, precision, calibration):
    """`encode`, always as a numpy array."""
    failed = reading.reaction(on_error)
    quantization.check(precision, calibration)
    if precision != 'float32' and on_error != 'raise':
      raise ValueError(f"on_error is {on_error!r}, want 'raise': codes of "
                       f'{precision} have no NaN for the rows of bad items')
    alone = is_one(items)
    items = [cast(Given, items)] if alone else list(cast(Sequence, items))
    dim = _checked_dim(truncate_dim, self.config.width) or self.width
    out = np.full((len(items), dim), np.nan, np.float32)
    waiting: dict[tuple[int, ...], list] = collections.defaultdict(list)
    running = None
    with tqdm.tqdm(total=len(items), desc='embedding', unit='item',
                   disable=not show_progress) as progress:
      for group in self._groups(items, prompt, batch_size, waiting, failed):
        previous, running = running, self._start(*group)
        self._finish(previous, out, failed, progress)
      self._finish(running, out, failed, progress)
    if precision != 'float32':
      out = quantization.quantize(out, precision, calibration)
    return out[0] if alone else out

  @overload
  def search(self, queries: vectors_lib.Vectors,
             candidates: vectors_lib.Vectors, k: int = 10,
             exclude: Sequence[np.ndarray] | None = None
             ) -> vectors_lib.Found: ...

  @overload
  def search(self, queries: np.ndarray, candidates: 'Blocks', k: int = 10,
             exclude: Sequence[np.ndarray] | None = None
             ) -> tuple[np.ndarray, np.ndarray]: ...

  def search(self, queries: np.ndarray | vectors_lib.Vectors,
             candidates: 'vectors_lib.Vectors | Blocks', k: int = 10,
             exclude: Sequence[np.ndarray] | None = None) -> Any:
    """The k best candidates of each query: (scores, indices), both [Q, k].

    candidates: [C, D], or an iterable of blocks of them where they are more
    than fit in memory; or what `placed` gives, for one search after another.
    See scoring.embeddings.similarity.search. Of Vectors, a vectors.Found of
    their ids. A row of NaN, which on_error='skip' leaves, is never found.
    """
    from jaxret.scoring.embeddings import similarity
    checked = sentence_names.not_codes
    if isinstance(candidates, similarity.Placed):
      return candidates.search(np.atleast_2d(checked(queries)), k, exclude)
    if not isinstance(candidates, np.ndarray | vectors_lib.Vectors):
      blocks = (checked(candidates) if hasattr(candidates, 'shape')
                else map(checked, candidates))
      return similarity.search(np.atleast_2d(checked(queries)), blocks, k,
                               mesh=self.mesh, exclude=exclude)
    return vectors_lib.search(functools.partial(
        similarity.search, mesh=self.mesh), queries, candidates, k, exclude)

  def placed(self, candidates: np.ndarray) -> 'Placed':
    """Candidates [C, D] on the devices, where any number of searches use them.
    """
    from jaxret.scoring.embeddings import similarity
    return similarity.Placed(sentence_names.not_codes(candidates), self.mesh)

  def _groups(self, items, prompt, batch_size, waiting, failed):
    """Yields (shape, rows, [(index, Inputs)]), batch_size of these at most."""
    def read(index):
      inputs = self.reader(as_item(items[index], index), prompt)
      if self.shape:  # what does not fit is said of this item alone
        self.reader.pad([inputs], self.shape)
      return inputs
    ahead = reading.READ_AHEAD * batch_size
    shards = sharding.batch_shards(self.mesh)
    full, usable = -(-batch_size // shards) * shards, 0
    for index, inputs in reading.usable(
        reading.read_ahead(read, range(len(items)), ahead),
        lambda index: name_of(items[index], index), failed):
      shape = self.shape or self.reader.bucket(inputs)
      waiting[shape].append((index, inputs))
      usable += 1
      if len(waiting[shape]) == batch_size:
        yield shape, full, waiting.pop(shape)
    if self.shape:
      yield from ((shape, full, group) for shape, group in waiting.items())
    else:
      yield from batches.planned(waiting, batch_size, shards,
                                 often=usable <= batch_size)

  def _start(self, shape, n_rows, group):
    """Starts embedding a group, its rows padded by repeating the last."""
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
        out[index] = _cut(vector, out.shape[1])
      else:
        failed(ValueError(f'{inputs.id}: its embedding is not finite; the '
                          'weights are damaged, or overflow in this dtype'))
    progress.update(len(group))


def _checked_dim(truncate_dim, width):
  whole = isinstance(truncate_dim, (int, np.integer)) and not isinstance(
      truncate_dim, bool)
  if truncate_dim is not None and not (whole and 0 < truncate_dim <= width):
    raise ValueError(f'truncate_dim: got {truncate_dim!r}, want a whole number '
                     f'from 1 to {width}, how many an embedding has')
  return truncate_dim


def _cut(vector, dim):
  """The first `dim` numbers of a unit vector, as a unit vector."""
  if dim == len(vector):
    return vector
  part = np.float32(vector[:dim])
  return part / max(float(np.linalg.norm(part)), 1e-12)


def _main_dtype(params):
  """The dtype that most of the parameters have."""
  counts = collections.Counter()
  for leaf in jax.tree.leaves(params):
    counts[leaf.dtype.name] += leaf.size
  return counts.most_common(1)[0][0]


@functools.lru_cache
def _compiled(config):
  """The jitted forward pass; models of one config share what it compiles."""
  return jax.jit(config.module().apply)


def is_one(items: object) -> bool:
  """Whether what `encode` is given is one item, not a sequence of them."""
  # Bytes and paths are none either, and as_item says what to write instead.
  return isinstance(items, (str, dict, types.Item, bytes, os.PathLike)) or (
      _is_image(items))


def _is_image(given):
  return images.is_still(given) and not isinstance(
      given, (str, bytes, os.PathLike))


def name_of(given: object, index: int, what: str = 'item') -> str:
  """What errors call an entry of what `encode` is given."""
  if isinstance(given, types.Item):
    return given.id
  default = f'{what} {index}'
  return str(given.get('id', default)) if isinstance(given, dict) else default


def as_item(given: Given, index: int, what: str = 'item') -> types.Item:
  """The Item of one entry of what `encode` is given; errors name it."""
  if isinstance(given, types.Item):
    return given
  if isinstance(given, str):
    given = {'text': given}
  elif _is_image(given):
    given = {'image': given}
  name = name_of(given, index, what)
  if not isinstance(given, dict):
    got = type(given).__name__
    raise ValueError(
        f'{name}: got {got}; want a text or a dict with text, image or video'
        + (f": {{'image': {got}}} or {{'video': {got}}}" if isinstance(
            given, (bytes, os.PathLike, np.ndarray, list, tuple)) else ''))
  unknown = sorted(set(given) - set(FIELDS), key=str)
  if unknown:
    raise ValueError(f'{name}: unknown key {unknown[0]!r}; want '
                     f'{", ".join(FIELDS)}')
  fields: dict[str, Any] = {
      key: tuple(value) if isinstance(value, list) else value
      for key, value in given.items() if key != 'id'}
  return types.Item(name, order=tuple(fields), **fields)
