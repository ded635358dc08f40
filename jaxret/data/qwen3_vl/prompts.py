"""Qwen3-VL's prompts: turns, media, and what its embedder is told.

Source: spec §2 and §3, the authors' scripts and the chat template. An
embedding is read at the last token of a prompt, which the tokenizer's own file
may end by another one.
"""
import unicodedata

from jaxret.data import question_frames
from jaxret.data.qwen2_vl import prompts as qwen2_vl

PADS = qwen2_vl.PADS
CONTROL_TOKENS = qwen2_vl.CONTROL_TOKENS
INSTRUCTION = "Represent the user's input."
START, END = '<|im_start|>', '<|im_end|>'


def turn(role, content):
  return f'{START}{role}\n{content}{END}\n'


def prompt(shown, system=None):
  """The user's turn behind a system's, if any, and the assistant's header."""
  before = '' if system is None else turn('system', system)
  return f'{before}{turn("user", shown)}{START}assistant\n'


def content(media, text):
  """What is shown, in the order videos, images, and then said, str or None.

  media: see `video` and `image`.
  """
  if not media and text is None:
    return question_frames.NOTHING
  return ''.join([*media, text or ''])


def embedding_prompt(shown, instruction=None):
  """What an embedding of a `content` is read of.

  instruction: what it is embedded for, default INSTRUCTION; a full stop is put
  behind it unless it ends in punctuation.
  """
  instruction = (instruction or '').strip()
  if instruction and not unicodedata.category(instruction[-1]).startswith('P'):
    instruction += '.'
  return prompt(shown, instruction or INSTRUCTION)


def image():
  """One placeholder, which becomes as many as there are tokens."""
  return qwen2_vl.seen('image')


def video(seconds):
  """The same for each temporal patch, behind its time; seconds: list of str.

  This takes the place of a video's mark whole, as for the authors and for
  transformers 4.57; 5.24 leaves a start and an end too many around it.
  """
  return ''.join(f'<{time} seconds>{qwen2_vl.seen("video")}'
                 for time in seconds)


def check(name, text, what='text'):
  """Raises ValueError for a text that holds a token or mark of the prompt."""
  held = [token for token in CONTROL_TOKENS if token in text]
  if held:
    raise ValueError(f'{name}: its {what} holds the control token {held[0]}; '
                     'remove it from the text')
  marks = [mark for mark in qwen2_vl.MARKS.values() if mark in text]
  if marks:
    raise ValueError(f'{name}: its {what} holds the mark {marks[0]}; Qwen3-VL '
                     'shows media before all texts: remove it from the text')
