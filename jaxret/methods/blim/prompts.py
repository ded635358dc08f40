"""The exact token sequences that BLiM scores (spec §2)."""
import numpy as np

from jaxret.data import text, types
from jaxret.data.videochat import prompts as videochat
from jaxret.scoring.likelihood import score


def scored(prompts, texts):
  """score.Prompts of a set of texts (Items); prompts: a BlimPrompts."""
  return score.Prompts(
      prompts.vtg_prefix,
      tuple(prompts.vtg_suffix(t.text, t.id) for t in texts),
      tuple(prompts.tvg_prefix(t.text, t.id) for t in texts),
      prompts.prior_prefix_length, types.VISUAL)


class BlimPrompts:
  """Turns a caption into the two sequences of BLiM.

  Caption given video (VTG): VISUAL x n_visual_tokens comes first, the caption,
  <|im_end|> and the newline are scored. Video given caption (TVG): the clips
  come last and are scored.

  tokenizer: anything with `encode(text) -> ids` and `pad_id`.
  max_tokens: the longest caption allowed, in tokens; None = no limit.
  Every method takes the caption and, for error messages, its id. Errors:
  ValueError naming the caption when it is empty, too long, holds a control
  token, or would merge with the prompt before it.
  """

  def __init__(self, tokenizer, instruction, n_visual_tokens, max_tokens=None):
    self._encode = tokenizer.encode
    self.pad_id = tokenizer.pad_id
    self.max_tokens = max_tokens
    self._question = videochat.question(instruction)
    self._question_ids = self._encode(self._question)
    self.vtg_prefix = videochat.visual_prefix(
        tokenizer, instruction, n_visual_tokens)
    self._tvg_frame = len(self._encode(_request('')))
    self._n_end = len(self._encode(f'{text.END}\n'))

  @property
  def prior_prefix_length(self):
    """Tokens of the caption-free TVG prefix that the video prior may see.

    The authors' `get_tvg_prefix_length`: the turn without a caption, less its
    last two tokens. For Qwen2: 21.
    """
    return len(self._encode(
        f'{videochat.SYSTEM}{videochat.USER}{videochat.GENERATE}{text.END}\n'
    )) - 2

  def vtg_suffix(self, caption, caption_id=None):
    """The scored tokens of the caption: int32 [L + 2]."""
    caption = checked(caption, caption_id)
    ids = self._encode(f'{self._question}{caption}{text.END}\n')
    n_question = len(self._question_ids)
    # The authors assert the same: the prompt keeps its own tokens.
    if ids[:n_question] != self._question_ids:
      raise ValueError(
          f'{_named(caption, caption_id)} merges with the prompt before it '
          'into one token; change its first character')
    n_caption = len(ids) - n_question - self._n_end
    self._limit(n_caption, caption, caption_id)
    return np.asarray(ids[n_question:], np.int32)

  def tvg_prefix(self, caption, caption_id=None):
    """Tokens before the first clip: int32 [S]."""
    caption = checked(caption, caption_id)
    ids = self._encode(_request(f' {caption}'))
    self._limit(len(ids) - self._tvg_frame, caption, caption_id)
    return np.asarray(ids, np.int32)

  def _limit(self, n_tokens, caption, caption_id):
    if self.max_tokens is not None and n_tokens > self.max_tokens:
      raise ValueError(
          f'{_named(caption, caption_id)} has {n_tokens} tokens; wanted at '
          f'most {self.max_tokens}: shorten it or raise the limit')


def _request(caption):
  return (f'{videochat.SYSTEM}{videochat.USER}{videochat.GENERATE}\n'
          f'Caption:{caption}{videochat.ANSWER}')


def checked(caption, caption_id):
  if not caption.strip():
    raise ValueError(
        f'{_named(caption, caption_id)} is empty; give it a text '
        'or remove it')
  held = [mark for mark in (text.PAD, text.START, text.END) if mark in caption]
  if held:
    raise ValueError(
        f'{_named(caption, caption_id)} holds the control token {held[0]}; '
        'remove it from the caption')
  return caption


def _named(caption, caption_id):
  return f'caption {caption[:40] if caption_id is None else caption_id!r}'
