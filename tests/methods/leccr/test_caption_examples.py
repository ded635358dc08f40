"""Prompts of a captioner: a picture, a question and the answer."""
import numpy as np
import pytest

from jaxret.data import text, types
from jaxret.methods.leccr import caption_examples, captioner
from tests import tiny_captioner
from tests.tiny_captioner import CAPTIONS, media


def test_training_reads_the_answer_after_the_question(tmp_path):
  """The tokens that count are those of the caption and its end."""
  config = tiny_captioner.make_config()
  tokenizer = text.train_tokenizer(
      CAPTIONS, 400, tmp_path / 'tokenizer', caption_examples.CONTROL_TOKENS)
  reader = captioner.reader(config, tokenizer)
  split = types.Split(
      'x', 'train', tuple(media()[:2]),
      (types.Item('0', text=CAPTIONS[0]), types.Item('1', text=CAPTIONS[1])),
      np.array([0, 1], np.int32))
  examples = caption_examples.CaptionExamples(reader, split)
  for i in range(2):
    example = examples[i]
    answer = example['tokens'][example['prompt_length']:example['length']]
    assert tokenizer.decode(answer) == f'{CAPTIONS[i]}{text.END}'
    asked = tokenizer.decode(example['tokens'][:example['prompt_length']])
    assert asked.endswith(
        f'in details.{text.END}\n{text.START}assistant\n')
  assert examples[0]['tokens'].shape == examples[1]['tokens'].shape
  assert examples[0]['patches'].shape == examples[1]['patches'].shape


def test_what_cannot_be_asked_is_named(tmp_path):
  """Nothing to see, and a prompt longer than the model may read."""
  config = tiny_captioner.make_config()
  tokenizer = tiny_captioner.make_tokenizer(tmp_path, config)
  image = media()[0]
  n_tokens = len(captioner.reader(config, tokenizer)(image).tokens)
  with config.unlocked():
    config.max_tokens = n_tokens
  reader = captioner.reader(config, tokenizer)
  assert len(reader(image).tokens) == n_tokens
  answered = types.Item('long', text='red', image=image.image)
  with pytest.raises(ValueError, match=(
      f'long: .* tokens, want at most {n_tokens}: use fewer frames')):
    reader(answered)
  with pytest.raises(ValueError, match='words: it has no image or video to'):
    reader(types.Item('words', text='red'))
