"""Items of texts, images and videos as the padded arrays of Qwen3-VL.

As the authors' embedder reads them (spec §3), but for its errors: what cannot
be read is said of its item, where the script embeds the text NULL.
"""
import numpy as np
from absl import logging

from jaxret.data import types
from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.data.qwen2_vl import reader as inputs_lib
from jaxret.data.qwen2_vl import seen as seen_lib
from jaxret.data.qwen3_vl import layout as layout_lib
from jaxret.data.qwen3_vl import pixels as qwen3_vl
from jaxret.data.qwen3_vl import prompts

LAYOUT = visual_tokens.Layout(patch_px=qwen3_vl.PATCH_PX)
KINDS = ('video', 'image')  # in the order of the prompt


class Reader(inputs_lib.Reader):
  """Reads items: their media, resized and patchified, and their prompt.

  tokenizer: as data.text.load_tokenizer gives it; what its file adds to every
    text is added to the prompt.
  resolution: a pixels.Resolution, or a pixels.Processor.
  max_tokens: of a prompt, visual tokens included.
  trim_text: what is done with a longer one. True cuts its end, the assistant's
    header first, as the authors do, and says so; False refuses it. Visual
    tokens are never cut.
  cache_bytes: patches of files that are kept in memory, for training.
  alpha: of transparent pixels, 'white' or 'released', as images.shown has it.
  """

  policies = (qwen3_vl.Resolution, qwen3_vl.Processor)

  def __init__(self, tokenizer, resolution, max_tokens=8192, trim_text=False,
               cache_bytes=0, alpha='white'):
    super().__init__(tokenizer, resolution, max_tokens, trim_text, cache_bytes,
                     mrope=True, alpha=alpha, layout=LAYOUT)
    if tokenizer.added is None:
      raise ValueError('the tokenizer changes a text where it adds special '
                       'tokens: use that of Qwen3-VL')
    self.before, self.behind = tokenizer.added

  def __call__(self, item, prompt=None):
    """Inputs of an item; the prompt is what it is embedded for."""
    kinds, grids, patches, sampled = self.see(item)
    tokens = self.tokens(item, kinds, grids, sampled, prompt)
    return inputs_lib.Inputs(item.id, tokens, *sliced(kinds, grids), patches)

  def see(self, item):
    """(kinds, grids, patches, Sampled or None) of an item's media."""
    shown = media_of(item)
    seen = [self._see(item.id, kind, source) for kind, source in shown]
    patches, grids, sampled = zip(*seen) if seen else ((), (), ())
    return tuple(kind for kind, _ in shown), grids, patches, sampled

  def grids(self, item):
    """(kinds, grids, Sampled or None) of its media, from headers alone."""
    shown = media_of(item)
    found = [self._grid(item.id, kind, source) for kind, source in shown]
    grids, sampled = zip(*found) if found else ((), ())
    return tuple(kind for kind, _ in shown), grids, sampled

  def pad(self, inputs, shape):
    """Arrays of several Inputs, see the function `pad`."""
    return pad(inputs, inputs_lib.Shape(*shape), self.special)

  def shape(self, item, prompt=None):
    """The bucket of an item, from the headers of its media alone."""
    kinds, grids, sampled = self.grids(item)
    tokens = self.tokens(item, kinds, grids, sampled, prompt)
    return inputs_lib.shape_of(len(tokens), sliced(kinds, grids)[1])

  def tokens(self, item, kinds, grids, sampled, prompt=None):
    """The prompt of an item whose media have these grids, int32 [T].

    sampled: the seen.Sampled of each video, None of images.
    """
    prompts.check(item.id, prompt or '', 'prompt')
    ids = self.expanded(
        prompts.embedding_prompt(self.content(item, sampled), prompt),
        *sliced(kinds, grids))
    return self._fitted(item.id, ids)

  def content(self, item, sampled):
    """What an item shows and says, as the prompt has it; see `tokens`."""
    text = _text(item)
    if text is not None:
      prompts.check(item.id, text)
    return prompts.content(self.marks(sampled), text)

  def marks(self, sampled):
    """What stands in a prompt for each medium, see `tokens`."""
    return [
        prompts.image() if one is None else
        prompts.video(qwen3_vl.seconds_shown(self.resolution.times(
            one.indices, one.fps, one.fps is None))) for one in sampled]

  def _fitted(self, name, ids):
    """Tokens with what the tokenizer adds, at most `max_tokens` of them."""
    room = self.max_tokens - len(self.before) - len(self.behind)
    if len(ids) > room:
      n_tokens = len(ids) + self.max_tokens - room
      if not self.trim_text or np.isin(
          ids[max(room, 0):], list(self.special.values())).any():
        raise ValueError(
            f'{name}: {n_tokens} tokens, want at most {self.max_tokens}: '
            + ('its images and videos are never cut: use fewer frames or '
               'smaller images, or raise max_tokens' if self.trim_text else
               'shorten its text, use fewer frames, raise max_tokens, or let '
               'its end be cut (trim_text)'))
      logging.warning('%s: %d tokens, its end is cut to keep %d', name,
                      n_tokens, self.max_tokens)
      ids = ids[:room]
    return np.concatenate([
        self.before, ids, self.behind]).astype(np.int32)


def open_reader(config, tokenizer, max_tokens=8192, trim_text=False,
                resolution=None, alpha='white'):
  """The Reader of a Qwen3VlConfig; resolution: default as the embedder has it.

  Raises ValueError as `check` does.
  """
  check(config, max_tokens)
  return Reader(tokenizer, resolution or qwen3_vl.Resolution(), max_tokens,
                trim_text, alpha=alpha)


def check(config, max_tokens):
  """Raises ValueError for a Qwen3VlConfig that items are not read for.

  That is if max_tokens are more than the model is right for, or its patches
  are not those that pixels are cut into.
  """
  config.decoder.check_length(max_tokens)
  if config.vision.patch_px != qwen3_vl.PATCH_PX:
    raise ValueError(f'Qwen3-VL: got patch_size = {config.vision.patch_px}, '
                     f'want {qwen3_vl.PATCH_PX}, which pixels are cut into: '
                     'use another model')


def pad(inputs, shape, special, mrope=True):
  """Arrays of several Inputs at one Shape, rows in order, for Qwen3Vl.

  special: {'image': id, 'video': id}, as a Reader has it. mrope: adds the
  positions. Raises ValueError naming the item that does not fit.
  """
  batch = inputs_lib.pad(inputs, shape, special, mrope, LAYOUT)
  if 'segments' in batch:
    batch['coordinates'] = np.stack([
        layout_lib.with_extents(coordinates, segments, one.grids)
        for coordinates, segments, one in zip(
            batch['coordinates'], batch['segments'], inputs)])
  return batch


def sliced(kinds, grids):
  """(kinds, grids) of all temporal patches, each a medium of its own."""
  found = [(kind, part) for kind, grid in zip(kinds, grids)
           for part in layout_lib.slices(grid)]
  return tuple(zip(*found)) or ((), ())


def media_of(item):
  """[(kind, source)] of an item's media, videos first; it may have none."""
  if item.image is None and item.video is None:
    return []
  kinds, given = seen_lib.media_of(types.Item(
      item.id, image=item.image, video=item.video))
  return [(kind, source) for wanted in KINDS
          for kind, source in zip(kinds, given) if kind == wanted]


def _text(item):
  """Its texts, without separators; None where it has none."""
  if item.text is None or isinstance(item.text, str):
    return item.text
  if not isinstance(item.text, tuple) or not item.text or not all(
      isinstance(text, str) for text in item.text):
    raise ValueError(f'{item.id}: its text is {type(item.text).__name__}; '
                     'want a string, or a list of strings')
  joined = ''.join(item.text)
  if types.is_broken(joined):
    raise ValueError(f'{item.id}: its text holds a lone surrogate, half of a '
                     'character; remove it from the text')
  return joined
