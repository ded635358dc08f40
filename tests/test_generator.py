"""What continues prompts is opened from files, or refused in one line."""
import json
import pathlib
import shutil

import numpy as np
import pytest

import jaxret
from tests import test_sequences, tiny_generators

SAVED = pathlib.Path(__file__).parent / 'models' / 'checkpoints' / '5.24.0'
WORDS = ('<|endoftext|>', '<|im_start|>', '<|im_end|>', *map(str, range(3, 28)),
         '<|image_pad|>', '<|video_pad|>', '<|vision_start|>',
         '<|vision_end|>')


def checkpoint(case, directory):
  """A saved checkpoint with a tokenizer of words that are numbers."""
  import tokenizers
  shutil.copytree(SAVED / case, directory, dirs_exist_ok=True)
  fast = tokenizers.Tokenizer(tokenizers.models.WordLevel(
      {word: i for i, word in enumerate(WORDS)}, unk_token='3'))
  fast.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  fast.add_special_tokens([w for w in WORDS if w.startswith('<')])
  fast.save(str(directory / 'tokenizer.json'))
  (directory / 'tokenizer_config.json').write_text(json.dumps(
      {'pad_token': WORDS[0], 'eos_token': WORDS[2]}))
  return directory


@pytest.mark.parametrize('case', ['qwen2_vl_untied', 'qwen2_vl_tied'])
def test_a_saved_model_scores(case, tmp_path):
  model = jaxret.load_generator(
      checkpoint(case, tmp_path), resolution=tiny_generators.RESOLUTION)
  assert repr(model).startswith('Generator(qwen2_vl, ')
  item = {'image': tiny_generators.pixels(0, 28, 28), 'text': '7 8 9'}
  found = jaxret.score_sequences([item, '5'], ['4 5', '6'], model,
                                 show_progress=False)
  want = [[test_sequences.whole_pass(model, prefix, suffix).sum()
           for suffix in ('4 5', '6')] for prefix in (item, '5')]
  np.testing.assert_allclose(found, want, atol=1e-4)


def test_a_model_may_be_named_by_its_directory(tmp_path):
  path = checkpoint('qwen2_vl_tied', tmp_path)
  given = ['4 5 6'], ['7 8', '9']
  np.testing.assert_array_equal(
      jaxret.score_sequences(*given, path, show_progress=False),
      jaxret.score_sequences(*given, jaxret.load_generator(path),
                             show_progress=False))


def test_like_configs_share_what_is_compiled():
  one, other = (tiny_generators.qwen2_vl() for _ in range(2))
  assert one.continuation is other.continuation


@pytest.mark.parametrize('case, change, options, said', [
    ('qwen2_vl_bare', {}, {}, 'lm_head'),
    ('clip', {}, {}, "got model_type 'clip', want .*qwen2_vl"),
    ('qwen2_vl_tied', {'model_type': 'gpt_bigcode'}, {},
     "got model_type 'gpt_bigcode', want .*qwen2_vl"),
    ('qwen2_vl_tied', {}, {'alpha': 'black'}, 'alpha'),
    ('qwen2_vl_tied', {}, {'dtype': 'int8'}, 'dtype'),
])
def test_what_cannot_be_opened_is_one_line(
    case, change, options, said, tmp_path):
  path = checkpoint(case, tmp_path) / 'config.json'
  path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
  with pytest.raises(ValueError, match=said) as error:
    jaxret.load_generator(tmp_path, **options)
  assert '\n' not in str(error.value)
