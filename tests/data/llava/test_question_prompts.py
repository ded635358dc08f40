"""Questions as texts: templates, and the words of the answer."""
import numpy as np
import pytest

from jaxret.data import text as text_lib
from jaxret.data import types
from jaxret.data.llava import question_prompts as rerank_prompts
from tests import tiny_mm_embed


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  return text_lib.train_tokenizer(
      ['a red dog', 'True or False'], 300,
      tmp_path_factory.mktemp('tokenizer') / 'made',
      control_tokens=('<s>', '</s>', '<image>', '<pad>'), prompts=['[INST] '])


def image(seed):
  return np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)


def question(*modalities):
  return tiny_mm_embed.questions()[modalities]


def test_every_question_has_an_image_per_image_and_asks_for_true_or_false():
  for (query, candidate), template in tiny_mm_embed.questions().items():
    images = f'{query},{candidate}'.split(',').count('image')
    assert template.count('<image>') == images
    assert template.endswith('True or False')
    assert ('{query}' in template) == ('text' in query)
    assert ('{candidate}' in template) == ('text' in candidate)


def test_the_tokenizer_has_read_what_is_asked():
  *read, answers = rerank_prompts.TOKENIZER_TEXTS
  assert set(read) == set(tiny_mm_embed.questions().values())
  assert answers == '[INST] True False [/INST]'


def test_texts_are_filled_in_once():
  """A text that looks like a field stays as it is."""
  query = types.Item('q', 'is {candidate} red?')
  candidate = types.Item('c', '{query} {x}')
  prompt = rerank_prompts.prompt(question('text', 'text'), query, candidate)
  assert prompt.startswith(
      '[INST] {query} {x}\nQuestion: is {candidate} red?\n')
  assert prompt.endswith(' [/INST]')


def test_what_a_question_does_not_fit_is_refused_by_name():
  text, seen = types.Item('q', 'a'), types.Item('c', None, image(0))
  for template, pair, line in (
      (question('text', 'text'), (text, seen), 'has 0 <image> for 1 images'),
      (question('text', 'image'), (text, text), 'has 1 <image> for 0 images'),
      (question('image', 'text'), (text, seen),
       'wants the text of the candidate, which has none')):
    with pytest.raises(ValueError, match=line):
      rerank_prompts.prompt(template, *pair)
  with pytest.raises(ValueError, match='x: its text holds the image'):
    rerank_prompts.prompt(question('text', 'image'),
                          types.Item('x', '<image>'), seen)


def test_answers_start_with_different_tokens(tokenizer):
  for spaced in (True, False):
    ids = rerank_prompts.answer_ids(tokenizer, spaced)
    assert [tokenizer.decode([i]).strip()[:1] for i in ids] == ['T', 'F']
