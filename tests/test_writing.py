"""`jaxret.generate`: greedy, greedy with CPN, and what it is given."""
import numpy as np
import pytest

import jaxret
from jaxret.data import types
from tests import test_answers, tiny_generators

ITEMS = [{'image': tiny_generators.pixels(i, 56, 56)} for i in range(4)]
MIXED = [*ITEMS[:2], {'video': tiny_generators.pixels(4, 4, 56, 56)},
         {'image': tiny_generators.pixels(3, 28, 56), 'text': 'a photo'}]
PROMPT = 'a dog runs'
TOKENS = 5


@pytest.fixture(scope='module')
def model():
  return tiny_generators.qwen2_vl()


def naive(model, item, alpha, plausibility):
  """One token at a time by whole passes, the second without media's keys."""
  reader, ids = model.reader, []
  text = '\n'.join(filter(None, (item.get('text'), PROMPT)))
  prompt = reader(types.Item('x', text, item.get('image'), item.get('video')),
                  True)
  for _ in range(TOKENS):
    places = prompt.positions[:, -1:] + 1 + np.arange(len(ids))
    whole = prompt._replace(
        tokens=np.concatenate([prompt.tokens, np.array(ids, np.int32)]),
        positions=np.concatenate([prompt.positions, places], 1))
    arrays = reader.pad([whole], reader.bucket(whole))
    seen, blind = (np.asarray(test_answers._log_probabilities(model)(
        arrays, masked)[0, len(whole.tokens) - 1]) for masked in (False, True))
    scores = np.where(seen >= np.log(plausibility) + seen.max(),
                      seen - alpha * blind, -np.inf)
    ids.append(int(scores.argmax()))
    if ids[-1] in reader.ends:
      return reader.decode(ids[:-1]).strip(), len(ids), True
  return reader.decode(ids).strip(), TOKENS, False


@pytest.mark.parametrize('items, alpha, plausibility', [
    (ITEMS, 0.0, 0.1), (ITEMS, 0.8, 0.3),
    pytest.param(MIXED, 0.8, 0.3, marks=pytest.mark.slow)])
def test_texts_are_those_of_whole_passes(model, items, alpha, plausibility):
  found = jaxret.generate(
      items, PROMPT, model, max_tokens=TOKENS, alpha=alpha, batch_size=4,
      plausibility=plausibility, show_progress=False)
  for one, item in zip(found, items):
    assert tuple(one) == naive(model, item, alpha, plausibility)


def test_texts_do_not_depend_on_their_batch(model):
  def write(items, batch_size):
    return jaxret.generate(items, PROMPT, model, max_tokens=TOKENS, alpha=0.8,
                           batch_size=batch_size, show_progress=False)
  together = write(ITEMS, 4)
  assert write(ITEMS[::-1], 2)[::-1] == together
  assert len({one.text for one in together}) > 1


def test_what_cannot_be_used_is_none(model):
  wrong = []
  found = jaxret.generate(
      [{'image': 'nowhere.png'}, ITEMS[0]], PROMPT, model, max_tokens=2,
      on_error=wrong.append, show_progress=False)
  assert found[0] is None and found[1].tokens >= 1
  assert len(wrong) == 1 and 'nowhere.png' in str(wrong[0])


@pytest.mark.parametrize('change, message', [
    ({'alpha': 1.1}, 'alpha is 1.1'),
    ({'plausibility': 0}, 'plausibility is 0'),
    ({'plausibility': 1.5}, 'plausibility is 1.5'),
    ({'max_tokens': 0}, 'max_tokens is 0'),
    ({'batch_size': 0}, 'batch_size is'),
    ({'items': ['text'], 'alpha': 0.5}, 'no image and no video'),
    ({'items': []}, 'got none'), ({'prompts': ['a', 'b']}, 'got 2 questions')])
def test_bad_input_is_one_line(model, change, message):
  given = {'items': ITEMS[:1], 'prompts': PROMPT, **change}
  with pytest.raises(ValueError) as error:
    jaxret.generate(given.pop('items'), given.pop('prompts'), model, **given,
                    show_progress=False)
  assert message in str(error.value) and '\n' not in str(error.value)
