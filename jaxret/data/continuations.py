"""The suffixes whose likelihood is asked for, as tokens, and what ends one."""
import numpy as np

from jaxret.data import text as text_lib
from jaxret.data import types


def suffix_tokens(encode, text, name, placeholders=()):
  """The tokens of a suffix, int32 [L]: of the text as it is, on its own.

  Nothing is put before or behind it: a space or a token that ends an answer is
  scored where the text has it. A prompt keeps its own tokens whatever follows;
  where a tokenizer would write both together with other tokens, at the seam of
  half a word say, these are not the ones.

  Args:
    encode: text -> ids. name: of the suffix, for messages.
    placeholders: tokens that stand for what is seen and cannot be scored.

  Raises:
    ValueError: for what is no text, or has no token to score.
  """
  if not isinstance(text, str):
    raise ValueError(f'{name}: got {type(text).__name__}, want a text')
  if types.is_broken(text):
    raise ValueError(f'{name}: it holds a lone surrogate, half of a character; '
                     'remove it')
  held = [token for token in placeholders if token in text]
  if held:
    raise ValueError(f'{name}: it holds {held[0]}, which stands for what is '
                     'seen; remove it from the text')
  ids = np.asarray(encode(text), np.int32)
  if not len(ids):
    raise ValueError(f'{name}: it is empty, there is no token to score; give '
                     'it a text or leave it out')
  return ids


def ends(encode):
  """Ids of the tokens that end an answer; Qwen's models have two."""
  ids = [encode(token) for token in (text_lib.END, text_lib.PAD)]
  return tuple(id_[0] for id_ in ids if len(id_) == 1)
