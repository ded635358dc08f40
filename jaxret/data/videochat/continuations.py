"""Prompts that VideoChat-Flash and Qwen2 continue: items, or a user's turn."""
import re
from typing import NamedTuple

import numpy as np

from jaxret.data import continuations, images, media, types
from jaxret.data import text as text_lib
from jaxret.data.qwen2_vl import prompts as marks_lib
from jaxret.data.qwen2_vl import reader as buckets
from jaxret.data.videochat import prompts as prompts_lib

CONTROL_TOKENS = (text_lib.START, text_lib.END, text_lib.PAD)
_MARK = re.compile('|'.join(map(re.escape, marks_lib.MARKS.values())))


class Prompt(NamedTuple):
  """One prompt before padding.

  tokens: int32 [T], types.VISUAL at each visual token. positions: int32 [T].
  frames: uint8 [F, px, px, 3], none where nothing is seen.
  """
  id: str
  tokens: np.ndarray
  positions: np.ndarray
  frames: np.ndarray


class Reader:
  """Reads items as prompts, see jaxret.models.

  A prompt is the item's text as it is, its one image or video where a mark
  stands, or in front of it; each piece of text is tokenised on its own, as the
  authors do. With `chat` it is a turn of the model's template, the text on a
  line of its own. Qwen2.5 has another system prompt by default than this
  template, that of Qwen2: write it out as a prompt where it matters.

  tokenizer: as data.text.load_tokenizer gives it. frames: {'image', 'video'}
  -> how many, image_px: their side, tokens: {'image', 'video'} -> of each; {}
  for a model that reads text alone. max_tokens: of a prompt. limit_s: seconds
  of a video that are seen, None = all.
  """

  def __init__(self, tokenizer, frames, image_px, tokens, max_tokens=4096,
               alpha='white', limit_s=None):
    self._encode, self.decode = tokenizer.encode, tokenizer.decode
    self._frames, self._px, self._tokens = frames, image_px, tokens
    self.max_tokens, self.alpha = max_tokens, images.check_alpha(alpha)
    self._limit_s = limit_s
    self.ends = continuations.ends(tokenizer.encode)

  def __call__(self, item, chat=False):
    """The Prompt of an item; ValueError or MediaError that names it."""
    kind = self._kind(item)
    tokens = self._laid_out(item, kind, chat)
    frames = np.zeros((0, self._px, self._px, 3), np.uint8)
    if kind:
      frames = media.load_frames(
          item, self._frames[kind], self._px, self._limit_s, self.alpha)
    return Prompt(item.id, tokens, np.arange(len(tokens), dtype=np.int32),
                  frames)

  def masked(self, item, chat=False):
    """The same without its visual tokens, which are not read.

    No token attends to them and the others stay where they stand.
    """
    tokens = self._laid_out(item, self._kind(item), chat)
    if tokens[-1] == types.VISUAL:
      raise ValueError(f'{item.id}: it ends in what is seen, which is masked; '
                       'give it a text behind, or leave mask_media out')
    text = tokens != types.VISUAL
    return Prompt(item.id, tokens[text], np.flatnonzero(text).astype(np.int32),
                  np.zeros((0, self._px, self._px, 3), np.uint8))

  def _kind(self, item):
    """'image', 'video' or None: what an item shows."""
    if item.text is not None and not isinstance(item.text, str):
      raise ValueError(f'{item.id}: its text is {type(item.text).__name__}; '
                       'want a string')
    kinds = [kind for kind in buckets.KINDS if getattr(item, kind) is not None]
    if kinds and not self._frames:
      raise ValueError(f'{item.id}: it has {_a(kinds[0])}, the model reads '
                       'text alone: use one that sees')
    if len(kinds) > 1 or kinds == ['image'] and isinstance(item.image, tuple):
      raise ValueError(f'{item.id}: it shows several media, want one image or '
                       'one video')
    return kinds[0] if kinds else None

  def _laid_out(self, item, kind, chat):
    refused = CONTROL_TOKENS if chat else ()
    body = marks_lib.marked(marks_lib.Content(
        item.text or '', {name: int(name == kind) for name in buckets.KINDS},
        item.order), item.id, refused, between='\n' if chat else '').text
    if chat:
      body = (f'{prompts_lib.SYSTEM}{prompts_lib.USER}{body}'
              f'{prompts_lib.ANSWER}')
    visual = [types.VISUAL] * self._tokens.get(kind, 0)
    first, *rest = map(self._encode, _MARK.split(body))
    tokens = np.array(sum((visual + piece for piece in rest), first), np.int32)
    if not len(tokens):
      raise ValueError(f'{item.id}: it is empty, nothing to continue; give it '
                       'a text or a medium')
    if len(tokens) > self.max_tokens:
      raise ValueError(f'{item.id}: {len(tokens)} tokens, want at most '
                       f'{self.max_tokens}: shorten its text, or raise '
                       'max_tokens')
    return tokens

  def bucket(self, prompt):
    """(tokens, frames) of a padded prompt."""
    return buckets.bucket(len(prompt.tokens), 16), len(prompt.frames)

  def pad(self, prompts, shape):
    """Arrays of several Prompts at one bucket, for VideoChat.start."""
    size, n_frames = shape
    out = {'length': np.array([len(one.tokens) for one in prompts], np.int32)}
    for name in ('tokens', 'positions'):
      out[name] = np.zeros((len(prompts), size), np.int32)
      for row, one in zip(out[name], prompts):
        row[:len(one.tokens)] = getattr(one, name)
    if n_frames:
      out['frames'] = np.stack([one.frames for one in prompts])
    return out

  def suffix(self, text, name):
    """The tokens of a suffix that are scored, int32 [L]."""
    return continuations.suffix_tokens(
        self._encode, text, name, tuple(marks_lib.MARKS.values()))


def _a(kind):
  return 'an image' if kind == 'image' else f'a {kind}'


def open_reader(config, tokenizer, max_tokens=4096, alpha='white',
                limit_s=None):
  """The Reader of a models.videochat.generator.GeneratorConfig.

  limit_s: of a video, see Reader; a model's own files have none.
  Raises ValueError if max_tokens are more than the model is right for.
  """
  config.decoder.check_length(max_tokens)
  if config.vision is None:
    return Reader(tokenizer, {}, 0, {}, max_tokens, alpha)
  clips = {'image': 1, 'video': config.clips}
  return Reader(
      tokenizer, {'image': 1, 'video': config.clips * config.vision.n_frames},
      config.vision.image_px,
      {kind: n * config.tokens_per_clip for kind, n in clips.items()},
      max_tokens, alpha, limit_s)
