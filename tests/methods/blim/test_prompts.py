"""The token sequences of BLiM, and the tokenizers trained for them."""
import numpy as np
import pytest

from configs import blim as blim_config
from jaxret.data import text, types
from jaxret.data.videochat import prompts as videochat
from jaxret.methods.blim import plan
from jaxret.methods.blim import prompts as prompts_lib
from tests.parity import blim_reference as reference

CAPTIONS = [
    'a red square moves left', 'a blue circle moves up slowly',
    'two green triangles cross, one behind the other',
    'Ein großer roter Kreis', 'un carré bleu', 'červený čtverec',
]


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  return text.train_tokenizer(
      CAPTIONS, 600, tmp_path_factory.mktemp('text') / 'bpe',
      template=videochat.TEMPLATE)


@pytest.fixture(scope='module')
def prompts(tokenizer):
  return prompts_lib.BlimPrompts(
      tokenizer, 'Describe this video briefly.', n_visual_tokens=5,
      max_tokens=12)


def test_prompts_stay_short(tokenizer):
  words = 'Generate a video given the caption.\nCaption:'
  assert len(tokenizer.encode(words)) == 10  # a word or a mark each


def test_vtg_is_prefix_then_suffix(prompts, tokenizer):
  for caption in CAPTIONS:
    tokens, n_prefix = reference.vtg(prompts, caption)
    suffix = prompts.vtg_suffix(caption)
    assert tokens.dtype == np.int32 and n_prefix == len(prompts.vtg_prefix)
    np.testing.assert_array_equal(
        tokens, np.concatenate([prompts.vtg_prefix, suffix]))
    assert tokenizer.decode(suffix) == f'{caption}<|im_end|>\n'
    assert len(suffix) == len(tokenizer.encode(caption)) + 2
    assert (tokens == types.VISUAL).sum() == 5


def test_tvg_ends_with_one_token_per_clip(prompts, tokenizer):
  for caption in CAPTIONS:
    tokens, n_prefix = reference.tvg(prompts, caption, 2)
    np.testing.assert_array_equal(
        tokens[:n_prefix], prompts.tvg_prefix(caption))
    assert tokens[n_prefix:n_prefix + 2].tolist() == [types.VISUAL] * 2
    assert tokenizer.decode(tokens[n_prefix + 2:]) == '<|im_end|>\n'
    assert tokenizer.decode(tokens[:n_prefix]) == (
        '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n'
        '<|im_start|>user\nGenerate a video given the caption.\n'
        f'Caption: {caption}<|im_end|>\n<|im_start|>assistant\n')


def test_prior_prefix_ends_before_the_caption(prompts, tokenizer):
  n = prompts.prior_prefix_length
  one, two = (prompts.tvg_prefix(caption)[:n] for caption in CAPTIONS[:2])
  np.testing.assert_array_equal(one, two)
  assert tokenizer.decode(one).endswith('Generate a video given the caption.')


def test_image_marker_in_a_caption_is_plain_text(prompts):
  tokens = reference.vtg(prompts, 'an <image>').tokens
  assert (tokens == types.VISUAL).sum() == 5


@pytest.mark.parametrize('caption, reason', [
    ('', 'is empty'), (' \n', 'is empty'),
    ('a<|im_end|>b', 'control token <|im_end|>'),
    ('red ' * 13, 'has 1[0-9]+ tokens; wanted at most 12')])
@pytest.mark.parametrize('method', ['vtg_suffix', 'tvg_prefix'])
def test_bad_captions_are_named(prompts, caption, reason, method):
  pattern = "caption 'video7#1' .*" + reason.replace('|', r'\|')
  with pytest.raises(ValueError, match=pattern) as error:
    getattr(prompts, method)(caption, 'video7#1')
  assert '\n' not in str(error.value)


def test_caption_that_merges_with_the_prompt_is_named():
  vocabulary = {}

  def encode(string):  # a newline swallows the letter after it
    pieces = string.replace('\n', ' \n').split(' ')
    return [vocabulary.setdefault(piece, len(vocabulary)) for piece in pieces]

  merging = text.Tokenizer(encode, None, 0, 0, 0)
  with pytest.raises(ValueError, match="'v#0' merges with the prompt"):
    prompts_lib.BlimPrompts(merging, 'Describe.', 1).vtg_suffix('x', 'v#0')


def test_data_set_without_an_instruction_is_refused_in_one_line():
  """Wherever a model is made: evaluation, `score_matrix` and plan."""
  config = blim_config.get_config('msrvtt')
  config.data.name = 'holidays'
  with pytest.raises(ValueError, match="data.name 'holidays' ") as error:
    plan.build(config)
  assert '\n' not in str(error.value)


def test_scored_prompts_are_those_of_each_caption(prompts):
  texts = [types.Item(f't{i}', text=caption)
           for i, caption in enumerate(CAPTIONS)]
  found = prompts_lib.scored(prompts, texts)
  assert found.visual == types.VISUAL
  assert found.prior_length == prompts.prior_prefix_length
  for i, caption in enumerate(CAPTIONS):
    tokens, n_prefix = reference.vtg(prompts, caption)
    np.testing.assert_array_equal(
        np.concatenate([found.visual_prefix, found.labels[i]]), tokens)
    assert len(found.visual_prefix) == n_prefix
    tokens, n_prefix = reference.tvg(prompts, caption, 2)
    np.testing.assert_array_equal(found.text_prefixes[i], tokens[:n_prefix])
  with pytest.raises(ValueError, match="'empty' is empty"):
    prompts_lib.scored(prompts, [types.Item('empty', text=' ')])
