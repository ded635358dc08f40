"""What a captioner reads: a picture, a question, and in training the answer.

The prompt is Qwen2-VL's chat template. The questions are those of the config.
"""
import numpy as np

from jaxret.data import text, types
from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.data.qwen2_vl import prompts as prompts_lib
from jaxret.data.qwen2_vl import reader as reader_lib

CONTROL_TOKENS = prompts_lib.CONTROL_TOKENS


def prompt(kinds, question):
  """The turn of a user who shows media and asks."""
  media = ''.join(prompts_lib.seen(kind) for kind in kinds)
  return prompts_lib.chat(f'{media}{question}')


class CaptionReader(reader_lib.Reader):
  """Turns Items of one image or video into prompts that ask for a description.

  questions: {'image', 'video'} -> text. An Item with a text has it as the
  answer, with the token that ends it.
  """

  def __init__(self, tokenizer, resolution, questions, max_tokens,
               cache_bytes=0, layout=visual_tokens.QWEN2_VL):
    super().__init__(tokenizer, resolution, max_tokens,
                     cache_bytes=cache_bytes, mrope=True, layout=layout)
    self._questions = dict(questions)

  def tokens(self, item, kinds, grids):
    """The prompt and the answer of an item, int32 [T]."""
    if not kinds:
      raise ValueError(f'{item.id}: it has no image or video to describe')
    answer = '' if item.text is None else f'{item.text}{text.END}'
    ids = self.expanded(
        prompt(kinds, self._questions[kinds[0]]) + answer, kinds, grids)
    if len(ids) > self.max_tokens:
      raise ValueError(
          f'{item.id}: {len(ids)} tokens, want at most {self.max_tokens}: '
          'use fewer frames or smaller images, or raise max_tokens')
    return ids


class CaptionExamples:
  """One example per caption of a split: arrays as reader.pad gives them.

  prompt_length: int32, how many tokens come before the answer. shape: a
  reader.Shape to pad to; default: measured, from the headers of all media.
  Errors: ValueError naming the caption for what cannot be used.
  """

  def __init__(self, reader, split, shape=None):
    self.constants = {}
    self.ids = [caption.id for caption in split.texts]
    self._reader = reader
    self._items = [
        types.Item(caption.id, caption.text, split.videos[owner].image,
                   split.videos[owner].video)
        for caption, owner in zip(split.texts, split.text_video)]
    self.shape = shape or reader_lib.common_shape(
        {reader.shape(item) for item in self._items})

  def __len__(self):
    return len(self._items)

  def __getitem__(self, index):
    item = self._items[index]
    inputs = self._reader(item)
    question = types.Item(item.id, None, item.image, item.video)
    arrays = self._reader.pad([inputs], self.shape)
    example = {name: array[0] for name, array in arrays.items()}
    example['prompt_length'] = np.int32(len(
        self._reader.tokens(question, inputs.kinds, inputs.grids)))
    return example
