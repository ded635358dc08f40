"""Items of one text, image or video as the arrays of CLIP and SigLIP 2.

`Reader` turns an item into tokens or pixels and pads several of them to one
size: texts to a few lengths, of SigLIP always to the same, videos to a few
numbers of frames; an image is one frame.
"""
from typing import NamedTuple

import numpy as np

from jaxret.data import images, whole_texts
from jaxret.data.dual_encoder import pixels as pixels_lib
from jaxret.data.qwen2_vl import reader as inputs_lib
from jaxret.data.qwen2_vl import seen as seen_lib


class Inputs(NamedTuple):
  """One item before padding: a text, or what is seen.

  tokens: int32 [T]. pixels: uint8 [F, H, W, 3], or patches [F, P, V] of a model
  that sees images of any shape, and grid, (rows, columns) of them.
  """
  id: str
  tokens: np.ndarray | None = None
  pixels: np.ndarray | None = None
  grid: tuple[int, int] | None = None


class Shape(NamedTuple):
  """Static sizes of padded items: T tokens, or F frames."""
  tokens: int
  frames: int = 0


class Reader:
  """Reads items: one text, one image or one video each.

  config: a models.dual_encoder.model.DualEncoderConfig.
  tokenizer: as data.text.load_tokenizer gives it. CLIP takes what its file puts
    around a text; of SigLIP a text is lower-cased, whatever the file says, and
    its end put behind it, nothing before (spec §6).
  trim_text: what is done with a text that is too long. True cuts its end and
    says so; False refuses it.
  resolution: a pixels.Resolution; None: its defaults.
  alpha: of transparent pixels, 'white' or 'released', as images.shown has it.
  Every method names the item in its errors: MediaError for a medium that
  cannot be read, else ValueError.
  """

  def __init__(self, config, tokenizer, trim_text=False,
               resolution=None, alpha='white'):
    resolution = resolution or pixels_lib.Resolution()
    if not isinstance(resolution, pixels_lib.Resolution):
      got, wanted = (f'{one.__module__}.{one.__name__}'
                     for one in (type(resolution), pixels_lib.Resolution))
      raise ValueError(f'resolution: got a {got}, which is not of this '
                       f'backbone: want a {wanted}')
    self.config, self.trim_text = config, trim_text
    self.alpha = images.check_alpha(alpha)
    self.policy = pixels_lib.Policy(config.processor, resolution)
    self._pad_id = tokenizer.pad_id
    self.texts = whole_texts.WholeTexts(
        tokenizer, *_around(config, tokenizer), config.text.max_tokens,
        config.text.vocab_size)

  def __call__(self, item, prompt=None):
    """Inputs of an item; the prompt is put in front of its text."""
    kind, source = _only(item, prompt)
    if kind == 'text':
      return Inputs(item.id, self.tokens(item.id, (prompt or '') + source))
    frames, _ = seen_lib.frames(
        item.id, kind, source, self.policy, self.alpha)
    if self.config.processor.max_patches:
      return Inputs(item.id, None, *pixels_lib.patchify(
          frames, self.config.processor.patch_px))
    return Inputs(item.id, None, frames)

  def check(self, item):
    """Raises for what text and headers show; decodes a first frame at most."""
    kind, source = _only(item)
    if kind == 'text':
      self.tokens(item.id, source)
    else:
      seen_lib.grid(item.id, kind, source, self.policy, patch_px=1)

  def tokens(self, name, text):
    """int32 [T], what is put around the text with it, not padded."""
    return self.texts.tokens(
        name, text if self.config.is_clip else _lowered(text), self.trim_text)

  def bucket(self, inputs):
    """The Shape that holds Inputs, with little room to spare."""
    if inputs.tokens is None:
      return Shape(0, inputs_lib.bucket(len(inputs.pixels)))
    most = self.config.text.max_tokens
    return Shape(min(inputs_lib.bucket(len(inputs.tokens), 16), most)
                 if self.config.is_clip else most)

  def pad(self, inputs, shape):
    """Arrays of several Inputs at one Shape, rows in order.

    Raises ValueError naming the item that does not fit.
    """
    shape = Shape(*shape)
    for one in inputs:
      _check_fits(one, shape)
    if shape.tokens:
      return whole_texts.pad(
          [one.tokens for one in inputs], shape.tokens, self._pad_id)
    seen = list(inputs[0].pixels.shape[1:])
    if self.config.processor.max_patches:
      seen[0] = self.config.processor.max_patches
    pixels = np.zeros((len(inputs), shape.frames, *seen), np.uint8)
    for one, row in zip(inputs, pixels):
      row[:len(one.pixels), :one.pixels.shape[1]] = one.pixels
    grids = [one.grid for one in inputs]
    return {'pixels': pixels, 'n_frames': np.array(
        [len(one.pixels) for one in inputs], np.int32),
            **({'grids': np.array(grids, np.int32)} if grids[0] else {})}


def open_reader(config, tokenizer, trim_text=False, resolution=None,
                alpha='white'):
  """The Reader of a DualEncoderConfig; see Reader."""
  return Reader(config, tokenizer, trim_text, resolution, alpha)


def _around(config, tokenizer):
  """(before, behind): the ids around a text.

  Raises ValueError for a tokenizer whose end is not the one that is embedded.
  """
  if not config.is_clip:
    return (), (tokenizer.end_id,)
  if tokenizer.added is None or not tokenizer.added[1]:
    raise ValueError('the tokenizer puts no end behind a text, where CLIP has '
                     'its embedding: use that of the model')
  before, behind = tokenizer.added
  wanted = config.text.eos_id
  if wanted is not None and wanted not in behind:
    raise ValueError(f'the tokenizer ends a text with {behind}, want '
                     f'{wanted}, the eos_token_id of config.json: use that of '
                     'the model')
  return before, behind


def _lowered(text):
  from tokenizers import normalizers
  return normalizers.Lowercase().normalize_str(text)


def _only(item, prompt=None):
  """(kind, source) of an item: 'text', 'image' or 'video'."""
  kinds, given = seen_lib.media_of(item)
  if len(kinds) + (item.text is not None) > 1:
    found = [*(['text'] if item.text is not None else []), *kinds]
    raise ValueError(
        f'{item.id}: got {", ".join(found)}; this model embeds one text, one '
        'image or one video: give them apart; frames go as one video')
  if not kinds:
    return 'text', item.text
  if prompt:
    raise ValueError(f'{item.id}: it is no text, and this model reads no '
                     f'prompt with {kinds[0]}s: leave the prompt out')
  return kinds[0], given[0]


def _check_fits(inputs, shape):
  got = Shape(0 if inputs.tokens is None else len(inputs.tokens),
              0 if inputs.pixels is None else len(inputs.pixels))
  if bool(got.tokens) != bool(shape.tokens) or got.tokens > shape.tokens or (
      got.frames > shape.frames):
    raise ValueError(f'{inputs.id}: {got.tokens} tokens and {got.frames} '
                     f'frames, the batch has room for {shape.tokens} and '
                     f'{shape.frames}')
