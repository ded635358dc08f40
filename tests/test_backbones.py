"""Every backbone answers and writes with CPN, as reading all anew would."""
import importlib

import numpy as np
import pytest

import jaxret
from jaxret import embedder
from tests import test_generator, tiny_generators

QUESTION, CHOICES = 'Is there a dog?', ('yes', 'no dog')
TOKENS = 3
pytestmark = pytest.mark.slow


def opened(name):
  """(a Generator, an item that it reads)."""
  if name in test_generator.PREFIXES:
    return (getattr(tiny_generators, name)(),
            embedder.as_item(test_generator.PREFIXES[name][-2], 0))
  tests = importlib.import_module(f'tests.models.{name}.test_generator')
  model = jaxret.load_generator(tests.GOLDEN, resolution=getattr(
      tests, 'PROCESSOR', getattr(tests, 'RESOLUTION', None)))
  return model, embedder.as_item(tests.ITEMS[0], 0)


def written(model, item, alpha, plausibility):
  """(text, tokens, ended): the seen and the blind prompt read anew each time.
  """
  reader, ids = model.reader, []
  prompts = [reader(item, True), reader.masked(item, True)]
  for _ in range(TOKENS):
    seen, blind = (test_generator.next_logits(model, one) for one in prompts)
    seen, blind = (x - np.logaddexp.reduce(x) for x in (seen, blind))
    ids.append(int(np.where(seen >= np.log(plausibility) + seen.max(),
                            seen - alpha * blind, -np.inf).argmax()))
    if ids[-1] in reader.ends:
      return reader.decode(ids[:-1]).strip(), len(ids), True
    prompts = [test_generator.longer(one, ids[-1]) for one in prompts]
  return reader.decode(ids).strip(), TOKENS, False


@pytest.mark.parametrize('name', [
    'llava', 'videochat', 'qwen2', 'qwen25_vl', 'qwen3_vl'])
def test_it_answers_and_writes(name):
  model, item = opened(name)
  alpha = 0.0 if name == 'qwen2' else 0.7  # it sees nothing
  found = jaxret.answer([item], QUESTION, CHOICES, model, alpha=alpha,
                        show_progress=False)
  end = model.reader.decode(model.reader.ends[:1])
  asked = {'image': item.image, 'video': item.video,
           'text': '\n'.join(filter(None, (item.text, QUESTION)))}
  for c, choice in enumerate(CHOICES):
    assert model.reader.suffix(f'{choice}{end}', 'x')[-1] == (
        model.reader.ends[0])
    for masked, part in ((False, found.likelihood), (True, found.prior)):
      if part is not None:
        want = test_generator.token_by_token(
            model, asked, f'{choice}{end}', chat=True, masked=masked)
        np.testing.assert_allclose(part[0, c], want.mean(), atol=5e-5)
  if alpha:
    assert np.abs(found.prior - found.likelihood).max() > 1e-3
  one, = jaxret.generate([item], QUESTION, model, alpha=alpha,
                         max_tokens=TOKENS, plausibility=0.05,
                         show_progress=False)
  assert tuple(one) == written(
      model, embedder.as_item(asked, 0), alpha, 0.05)
