"""Items of text, images and videos as the padded arrays of Qwen2-VL.

`Reader` turns an item into tokens and patches; `pad` lays several of them out
at one `Shape`. Shapes come in buckets, so that a model compiles for a few of
them however many sizes there are.
"""
import math
import threading
from typing import NamedTuple

import numpy as np
from absl import logging

from jaxret.data import images, sources, types
from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.data.qwen2_vl import pixels as qwen2_vl
from jaxret.data.qwen2_vl import prompts as unite_prompts
from jaxret.data.qwen2_vl import seen as seen_lib

KINDS = seen_lib.KINDS


class Inputs(NamedTuple):
  """One item before padding.

  tokens: int32 [T], one placeholder per visual token. kinds: 'image' or
  'video' of each medium. grids: (t, h, w) of each, in patches. patches: uint8
  [t * h * w, 1176] of each. sampled: the seen.Sampled of each, None of images;
  () where nothing depends on time.
  """
  id: str
  tokens: np.ndarray
  kinds: tuple[str, ...]
  grids: tuple[tuple[int, int, int], ...]
  patches: tuple[np.ndarray, ...]
  sampled: tuple[seen_lib.Sampled | None, ...] = ()


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
  layout: the visual_tokens.Layout of the model.
  policies: of the class, what a resolution may be.
  template: the prompts.Template of what is embedded.
  alpha: of transparent pixels, 'white' or 'released', as images.shown has it.
  Every method names the item in its errors: MediaError for a medium that
  cannot be read, else ValueError.
  """

  policies = (qwen2_vl.Resolution,)

  def __init__(self, tokenizer, resolution, max_tokens=2048, trim_text=True,
               cache_bytes=0, mrope=False, alpha='white',
               layout=visual_tokens.QWEN2_VL, template=unite_prompts.UNITE):
    if not isinstance(resolution, self.policies):
      got, *wanted = (f'{one.__module__}.{one.__name__}'
                      for one in (type(resolution), *self.policies))
      raise ValueError(f'resolution: got a {got}, which is not of this '
                       f'backbone: want a {" or ".join(wanted)}')
    self.resolution, self.max_tokens = resolution, max_tokens
    self.template = template
    self.layout = layout
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
    """Inputs of an item; the prompt is an instruction, see Template."""
    if prompt is not None and not self.template.instructed:
      item, prompt = _with_prompt(item, prompt), None
    kinds, grids, patches, sampled = self.see(item)
    more = {} if prompt is None else {'instruction': prompt}
    return Inputs(item.id, self.tokens(item, kinds, grids, **more), kinds,
                  grids, patches, sampled)

  def see(self, item):
    """(kinds, grids, patches, sampled) of an item's media, see Inputs."""
    kinds, given = seen_lib.media_of(item)
    seen = [self._see(item.id, kind, source)
            for kind, source in zip(kinds, given)]
    patches, grids, sampled = zip(*seen) if seen else ((), (), ())
    return kinds, grids, patches, sampled

  def grids(self, item):
    """(kinds, grids, sampled) of an item's media, from headers alone."""
    kinds, given = seen_lib.media_of(item)
    seen = [self._grid(item.id, kind, source)
            for kind, source in zip(kinds, given)]
    grids, sampled = zip(*seen) if seen else ((), ())
    return kinds, grids, sampled

  def bucket(self, inputs):
    """The Shape that holds Inputs, with little room to spare."""
    return shape_of(len(inputs.tokens), inputs.grids)

  def pad(self, inputs, shape):
    """Arrays of several Inputs, see the function `pad`."""
    return pad(inputs, Shape(*shape), self.special, self.mrope, self.layout)

  def shape(self, item):
    """The bucket of an item, from the headers of its media alone."""
    kinds, grids, _ = self.grids(item)
    return shape_of(len(self.tokens(item, kinds, grids)), grids)

  def check(self, item):
    """Raises for what text and headers show; decodes a first frame at most."""
    self.shape(item)

  def _grid(self, name, kind, source):
    """(grid, Sampled) of a medium; a file's header is read once for a state."""
    if not isinstance(source, str):
      return seen_lib.grid(name, kind, source, self.resolution,
                           self.layout.patch_px)
    key = kind, source, _state(source)
    if key not in self._grids:
      self._grids[key] = seen_lib.grid(
          name, kind, source, self.resolution, self.layout.patch_px)
    return self._grids[key]

  def _is_kept(self, kind, source):
    return isinstance(source, str) and (kind, source) in self._cache

  def _see(self, name, kind, source):
    """(patches, grid, Sampled) of a medium; read once if the cache has room.
    """
    if self._is_kept(kind, source):
      return self._cache[kind, source]
    frames, sampled = seen_lib.frames(
        name, kind, source, self.resolution, self.alpha)
    seen = (*qwen2_vl.patchify(frames, self.layout.patch_px), sampled)
    with self._lock:
      if isinstance(source, str) and seen[0].nbytes <= self._free_bytes:
        self._free_bytes -= seen[0].nbytes
        self._cache[kind, source] = seen
    return seen

  def tokens(self, item, kinds, grids, instruction=None):
    """The prompt of an item whose media have these grids, int32 [T]."""
    if instruction is not None:
      unite_prompts.check_text(instruction, f'{item.id}: its instruction')
    content = unite_prompts.marked(unite_prompts.Content(
        item.text, {kind: kinds.count(kind) for kind in KINDS},
        tuple(m for m in item.order if getattr(item, m) is not None)), item.id,
        between=self.template.between, kinds=self.template.kinds)
    ids = self._expanded(content, kinds, grids, instruction)
    if len(ids) <= self.max_tokens:
      return ids
    if content.text is None or not self.trim_text:
      raise ValueError(
          f'{item.id}: {len(ids)} tokens, want at most {self.max_tokens}: '
          + ('use fewer frames or smaller images' if content.text is None
             else 'shorten its text, or let it be trimmed (trim_text)'))
    return self._trimmed(
        item.id, content, kinds, grids, len(ids), instruction)

  def _expanded(self, content, kinds, grids, instruction):
    return self.expanded(unite_prompts.prompt(
        content, False, self.template, instruction), kinds, grids)

  def expanded(self, prompt, kinds, grids):
    """Tokens of a prompt with as many placeholders as visual tokens."""
    ids = np.array(self._encode(prompt), np.int32)
    counts = np.ones(len(ids), np.int64)
    for kind in KINDS:
      counts[ids == self.special[kind]] = [
          visual_tokens.n_tokens(grid) for grid, its in zip(grids, kinds)
          if its == kind]
    return np.repeat(ids, counts)

  def _trimmed(self, name, content, kinds, grids, n_tokens, instruction):
    """The longest beginning of the text that leaves room for the rest."""
    fits, too_long, best = 0, len(content.text), None
    while fits < too_long:
      keep = (fits + too_long) // 2
      ids = self._expanded(content._replace(
          text=unite_prompts.shortened(content.text, keep)), kinds, grids,
                           instruction)
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


def _state(path):
  """Size and time of change of a file, None where there is none."""
  try:
    return sources.state(path)
  except OSError:
    return None


def open_reader(config, tokenizer, max_tokens=2048, trim_text=False,
                resolution=None, alpha='white', prompt=unite_prompts.UNITE):
  """The Reader of a Qwen2VlConfig; resolution: default as UNITE is released.

  prompt: a prompts.Template, or its text as prompts.template has it.
  Raises ValueError as `check` does.
  """
  check(config, max_tokens)
  return Reader(tokenizer, resolution or qwen2_vl.Resolution(), max_tokens,
                trim_text, mrope=config.position_mode == 'mrope', alpha=alpha,
                layout=layout_of(config),
                template=prompt if isinstance(prompt, unite_prompts.Template)
                else unite_prompts.template(prompt))


def check(config, max_tokens):
  """Raises ValueError for a Qwen2VlConfig that items are not read for.

  That is if max_tokens are more than the model is right for, or its patches
  are not those that pixels are cut into.
  """
  config.decoder.check_length(max_tokens)
  if config.vision.patch_px != qwen2_vl.PATCH_PX:
    raise ValueError(f'{config.name}: got patch_size = '
                     f'{config.vision.patch_px}, want {qwen2_vl.PATCH_PX}, '
                     'which pixels are cut into: use another model')


def layout_of(config):
  """The visual_tokens.Layout of a Qwen2VlConfig."""
  return visual_tokens.Layout(
      config.vision.merge, config.vision.window_tokens,
      config.vision.temporal_patch, config.vision.tokens_per_second)


def pad(inputs, shape, special, mrope=False, layout=visual_tokens.QWEN2_VL):
  """Arrays of several Inputs at one Shape, rows in order, for Qwen2Vl.

  special: {'image': id, 'video': id}, as a Reader has it. mrope: adds the
  positions. layout: a visual_tokens.Layout. Raises ValueError naming the item
  that does not fit.
  """
  rows = [_padded(one, shape, special, mrope, layout) for one in inputs]
  return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _padded(inputs, shape, special, mrope, layout):
  n = len(inputs.tokens)
  if n > shape.tokens:
    raise ValueError(f'{inputs.id}: {n} tokens, the batch has room for '
                     f'{shape.tokens}')
  out = {'tokens': np.zeros(shape.tokens, np.int32), 'length': np.int32(n)}
  out['tokens'][:n] = inputs.tokens
  if mrope:
    out['positions'] = np.zeros((3, shape.tokens), np.int32)
    out['positions'][:, :n] = visual_tokens.mrope_positions(
        inputs.tokens, inputs.kinds, inputs.grids, special, layout.merge,
        layout.steps(inputs.sampled))
  if not shape.rows and not inputs.grids:
    return out
  try:
    rows = visual_tokens.lay_out(inputs.grids, shape.rows, shape.patches,
                                 layout.merge, layout.window)
  except ValueError as error:
    raise ValueError(f'{inputs.id}: {error}') from None
  patch_values = 3 * qwen2_vl.TEMPORAL_PATCH * layout.patch_px ** 2
  dtype = inputs.patches[0].dtype if inputs.patches else np.uint8
  patches = np.zeros((shape.rows * shape.patches, patch_values), dtype)
  if inputs.patches:
    _put(patches, rows.patch_index, inputs.patches[0]
         if len(inputs.patches) == 1 else np.concatenate(inputs.patches))
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


def _put(rows, index, values):
  """rows[index] = values, by runs of neighbours: ten times faster here."""
  ends = np.flatnonzero(np.diff(index) != 1) + 1
  for start, stop in zip((0, *ends), (*ends, len(index))):
    rows[index[start]:index[start] + stop - start] = values[start:stop]
