"""The vision tower's part of reranking: each medium is seen once.

Slices (an image, or two frames of a video) are rows of few sizes, each alone,
so that a slice gives the same whatever is beside it.
"""
import collections
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxret import reading, sharding
from jaxret.data import visual_features
from jaxret.data.qwen2_vl import reader as inputs_lib
from jaxret.models import reranking
from jaxret.scoring.likelihood import tiles

LEAST_PATCHES = 32  # of a row
STEPS = 2  # sizes of rows per octave


class Medium(NamedTuple):
  """A medium, and how errors call the item that shows it.

  grid: (t, h, w), in patches.
  """
  name: str
  kind: str
  source: Any
  grid: tuple[int, int, int]

  @property
  def tokens(self) -> int:
    """How many visual tokens it gives."""
    t, h, w = self.grid
    return t * h * w // 4


class MediaFeatures:
  """What the tower gives of media, by visual_features.content_key.

  config, params, reader, mesh: of a Reranker. memory: a visual_features.Memory;
  directory: a visual_features.Directory, None = nothing is kept on disk.
  batch_patches: of a device at a time, or as many as its largest slice has.
  """

  def __init__(self, config: Any, params: Mapping[str, Any], reader: Any,
               mesh: jax.sharding.Mesh, memory: visual_features.Memory,
               directory: visual_features.Directory | None = None,
               batch_patches: int = 4096):
    self._parts = config, params, reader, mesh
    self._memory, self._directory = memory, directory
    self._batch_patches = batch_patches
    self.width, self.max_bytes = width(config), memory.max_bytes

  def find(self, media: Mapping[str, Medium],
           failed: Callable[[str, ValueError], None]
           ) -> dict[str, np.ndarray]:
    """{key: [n, W] of its visual tokens in order}, of what can be read.

    What neither memory nor disk holds is seen. failed: told of the others, and
    why.
    """
    found, missing = {}, {}
    for key, medium in media.items():
      kept = self._memory.get(key)
      if kept is None and self._directory is not None:
        kept = self._directory.get(key, (medium.tokens, self.width))
        if kept is not None:
          self._memory.put(key, kept)
      if kept is None:
        missing[key] = medium
      else:
        found[key] = kept
    for key, features in self._seen(missing, failed):
      found[key] = features
      self._memory.put(key, features)
      if self._directory is not None:
        self._directory.put(key, features)
    return found

  def _seen(self, media, failed):
    """Yields (key, features) as they are whole."""
    parts: dict[str, list] = {}
    for group in self._groups(media, failed):
      rows = self._run([patches for *_, patches in group],
                       [medium.grid[1:] for _, medium, *_ in group])
      for (key, medium, number, _), row in zip(group, rows):
        own = parts.setdefault(key, [None] * medium.grid[0])
        own[number] = row
        if all(part is not None for part in own):
          yield key, np.concatenate(parts.pop(key))

  def _groups(self, media, failed):
    """Yields [(key, medium, number of the slice, patches)] of one size."""
    _, _, reader, mesh = self._parts
    keys, shards = list(media), sharding.batch_shards(mesh)
    by_size: dict[int, list] = collections.defaultdict(list)
    for key, patches in _usable(reader, media, keys, failed):
      medium = media[key]
      t, h, w = medium.grid
      size = max(LEAST_PATCHES, tiles.rounded(h * w, STEPS))
      rows = shards * max(1, self._batch_patches // size)
      for number, part in enumerate(np.split(patches, t)):
        by_size[size].append((key, medium, number, part))
        if len(by_size[size]) == rows:
          yield by_size.pop(size)
    yield from by_size.values()

  def _run(self, patches, sides):
    """The tower's tokens [n, W] of slices; sides: (h, w) of each."""
    config, params, reader, mesh = self._parts
    size = max(LEAST_PATCHES, tiles.rounded(
        max(h * w for h, w in sides), STEPS))
    shards = sharding.batch_shards(mesh)
    count = shards * tiles.rounded(-(-len(sides) // shards), 1)
    image = reader.special['image']
    inputs = [inputs_lib.Inputs(
        '', np.full(h * w // 4, image, np.int32), ('image',), ((1, h, w),),
        (part,)) for part, (h, w) in zip(patches, sides)]
    batch = reader.pad(inputs + inputs[-1:] * (count - len(inputs)),
                       inputs_lib.Shape(size // 4, 1, size))
    with jax.set_mesh(mesh):
      rows = sharding.to_host(compiled(config)(params, {
          name: sharding.constant(mesh, batch[name])
          for name in ('patches', 'segments', 'coordinates')}))
    return [row[index[index >= 0]]
            for row, index in zip(rows, batch['visual_index'][:len(inputs)])]


def width(config: Any) -> int:
  """W, how many numbers a visual token has, DeepStack's among them."""
  return config.width * (1 + len(getattr(config.vision, 'deepstack', ())))


@functools.lru_cache
def compiled(config: Any) -> Callable:
  return jax.jit(functools.partial(reranking.visual_tokens, config))


def _usable(reader, media, keys: list, failed) -> Iterable:
  """Yields (key, patches) of what can be read."""
  def read(number):
    medium = media[keys[number]]
    patches = reader.see_medium(medium.name, medium.kind, medium.source)
    if len(patches) != np.prod(medium.grid):
      raise ValueError(f'{medium.name}: its {medium.kind} is of another size '
                       'than its header says')
    return patches
  running = None  # whose result is being taken
  def told(error):
    failed(keys[running], error)
  def results():
    nonlocal running
    for running, result in reading.read_ahead(
        read, range(len(keys)), 2 * reading.READ_AHEAD):
      yield running, result
  for number, patches in reading.usable(
      results(), lambda number: media[keys[number]].name, told):
    yield keys[number], patches
