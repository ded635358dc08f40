"""Items of text, images and videos as the padded arrays of Qwen2-VL.

`Reader` turns an item into tokens and patches; `pad` lays several of them out
at one `Shape`. Shapes come in buckets, so that a model compiles for a few of
them however many sizes there are.
"""
import contextlib
import math
import os
import threading
from typing import NamedTuple

import numpy as np
from absl import logging

from jaxret.data import images, media, sources, types
from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.data.qwen2_vl import pixels as qwen2_vl
from jaxret.data.qwen2_vl import prompts as unite_prompts

MODALITIES = ('text', 'image', 'video')
KINDS = ('image', 'video')


class Inputs(NamedTuple):
  """One item before padding.

  tokens: int32 [T], one placeholder per visual token. kinds: 'image' or
  'video' of each medium. grids: (t, h, w) of each, in patches. patches: uint8
  [t * h * w, 1176] of each.
  """
  id: str
  tokens: np.ndarray
  kinds: tuple[str, ...]
  grids: tuple[tuple[int, int, int], ...]
  patches: tuple[np.ndarray, ...]


class Shape(NamedTuple):
  """Static sizes of padded items: T tokens, S rows of P patches."""
  tokens: int
  rows: int = 0
  patches: int = 0


def bucket(number, least=1):
  """The next size up of four per octave: at most a quarter is padding."""
  if number <= least:
    return least
  step = max(1, 2 ** (math.ceil(math.log2(number)) - 3))
  return -(-number // step) * step


def shape_of(n_tokens, grids):
  """The bucket of an item."""
  sizes = visual_tokens.slices(grids)
  if not sizes:
    return Shape(bucket(n_tokens, 16))
  patches = bucket(max(sizes), 32)
  rows = visual_tokens.fill(sizes, patches)[1]
  return Shape(bucket(n_tokens, 16), bucket(rows), patches)


def common_shape(shapes):
  """The smallest Shape that holds all of `shapes`."""
  return Shape(*(max(sizes) for sizes in zip(*shapes)))


class Reader:
  """Reads items: their media, resized and patchified, and their prompt.

  tokenizer: as data.text.load_tokenizer gives it, with the control tokens of
    the prompt in its vocabulary.
  resolution: a qwen2_vl.Resolution.
  max_tokens: of a prompt, visual tokens included.
  trim_text: what is done with a longer one. True cuts the end of its text and
    says so; False refuses it. Visual tokens are never cut (the authors cut
    the front of the sequence, which are the system prompt and then these).
  cache_bytes: patches of files that are kept in memory, for training.
  mrope: whether `pad` adds positions.
  alpha: of transparent pixels, 'white' or 'released', as images.shown has it.
  Every method names the item in its errors: MediaError for a medium that
  cannot be read, else ValueError.
  """

  def __init__(self, tokenizer, resolution, max_tokens=2048, trim_text=True,
               cache_bytes=0, mrope=False, alpha='white'):
    self.resolution, self.max_tokens = resolution, max_tokens
    self.mrope, self.alpha = mrope, images.check_alpha(alpha)
    self._cache, self._free_bytes = {}, cache_bytes
    self._grids = {}
    self._lock = threading.Lock()
    self.trim_text = trim_text
    self._encode = tokenizer.encode
    self.special = {kind: self._one_token(unite_prompts.PADS[kind])
                    for kind in KINDS}
    for token in unite_prompts.CONTROL_TOKENS:
      self._one_token(token)

  def _one_token(self, token):
    ids = self._encode(token)
    if len(ids) != 1:
      raise ValueError(f'the tokenizer has no control token {token}: use that '
                       'of Qwen2-VL, or train one with it')
    return ids[0]

  def __call__(self, item, prompt=None):
    """Inputs of an item; the prompt is put in front of its text."""
    item = item if prompt is None else _with_prompt(item, prompt)
    kinds, grids, patches = self.see(item)
    return Inputs(item.id, self.tokens(item, kinds, grids), kinds, grids,
                  patches)

  def see(self, item):
    """(kinds, grids, patches) of an item's media, see Inputs."""
    kinds, given = _media(item)
    seen = [self._see(item.id, kind, source)
            for kind, source in zip(kinds, given)]
    return kinds, tuple(g for _, g in seen), tuple(p for p, _ in seen)

  def grids(self, item):
    """(kinds, grids) of an item's media, from their headers alone."""
    kinds, given = _media(item)
    return kinds, tuple(self._grid(item.id, kind, source)
                        for kind, source in zip(kinds, given))

  def bucket(self, inputs):
    """The Shape that holds Inputs, with little room to spare."""
    return shape_of(len(inputs.tokens), inputs.grids)

  def pad(self, inputs, shape):
    """Arrays of several Inputs, see the function `pad`."""
    return pad(inputs, Shape(*shape), self.special, self.mrope)

  def shape(self, item):
    """The bucket of an item, from the headers of its media alone."""
    kinds, grids = self.grids(item)
    return shape_of(len(self.tokens(item, kinds, grids)), grids)

  def check(self, item):
    """Raises for what text and headers show; decodes a first frame at most."""
    self.shape(item)

  def _grid(self, name, kind, source):
    """The grid of a medium; the headers of a file are read once."""
    if not isinstance(source, str):
      return _grid(name, kind, source, self.resolution)
    if (kind, source) not in self._grids:
      self._grids[kind, source] = _grid(name, kind, source, self.resolution)
    return self._grids[kind, source]

  def _is_kept(self, kind, source):
    return isinstance(source, str) and (kind, source) in self._cache

  def _see(self, name, kind, source):
    """(patches, grid) of a medium; read once as far as the cache reaches."""
    if self._is_kept(kind, source):
      return self._cache[kind, source]
    seen = qwen2_vl.patchify(_frames(
        name, kind, source, self.resolution, self.alpha))
    with self._lock:
      if isinstance(source, str) and seen[0].nbytes <= self._free_bytes:
        self._free_bytes -= seen[0].nbytes
        self._cache[kind, source] = seen
    return seen

  def tokens(self, item, kinds, grids):
    """The prompt of an item whose media have these grids, int32 [T]."""
    content = unite_prompts.marked(unite_prompts.Content(
        item.text, {kind: kinds.count(kind) for kind in KINDS},
        tuple(m for m in item.order if getattr(item, m) is not None)), item.id)
    ids = self._expanded(content, kinds, grids)
    if len(ids) <= self.max_tokens:
      return ids
    if content.text is None or not self.trim_text:
      raise ValueError(
          f'{item.id}: {len(ids)} tokens, want at most {self.max_tokens}: '
          + ('use fewer frames or smaller images' if content.text is None
             else 'shorten its text, or let it be trimmed (trim_text)'))
    return self._trimmed(item.id, content, kinds, grids, len(ids))

  def _expanded(self, content, kinds, grids):
    return self.expanded(
        unite_prompts.prompt(content, released=False), kinds, grids)

  def expanded(self, prompt, kinds, grids):
    """Tokens of a prompt with as many placeholders as visual tokens."""
    ids = np.array(self._encode(prompt), np.int32)
    counts = np.ones(len(ids), np.int64)
    for kind in KINDS:
      counts[ids == self.special[kind]] = [
          visual_tokens.n_tokens(grid) for grid, its in zip(grids, kinds)
          if its == kind]
    return np.repeat(ids, counts)

  def _trimmed(self, name, content, kinds, grids, n_tokens):
    """The longest beginning of the text that leaves room for the rest."""
    fits, too_long, best = 0, len(content.text), None
    while fits < too_long:
      keep = (fits + too_long) // 2
      ids = self._expanded(content._replace(
          text=unite_prompts.shortened(content.text, keep)), kinds, grids)
      if len(ids) <= self.max_tokens:
        fits, best = keep + 1, (keep, ids)
      else:
        too_long = keep
    if best is None:
      raise ValueError(
          f'{name}: more than {self.max_tokens} tokens without its text: use '
          'fewer frames or smaller images, or raise max_tokens')
    logging.warning('%s: %d tokens, its text is cut after %d characters to '
                    'keep %d', name, n_tokens, best[0], self.max_tokens)
    return best[1]


def open_reader(config, tokenizer, max_tokens=2048, trim_text=False,
                resolution=None, alpha='white'):
  """The Reader of a Qwen2VlConfig; resolution: default as UNITE is released.

  Raises ValueError as `check` does.
  """
  check(config, max_tokens)
  return Reader(tokenizer, resolution or qwen2_vl.Resolution(), max_tokens,
                trim_text, mrope=config.position_mode == 'mrope', alpha=alpha)


def check(config, max_tokens):
  """Raises ValueError for a Qwen2VlConfig that items are not read for.

  That is if max_tokens are more than the model is right for, or its patches
  are not those that pixels are cut into.
  """
  config.decoder.check_length(max_tokens)
  if config.vision.patch_px != qwen2_vl.PATCH_PX:
    raise ValueError(f'Qwen2-VL: got patch_size = {config.vision.patch_px}, '
                     f'want {qwen2_vl.PATCH_PX}, which pixels are cut into: '
                     'use another model')


def pad(inputs, shape, special, mrope=False):
  """Arrays of several Inputs at one Shape, rows in order, for Qwen2Vl.

  special: {'image': id, 'video': id}, as a Reader has it. mrope: adds the
  positions. Raises ValueError naming the item that does not fit.
  """
  rows = [_padded(one, shape, special, mrope) for one in inputs]
  return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _padded(inputs, shape, special, mrope):
  n = len(inputs.tokens)
  if n > shape.tokens:
    raise ValueError(f'{inputs.id}: {n} tokens, the batch has room for '
                     f'{shape.tokens}')
  out = {'tokens': np.zeros(shape.tokens, np.int32), 'length': np.int32(n)}
  out['tokens'][:n] = inputs.tokens
  if mrope:
    out['positions'] = np.zeros((3, shape.tokens), np.int32)
    out['positions'][:, :n] = visual_tokens.mrope_positions(
        inputs.tokens, inputs.kinds, inputs.grids, special)
  if not shape.rows and not inputs.grids:
    return out
  try:
    rows = visual_tokens.lay_out(inputs.grids, shape.rows, shape.patches)
  except ValueError as error:
    raise ValueError(f'{inputs.id}: {error}') from None
  patch_values = 3 * qwen2_vl.TEMPORAL_PATCH * qwen2_vl.PATCH_PX ** 2
  dtype = inputs.patches[0].dtype if inputs.patches else np.uint8
  patches = np.zeros((shape.rows * shape.patches, patch_values), dtype)
  if inputs.patches:
    patches[rows.patch_index] = np.concatenate(inputs.patches)
  index = np.full(shape.tokens, -1, np.int32)
  index[:n] = visual_tokens.visual_index(
      inputs.tokens, inputs.kinds, inputs.grids, rows.patch_index, special,
      inputs.id)
  return {**out, 'visual_index': index,
          'patches': patches.reshape(shape.rows, shape.patches, -1),
          'segments': rows.segments, 'coordinates': rows.coordinates}


def _with_prompt(item, prompt):
  order = item.order if item.text is not None else ('text', *(
      name for name in item.order if name != 'text'))
  return types.Item(item.id, prompt + (item.text or ''), item.image, item.video,
                    order)


def _media(item):
  """(kinds, sources) of an item's media, images first."""
  if all(getattr(item, modality) is None for modality in MODALITIES):
    raise ValueError(f'{item.id}: it has no text, image or video; give it one')
  if item.text is not None and not isinstance(item.text, str):
    raise ValueError(f'{item.id}: its text is {type(item.text).__name__}; '
                     'want a string')
  kinds, found = [], []
  for kind in KINDS:
    value = getattr(item, kind)
    several = value if isinstance(value, (tuple, list)) else (value,)
    if kind == 'video':
      several = media.as_videos(value, item.id)
    several = [one for one in several if one is not None]
    if value is not None and not several:
      raise ValueError(f'{item.id}: its list of {kind}s is empty; give it one '
                       'or leave it out')
    kinds += [kind] * len(several)
    found += several
  return tuple(kinds), found


def _check(name, kind, source):
  """Raises for what is no path, bytes, PIL image, frames, or uint8 pixels."""
  if isinstance(source, (str, bytes, os.PathLike)) or (
      images.is_pil(source) if kind == 'image' else isinstance(source, tuple)):
    return
  rank = 3 if kind == 'image' else 4
  if (not isinstance(source, np.ndarray) or source.dtype != np.uint8
      or source.ndim != rank or source.shape[-1] != 3 or not source.size):
    got = (f'{source.dtype} {source.shape}' if isinstance(source, np.ndarray)
           else type(source).__name__)
    raise ValueError(
        f'{name}: its {kind} is {got}; want a path, encoded bytes, or uint8 '
        f'pixels {"[H, W, 3]" if rank == 3 else "[frames, H, W, 3]"}')


def _frames(name, kind, source, resolution, alpha):
  """A medium's frames at their final size, uint8 [F, H, W, 3]."""
  _check(name, kind, source)
  def choose(n_frames, fps):
    if isinstance(source, tuple):
      return _of_array(n_frames, resolution)
    return qwen2_vl.choose_frames(n_frames, fps, resolution)
  with _blamed(name, kind):
    if kind == 'image':
      frames = [media.read_still(source, 'a PIL image', alpha)]
    elif isinstance(source, np.ndarray):
      frames = source[_of_array(len(source), resolution)]
    else:
      frames = media.sample_frames(source, choose, alpha)
    return resolution.resize(kind, frames)


@contextlib.contextmanager
def _blamed(name, kind):
  """Whatever is raised inside becomes the MediaError of the item `name`."""
  try:
    yield
  except media.MediaError as error:
    raise media.MediaError(
        name, f'its {kind} cannot be read: {error}') from error
  except ValueError as error:
    raise media.MediaError(name, f'its {kind} has {error}') from error
  except Exception as error:
    raise media.MediaError(
        name, f'its {kind} cannot be used ({sources.cause(error)})') from error


def _of_array(n_frames, resolution):
  """Of frames that were sampled by the caller: all, or evenly the most."""
  most = resolution.n_frames or resolution.max_frames
  return qwen2_vl.frame_indices(n_frames, min(n_frames, most))


def _grid(name, kind, source, resolution):
  """The grid that `_frames` and patchify will give, from headers alone."""
  _check(name, kind, source)
  with _blamed(name, kind):
    n_frames, size = _header(kind, source, resolution)
    return qwen2_vl.grid_of(n_frames, *resolution.sizes(kind, *size)[-1])


def _header(kind, source, resolution):
  """(frames that will be looked at, (height, width)) of a medium."""
  if kind == 'image':
    return 1, media.size_of(source, 'a PIL image')
  if isinstance(source, (np.ndarray, tuple)):
    chosen = _of_array(len(source), resolution)
    return len(chosen), (source.shape[1:3] if isinstance(source, np.ndarray)
                         else media.frame_sizes(source, chosen))
  info = media.probe(source)
  chosen = qwen2_vl.choose_frames(info.n_frames, info.fps, resolution)
  return len(chosen), (info.height, info.width)
