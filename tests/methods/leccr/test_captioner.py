"""The small captioner: what its loss counts, and what a step costs."""
import jax
import numpy as np
import pytest

from jaxret.data import types
from jaxret.methods.leccr import captioner
from jaxret.models import decoder as decoder_lib
from tests import tiny_captioner
from tests.tiny_captioner import CAPTIONS


@pytest.fixture(scope='module')
def method_and_batch(tmp_path_factory):
  """(method, model's config, batch): two pictures of one size, two captions."""
  config = tiny_captioner.make_config()
  tokenizer = tiny_captioner.make_tokenizer(
      tmp_path_factory.mktemp('tokens'), config)
  wide = [item for item in tiny_captioner.media() if 'wide' in item.id]
  split = types.Split('x', 'train', tuple(wide), tuple(
      types.Item(str(i), text=CAPTIONS[i]) for i in range(2)),
                      np.array([0, 1], np.int32))
  method = captioner.method(config, tokenizer)
  examples = method.examples(split)
  rows = [examples[i] for i in range(2)]
  batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
  return method, captioner.model_config(config, tokenizer), batch


def test_loss_is_that_of_the_answers_tokens(method_and_batch):
  """Against the probabilities of every next token, one by one.

  The mean over the batch is that over all tokens: a long caption counts more.
  """
  method, model, batch = method_and_batch
  params = jax.jit(method.init)(jax.random.key(0))

  @jax.jit
  def logits_of(params):
    module = model.module()
    def apply(name, *args):
      return module.apply(params, *args, method=name)
    visual = apply('visual_tokens', batch['patches'], batch['segments'],
                   batch['coordinates'])
    x = apply('embed', batch['tokens'], visual, batch['visual_index'])
    keys = decoder_lib.length_mask(batch['length'], x.shape[1])
    hidden = apply('hidden', x, keys, batch['positions'])
    # The output head is the table of embeddings.
    return hidden @ params['params']['decoder']['embed']['embedding'].T

  logits = np.asarray(logits_of(params), np.float64)
  losses, metrics = jax.jit(
      lambda params: method.loss(params, {}, batch, None))(params)
  assert not metrics
  values = []
  for row in range(2):
    values.append([])
    for i in range(batch['prompt_length'][row], batch['length'][row]):
      before = logits[row, i - 1]
      values[row].append(np.log(np.exp(before).sum())
                         - before[batch['tokens'][row, i]])
  n_tokens = [len(row) for row in values]
  assert min(n_tokens) > 1 and n_tokens[0] != n_tokens[1]
  np.testing.assert_allclose(
      losses, [2 * sum(row) / sum(n_tokens) for row in values], atol=1e-4)


def test_padding_costs_nothing(method_and_batch):
  method, _, batch = method_and_batch
  longer = {**batch, 'tokens': np.pad(batch['tokens'], ((0, 0), (0, 9)))}
  assert method.train_flops(longer) == method.train_flops(batch) > 0
  assert method.tokens(longer) == batch['length'].sum()


def test_a_patch_attends_to_its_own_slice(method_and_batch):
  """The same patches in two slices a row: half of the pairs are gone."""
  method, model, batch = method_and_batch
  items, rows, patches = batch['segments'].shape
  def cost(n):
    segments = np.repeat(np.arange(1, n * rows + 1), patches // n)
    return method.train_flops({**batch, 'segments': np.broadcast_to(
        segments.reshape(rows, patches), batch['segments'].shape)})
  pairs = items * rows * patches ** 2 / 2
  assert cost(1) - cost(2) == (
      3 * 4 * model.vision.layers * model.vision.width * pairs)
