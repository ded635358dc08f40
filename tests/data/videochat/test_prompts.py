"""The chat template against its text; the tokenizers that are trained on it."""
import hashlib
import json

import numpy as np
import pytest

from jaxret.data import text, types
from jaxret.data.videochat import prompts

CAPTIONS = [
    'a red square moves left', 'a blue circle moves up slowly',
    'two green triangles cross, one behind the other',
    'Ein großer roter Kreis', 'un carré bleu', 'červený čtverec',
]


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  directory = tmp_path_factory.mktemp('videochat') / 'bpe'
  text.train_tokenizer(CAPTIONS, 600, directory, template=prompts.TEMPLATE)
  return directory


@pytest.mark.parametrize('n_visual', [1, 5])
def test_prefix_asks_after_the_visual_tokens(directory, n_visual):
  tokenizer = text.load_tokenizer(directory)
  tokens = prompts.visual_prefix(tokenizer, 'What is this?', n_visual)
  assert tokens.dtype == np.int32
  place, = np.nonzero(tokens == types.VISUAL)
  np.testing.assert_array_equal(place, place[0] + np.arange(n_visual))
  assert tokenizer.decode(tokens[:place[0]]) == (
      '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n'
      '<|im_start|>user\n')
  assert tokenizer.decode(tokens[place[-1] + 1:]) == (
      '\nWhat is this?<|im_end|>\n<|im_start|>assistant\n')


def test_tokenizers_are_those_of_earlier_work_directories(directory):
  """Their fingerprint names captions and size alone; so do the new ones."""
  found = json.loads((directory / 'trained_on.json').read_text())
  assert found['fingerprint'] == hashlib.sha256(
      json.dumps([CAPTIONS, 600]).encode()).hexdigest()
  # Ids of a tokenizer that was trained before the template was passed in.
  encode = text.load_tokenizer(directory).encode
  assert encode('<|im_start|>user\nGenerate a video given the caption.\n'
                'Caption: a red square moves left<|im_end|>\n') == [
      1, 395, 201, 412, 271, 287, 405, 297, 410, 16, 201, 411, 28, 271, 356,
      370, 286, 357, 2, 201]
  assert encode('Describe this video in one sentence. in detail.') == [
      301, 298, 287, 329, 300, 421, 16, 329, 418, 16]
