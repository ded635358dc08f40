"""`jaxret.answer` against full passes, a question and a choice at a time."""
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxret
from jaxret import answers
from jaxret.data import types
from jaxret.models import decoder as decoder_lib
from tests import tiny_generators

# Of one size, so that few programs are compiled.
ITEMS = [{'image': tiny_generators.pixels(0, 56, 56)},
         {'image': tiny_generators.pixels(1, 56, 56), 'id': 'second'},
         {'image': tiny_generators.pixels(0, 56, 56)}]
QUESTIONS = ['a dog runs', 'two dogs run', 'a dog runs']
# 'a dog' begins another choice; as many choices as they like.
CHOICES = [('yes', 'no'), ('a dog', 'a dog runs', 'no'), ('a cat',)]
MIXED = (
    [*ITEMS, {'video': tiny_generators.pixels(4, 4, 56, 56)},
     {'image': tiny_generators.pixels(3, 28, 56), 'text': 'a photo'}],
    [*QUESTIONS, 'two dogs', 'two cats'],
    [*CHOICES, ('a dog runs on the grass', 'no', 'two', 'yes'), ('a', 'two')])


@pytest.fixture(scope='module')
def model():
  return tiny_generators.qwen2_vl()


@pytest.fixture(scope='module')
def found(model):
  return jaxret.answer(ITEMS, QUESTIONS, CHOICES, model, alpha=0.6,
                       show_progress=False)


@functools.lru_cache
def _log_probabilities(model):
  module = model.module

  @jax.jit
  def of(arrays, masked):
    def apply(method, *args):
      return module.apply(model.params, *args, method=method)
    visual = apply('visual_tokens', arrays['patches'], arrays['segments'],
                   arrays['coordinates'])
    x = apply('embed', arrays['tokens'], visual, arrays['visual_index'])
    keys = decoder_lib.length_mask(arrays['length'], x.shape[1])
    keys &= ~(masked & (arrays['visual_index'] >= 0))
    hidden = apply('hidden', x, keys, arrays['positions'])
    logits = sum(left @ right for left, right in apply(
        'vocabulary_terms', hidden))
    return jax.nn.log_softmax(logits.astype(jnp.float32))
  return of


def full_pass(model, item, question, choice, masked, end='<|im_end|>'):
  """log P of each token of a choice: whole prompt and choice in one pass."""
  reader = model.reader
  text = '\n'.join(filter(None, (item.get('text'), question)))
  prompt = reader(types.Item('x', text, item.get('image'), item.get('video')),
                  True)
  ids = reader.suffix(f'{choice}{end}', 'x')
  places = prompt.positions[:, -1:] + 1 + np.arange(len(ids))
  whole = prompt._replace(
      tokens=np.concatenate([prompt.tokens, ids]),
      positions=np.concatenate([prompt.positions, places], 1))
  arrays = reader.pad([whole], reader.bucket(whole))
  rows = _log_probabilities(model)(arrays, masked)[0]
  start = len(prompt.tokens)
  return np.array([rows[start - 1 + i, token] for i, token in enumerate(ids)])


@pytest.mark.parametrize('given, length_normalized, score_end, columns', [
    ((ITEMS, QUESTIONS, CHOICES), True, True, 64),
    pytest.param(MIXED, True, True, 64, marks=pytest.mark.slow),
    # So few that each question is scored with its own choices alone.
    pytest.param(MIXED, False, False, 3, marks=pytest.mark.slow)])
def test_scores_are_those_of_full_passes(
    model, given, length_normalized, score_end, columns):
  found = jaxret.answer(
      *given, model, alpha=0.6, score_end=score_end, columns=columns,
      length_normalized=length_normalized, show_progress=False)
  reduced = np.mean if length_normalized else np.sum
  for n, (item, question, own) in enumerate(zip(*given)):
    for c, choice in enumerate(own):
      seen, blind = (reduced(full_pass(
          model, item, question, choice, masked,
          '<|im_end|>' if score_end else '')) for masked in (False, True))
      np.testing.assert_allclose(found.likelihood[n, c], seen, atol=1e-4)
      np.testing.assert_allclose(found.prior[n, c], blind, atol=1e-4)
      np.testing.assert_allclose(found.scores[n, c], seen - 0.6 * blind,
                                 atol=1e-4)
    assert np.isnan(found.likelihood[n, len(own):]).all()
    assert np.isneginf(found.scores[n, len(own):]).all()
    best = max(range(len(own)), key=lambda c, n=n: found.scores[n, c])
    assert found.index[n] == best and found.texts[n] == own[best]


def test_alpha_may_change_afterwards(model, found):
  plain = jaxret.answer(ITEMS, QUESTIONS, CHOICES, model, show_progress=False)
  assert plain.alpha == 0.0 and plain.prior is None
  np.testing.assert_array_equal(plain.scores, found.at(0.0).scores)
  with pytest.raises(ValueError, match='no prior to subtract'):
    plain.at(0.5)
  with pytest.raises(ValueError, match='the prior was not scored'):
    plain.choose_alpha([0, 0, 0])
  right = [0, 'no', 0]
  best = max((found.at(a).accuracy(right), -a) for a in np.arange(11) / 10)
  assert found.at(found.choose_alpha(right)).accuracy(right) == best[0]


def test_the_prior_does_not_see_the_item(found, model):
  """The same question about another picture of that size: the same prior."""
  others = [dict(item, image=255 - item['image']) for item in ITEMS]
  other = jaxret.answer(others, QUESTIONS, CHOICES, model, alpha=0.6,
                        show_progress=False)
  np.testing.assert_allclose(other.prior, found.prior, atol=1e-6)
  assert np.nanmax(np.abs(other.likelihood - found.likelihood)) > 1e-3


@pytest.mark.slow
def test_yes_no_and_one_question_for_all(model):
  found = jaxret.answer(ITEMS, 'a dog runs', ('yes', 'no'), model,
                        alpha=1.0, show_progress=False)
  right = ['yes', 'no', 'no']
  report = found.yes_no(right)
  assert report['accuracy'] == pytest.approx(100 * np.mean(
      [text == wanted for text, wanted in zip(found.texts, right)]))
  assert report['yes_share'] == pytest.approx(
      100 * np.mean([text == 'yes' for text in found.texts]))
  with pytest.raises(ValueError, match='wanted yes and no'):
    jaxret.answer(ITEMS[:1], 'a', ('yes', 'maybe'), model,
                  show_progress=False).yes_no(['yes'])


def test_to_pandas_has_a_row_per_choice(found):
  table = found.to_pandas()
  assert len(table) == sum(map(len, CHOICES))
  assert table.text.tolist() == [text for own in CHOICES for text in own]
  assert table[table.chosen].text.tolist() == list(found.texts)
  np.testing.assert_allclose(
      table.score, table.likelihood - np.float32(0.6) * table.prior, atol=1e-6)


BAD = [
    ({'choices': []}, 'it has no choices'),
    ({'choices': [('yes',), ()]}, 'second: it has no choices'),
    ({'choices': ('yes', 'yes')}, "'yes' is there twice"),
    ({'choices': 'yes'}, 'got one text'),
    ({'choices': [('yes',)] * 3}, 'got 3 choices for 2 items'),
    ({'choices': ('yes', ' ')}, "' ' is no text"),
    ({'choices': ('yes', '<|image_pad|>')}, 'stands for what is'),
    ({'questions': ['what']}, 'got 1 questions for 2 items'),
    ({'questions': ' '}, 'its question is'),
    ({'items': []}, 'items: got none'), ({'items': {'image': 'x'}}, 'got one'),
    ({'items': [{'image': 'x', 'text': ['a', 'b']}] * 2}, 'text is tuple'),
    ({'alpha': 1.5}, 'alpha is 1.5'), ({'alpha': -0.1}, 'alpha is -0.1'),
    ({'items': ['a text', 'b'], 'alpha': 0.5}, 'no image and no video'),
    ({'items': [{'image': 'nowhere.png'}] * 2}, 'nowhere.png')]


@pytest.mark.parametrize('change, message', BAD)
def test_bad_input_is_one_line(model, change, message):
  given = {'items': ITEMS[:2], 'questions': 'a dog runs',
           'choices': ('yes', 'no'), 'alpha': 0.0, **change}
  with pytest.raises(ValueError) as error:
    jaxret.answer(given['items'], given['questions'], given['choices'], model,
                  alpha=given['alpha'], show_progress=False)
  assert message in str(error.value) and '\n' not in str(error.value)


def test_what_cannot_be_used_has_no_answer(model):
  wrong = []
  found = jaxret.answer(
      [ITEMS[0], {'image': 'nowhere.png'}, ITEMS[1]], 'a dog runs',
      [('yes', 'no'), ('yes', 'no'), ('yes', '<|video_pad|>')], model,
      alpha=0.5, on_error=wrong.append, show_progress=False)
  assert found.texts[0] is not None and found.texts[1:] == (None, None)
  assert found.index.tolist()[1:] == [-1, -1]
  assert any('nowhere.png' in str(one) for one in wrong)
  assert any(str(one).startswith('second: choice 1') for one in wrong)


def test_a_question_with_a_number_that_is_none_has_no_answer(
    model, monkeypatch):
  """One of its choices: the others are not compared without it."""
  whole = answers.sequences.score_sequences

  def broken(prompts, *args, mask_media, **kwargs):
    found = whole(prompts, *args, mask_media=mask_media, **kwargs)
    found[0, 1] = np.nan if mask_media else found[0, 1]
    return found
  monkeypatch.setattr(answers.sequences, 'score_sequences', broken)
  found = jaxret.answer(ITEMS[:2], QUESTIONS[:2], ('yes', 'no', 'two'), model,
                        alpha=0.5, show_progress=False)
  assert found.index[0] == -1 and np.isneginf(found.scores[0]).all()
  assert found.texts[1] is not None
  for count in (found.accuracy, found.choose_alpha):
    with pytest.raises(ValueError, match='question 0 has no scores'):
      count([0, 0])


@pytest.mark.parametrize('right', ['maybe', 1.0, True, -1, 2, None, ['yes']])
def test_a_right_answer_is_a_choice_or_its_number(found, right):
  with pytest.raises(ValueError, match='question 0: .* is no choice of'):
    found.accuracy([right, 'no', 0])
  with pytest.raises(ValueError, match='question 0: .* is no choice of'):
    found.choose_alpha([right, 'no', 0])


def test_an_alpha_counts_for_how_it_was_chosen(tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps({
      'method': 'answers',
      'eval': {'length_normalized': False, 'score_end': True}}))
  def write(alpha):
    (tmp_path / 'results.json').write_text(json.dumps(
        {'weights': {'all questions': {'cpn': {'alpha': alpha}}}}))
  write(0.7)
  assert answers.chosen_alpha(tmp_path, False, True) == 0.7
  with pytest.raises(ValueError, match='its alpha = 0.7 was chosen with eval.'
                     'length_normalized = False, got length_normalized = True'):
    answers.chosen_alpha(tmp_path, True, True)
  with pytest.raises(ValueError, match='eval.score_end = True, got'):
    answers.chosen_alpha(tmp_path, False, False)
  write(0.0)
  assert answers.chosen_alpha(tmp_path, True, True) == 0.0
