"""VideoChat-Flash's chat template: that of Qwen2, with videos in the question.

Source: the authors' code of BLiM (base_dataset.py), arXiv 2507.23284.
"""
import numpy as np

from jaxret.data import text, types

SYSTEM = f'{text.START}system\nYou are a helpful assistant.{text.END}\n'
USER = f'{text.START}user\n'
ANSWER = f'{text.END}\n{text.START}assistant\n'
# BLiM turns the model round, and asks it for the video.
GENERATE = 'Generate a video given the caption.'

# A small tokenizer is trained on these besides its captions, so that prompts
# stay short: `template` of text.train_tokenizer. The work directories of BLiM
# and LECCR hold tokenizers of exactly these texts, whatever their data set.
TEMPLATE = (
    SYSTEM, USER, ANSWER, f'{GENERATE}\nCaption:',
    'Describe this video briefly.', 'Describe this video in detail.',
    'Describe this video in one sentence.')


def question(instruction):
  """What follows the visual tokens, up to the answer."""
  return f'\n{instruction}{ANSWER}'


def visual_prefix(tokenizer, instruction, n_visual_tokens):
  """All up to the answer, int32 [S], types.VISUAL at each visual token.

  Each piece beside the visual tokens is tokenised on its own, as the authors
  do. tokenizer: anything with `encode(text) -> ids`.
  """
  return np.asarray(
      tokenizer.encode(SYSTEM + USER) + [types.VISUAL] * n_visual_tokens
      + tokenizer.encode(question(instruction)), np.int32)
