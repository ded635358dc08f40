"""What the answering model's loss counts, and what a row without media sees."""
import functools

import jax
import numpy as np
import pytest

from configs import answers as answers_config
from jaxret.data import questions, text
from jaxret.data.qwen2_vl import prompts
from jaxret.methods.answers import method as method_lib
from tests import tiny_generators

ASKED = ('what is it', 'how many')
ANSWERS = ('a dog on the grass', 'two')


def make_config():
  config = answers_config.get_config()
  config.model.update(width=24, mlp_width=32, head_width=8, heads=2, kv_heads=2)
  config.model.rope_sections = (2, 1, 1)
  config.vision.update(width=16, heads=2, layers=1, mlp_width=32)
  return config


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """(config, tokenizer, Questions about two clips)."""
  tokenizer = text.train_tokenizer(
      [*ASKED, *ANSWERS], 320, tmp_path_factory.mktemp('t') / 'tokenizer',
      prompts.CONTROL_TOKENS)
  from jaxret.data import types
  items = tuple(types.Item(f'clip {i}', video=tiny_generators.pixels(
      i, 4, 56, 56)) for i in range(2))
  asked = questions.Questions('set', 'train', items, tuple(
      questions.Question(f'q{i}', i, ASKED[i], (ANSWERS[i], 'x'), 0)
      for i in range(2)))
  return make_config(), tokenizer, asked


@pytest.fixture(scope='module')
def batch(made):
  config, tokenizer, asked = made
  method = method_lib.method(config, tokenizer)
  examples = method.examples(asked, method_lib.reader(config, tokenizer))
  assert examples.ids == ['q0', 'q1']
  rows = [examples[i] for i in range(2)]
  return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.fixture(scope='module')
def params(made):
  method = method_lib.method(*made[:2])
  return tiny_generators.spread(jax.jit(method.init)(jax.random.key(0)))


def full_pass(made, params, batch, masked):
  """log P of every answer's tokens by whole passes: a list of arrays."""
  module = method_lib.model_config(*made[:2]).module()
  def apply(name, *args):
    return module.apply(params, *args, method=name)
  visual = apply('visual_tokens', batch['patches'], batch['segments'],
                 batch['coordinates'])
  x = apply('embed', batch['tokens'], visual, batch['visual_index'])
  keys = np.arange(x.shape[1]) < batch['length'][:, None]
  if masked:
    keys &= batch['visual_index'] < 0
  hidden = apply('hidden', x, keys, batch['positions'])
  rows = jax.nn.log_softmax(
      hidden @ params['params']['decoder']['embed']['embedding'].T)
  return [np.array([rows[b, t - 1, batch['tokens'][b, t]] for t in range(
      batch['prompt_length'][b], batch['length'][b])]) for b in range(2)]


def test_examples_end_with_the_answer_and_its_end(made, batch):
  _, tokenizer, _ = made
  for row, (question, answer) in enumerate(zip(ASKED, ANSWERS)):
    start, end = batch['prompt_length'][row], batch['length'][row]
    said = tokenizer.decode(batch['tokens'][row, start:end])
    assert said == f'{answer}<|im_end|>'
    before = tokenizer.decode(batch['tokens'][row, :start])
    assert before.endswith(f'{question}<|im_end|>\n<|im_start|>assistant\n')
    # Behind the media all axes count on together.
    places = batch['positions'][row, :, start - 1:end]
    assert (np.diff(places, axis=1) == 1).all()


@pytest.mark.slow
def test_loss_is_that_of_the_answers_tokens(made, batch, params):
  loss = method_lib.method(*made[:2]).loss(params, {}, batch, None)[0]
  values = full_pass(made, params, batch, masked=False)
  np.testing.assert_allclose(
      loss.mean(), -np.concatenate(values).mean(), rtol=1e-5)


@pytest.mark.parametrize('share', [
    pytest.param(0.0, marks=pytest.mark.slow), 0.5])
def test_a_share_of_the_rows_is_read_without_media(made, batch, params, share):
  config, tokenizer, _ = made
  config = config.copy_and_resolve_references()
  config.train.text_prior_share = share
  loss = jax.jit(functools.partial(
      method_lib.method(config, tokenizer).loss, params, {}, batch))
  seen, blind = (full_pass(made, params, batch, m) for m in (False, True))
  count = sum(map(len, seen)) / 2
  kinds = {name: [-v.sum() / count for v in values]
           for name, values in (('seen', seen), ('blind', blind))}
  found = []
  for key in range(12):
    for b, value in enumerate(loss(jax.random.key(key))[0]):
      near = [name for name in kinds
              if abs(value - kinds[name][b]) < 1e-4 * abs(value)]
      assert len(near) == 1
      found += near
  assert ('blind' in found) == bool(share) and 'seen' in found
