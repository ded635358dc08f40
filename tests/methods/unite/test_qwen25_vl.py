"""UNITE on Qwen2.5-VL: a config names its weights, nothing else changes."""
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import optim, sharding
from jaxret.data import text
from jaxret.methods.unite import method as unite
from tests import tiny_unite

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden' / 'qwen25_vl' / 'model'


@pytest.fixture(scope='module')
def config():
  config = tiny_unite.with_lora(tiny_unite.make_config())
  config.model.pretrained, config.model.position_mode = str(GOLDEN), 'mrope'
  config.data.max_tokens = 400
  return config


@pytest.fixture(scope='module')
def tokenizer():
  return text.load_tokenizer(GOLDEN)


@pytest.fixture(scope='module')
def batch(config, tokenizer):
  """Eight pairs: images and videos of several windows as candidates."""
  pairs = [tiny_unite.Pair(
      tiny_unite.item('text', i), tiny_unite.item(kind, i))
           for i, kind in enumerate(('image', 'video') * 4)]
  examples = unite.examples(pairs, unite.reader(config, tokenizer))
  rows = [examples[i] for i in range(len(pairs))]
  return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def test_its_own_reader_and_model_are_taken(config, tokenizer, batch):
  model = unite.model_config(config, tokenizer)
  assert model.name == 'qwen2_5_vl'
  assert unite.reader(config, tokenizer).layout.window == 2
  assert 'candidate_positions' in batch and 'query_patches' not in batch


@pytest.mark.slow
@pytest.mark.parametrize('shape', [{'fsdp': 8}, {'data': 4, 'tensor': 2}])
def test_eight_devices_give_the_gradients_of_one(
    config, tokenizer, batch, shape):
  """Of LoRA, and of the tower's windows and norms."""
  method = unite.method(config, tokenizer)
  trained = ('lora/.*', 'params/vision/blocks/.*', 'params/vision/merger/.*')
  def run(mesh):
    params = method.load(jax.random.key(0), mesh)
    params['lora'] = jax.tree.map(  # a fresh B is zero
        lambda leaf: leaf + 0.01 * jnp.cos(jnp.arange(leaf.size)).reshape(
            leaf.shape), params['lora'])
    chosen, frozen = optim.partition(params, trained)
    def loss(chosen, frozen, batch):
      return method.loss(
          optim.merge(chosen, frozen), {}, batch, None)[0].mean()
    with jax.set_mesh(mesh):
      value, gradients = jax.jit(jax.value_and_grad(loss))(
          chosen, frozen, sharding.global_batch(mesh, batch))
    return sharding.to_host((value, sharding.flatten(gradients)))
  one = run(sharding.make_mesh(devices=jax.devices()[:1]))
  eight = run(sharding.make_mesh(shape))
  np.testing.assert_allclose(eight[0], one[0], rtol=1e-5)
  assert any('vision' in path for path in one[1])
  for path, want in one[1].items():
    atol = 1e-4 * np.abs(want).max()
    assert atol > 0, path
    np.testing.assert_allclose(eight[1][path], want, atol=atol, err_msg=path)
