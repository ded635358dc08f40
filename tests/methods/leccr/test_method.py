"""LECCR as a method: one against eight devices, training, weights, recipes."""
import copy
import dataclasses

import jax
import numpy as np
import pytest

from jaxret import methods, sharding, train
from jaxret.methods.leccr import evaluator
from jaxret.methods.leccr import method as leccr
from jaxret.models import leccr as leccr_lib
from tests.tiny_leccr import (
  TOKENIZER,
  Visuals,
  batch_of,
  encode,
  examples_of,
  make_config,
  make_split,
)


@pytest.mark.slow
@pytest.mark.parametrize('branch, preset, key', [
    ('image', 'corrected', 5), pytest.param(
        'video', 'released', None, marks=pytest.mark.campaign)])
def test_eight_devices_give_what_one_gives(branch, preset, key):
  """Losses and gradients of the whole batch, negatives of all devices in.

  With crops and dropout in one of the cases, whose compilation is the slower.
  """
  config = make_config(branch, preset)
  method = methods.get('leccr').method(config, TOKENIZER)
  examples = examples_of(method, branch, config)
  batch = batch_of(examples, 8)
  params = jax.jit(method.init)(jax.random.key(0))
  key = None if key is None else jax.random.key(key)

  def run(count):
    mesh = sharding.make_mesh(devices=jax.devices()[:count])
    placed = jax.device_put(params, sharding.shardings(mesh, params))
    def loss(params, batch):
      value, found = method.loss(params, examples.constants, batch, key)
      return value.mean(), (value, found)
    with jax.default_matmul_precision('highest'):
      (_, (value, found)), gradients = jax.jit(jax.value_and_grad(
          loss, has_aux=True))(placed, sharding.global_batch(mesh, batch))
    return sharding.to_host((value, found, sharding.flatten(gradients)))

  one, many = run(1), run(8)
  np.testing.assert_allclose(many[0], one[0], atol=1e-5)
  for name, value in one[1].items():
    np.testing.assert_allclose(many[1][name], value, atol=1e-5, err_msg=name)
  for path, gradient in one[2].items():
    scale = max(1.0, np.abs(gradient).max())
    np.testing.assert_allclose(
        many[2][path], gradient, atol=1e-5 * scale, err_msg=path)


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize('branch', ['image', 'video'])
def test_training_lowers_the_loss_and_evaluation_reads_it(branch, tmp_path):
  """From examples to results; numbers of texts and visuals differ."""
  config = make_config(branch, dropout=0.0)
  config.data.augment = False
  method = methods.get('leccr').method(config, TOKENIZER)
  examples = examples_of(method, branch, config)
  mesh = sharding.make_mesh()
  params = train.fit(method, examples, config, tmp_path, mesh)
  batch = batch_of(examples, 8)
  value = jax.jit(lambda params: method.loss(
      params, examples.constants, batch, None)[0].mean())
  start = jax.jit(method.init)(
      jax.random.split(jax.random.key(config.seed))[0])
  assert value(params) < value(start) - 0.1
  assert method.tokens(batch) == sum(
      batch[f'{name}_length'].sum()
      for name in ('source', 'target', 'description'))
  assert method.train_flops(batch) > 0
  split = make_split(n_visuals=5, n_texts=11, translated=False)
  module = leccr_lib.Leccr(leccr.model_config(config, TOKENIZER))
  embedded = evaluator.embed(
      module, params, mesh, split, Visuals(branch, 5), encode, batch_size=8)
  assert embedded.texts.shape == (11, 8) and embedded.slots.shape == (5, 2, 8)
  alone = evaluator.embed(
      module, sharding.to_host(params),
      sharding.make_mesh(devices=jax.devices()[:1]), split,
      Visuals(branch, 5), encode, batch_size=3)
  for got, want in zip(embedded, alone):
    np.testing.assert_allclose(got, want, atol=1e-5)
  np.testing.assert_allclose(
      np.linalg.norm(embedded.visuals, axis=1), 1, atol=1e-5)
  scores = evaluator.score(embedded, fused=branch == 'video')
  assert scores.shape == (11, 5)
  results = evaluator.summarize(scores, split)
  assert set(results) == {
      'text_to_visual', 'visual_to_text', 'sum_of_recalls'}


@pytest.mark.slow
def test_crops_are_drawn_in_training_alone():
  config = make_config('image')
  method = methods.get('leccr').method(config, TOKENIZER)
  examples = examples_of(method, 'image', config)
  batch, weights = batch_of(examples, 4), examples.constants
  params = jax.jit(method.init)(jax.random.key(0))
  loss = jax.jit(lambda key: method.loss(params, weights, batch, key)[0])
  plain = jax.jit(lambda: method.loss(params, weights, batch, None)[0])()
  first, second = loss(jax.random.key(1)), loss(jax.random.key(2))
  assert np.abs(first - second).max() > 1e-4
  assert np.abs(first - plain).max() > 1e-4
  np.testing.assert_array_equal(first, loss(jax.random.key(1)))


def test_recipes_and_their_parts():
  config = make_config('image', 'released')
  found = leccr.recipe(config)
  assert (found.query_init, found.select_on) == ('zeros', 'test')
  config.recipe.query_init = 'normal'
  assert leccr.recipe(config) == dataclasses.replace(
      found, query_init='normal')
  for name, value, message in (
      ('slot_scope', 'node', "slot_scope 'node' is not known; want one of"),
      ('preset', 'paper', "preset 'paper' is not known; want one of rel")):
    wrong = make_config('image')
    wrong.recipe[name] = value
    with pytest.raises(ValueError, match=message) as caught:
      leccr.recipe(wrong)
    assert '\n' not in str(caught.value)


@pytest.mark.slow
def test_pretrained_encoders_are_put_in_place(request):
  """From directories as the hub has them, at another resolution."""
  golden = request.config.rootpath / 'tests' / 'golden' / 'leccr'
  config = make_config('image', text_pretrained=str(golden / 'hf_bert'),
                       vision_pretrained=str(golden / 'hf_clip'), image_px=48)
  method = leccr.method(config, TOKENIZER)
  mesh = sharding.make_mesh({'data': 4, 'tensor': 2})
  params = method.load(jax.random.key(0), mesh)
  abstract = jax.eval_shape(method.init, jax.random.key(0))
  assert jax.tree.map(lambda leaf: leaf.shape, params) == jax.tree.map(
      lambda leaf: leaf.shape, abstract)
  fresh = sharding.flatten(sharding.to_host(
      jax.jit(method.init)(jax.random.key(0))))
  loaded = sharding.flatten(sharding.to_host(params))
  for path, leaf in loaded.items():
    from_file = path.split('/')[1] in ('text_encoder', 'vision', 'vision_head')
    same = np.allclose(leaf, fresh[path], atol=1e-6)
    constant = path.endswith(('bias', 'scale'))
    assert same != from_file or constant, path


@pytest.mark.slow
def test_weights_of_the_loss_come_with_the_examples():
  """A step that several models share has none of its own."""
  config = make_config('video', dropout=0.0)
  method = methods.get('leccr').method(config, TOKENIZER)
  examples = examples_of(method, 'video', config)
  batch = batch_of(examples, 4)
  params = jax.jit(method.init)(jax.random.key(0))
  traced = []
  @jax.jit
  def loss(weights):
    traced.append(1)
    return method.loss(params, weights, batch, None)
  value, terms = loss(examples.constants)
  other, _ = loss({**examples.constants, 'slot_weight': np.float32(2.01)})
  np.testing.assert_allclose(
      other.mean() - value.mean(), 2 * terms['slot_loss'], rtol=1e-4)
  assert len(traced) == 1
  with pytest.raises(KeyError, match='softened_weight'):
    method.loss(params, {}, batch, None)


def test_what_a_method_depends_on_is_all_that_it_reads():
  config = make_config('image')
  config.data.languages = ('de',)
  fields = leccr.method_config(config)
  leccr.method(fields, TOKENIZER)  # would not find another field
  def changed(**flat):
    other = copy.deepcopy(config)
    other.update_from_flattened_dict(
        {name.replace('__', '.'): value for name, value in flat.items()})
    return str(leccr.method_config(other)) != str(fields)
  assert not changed(data__languages=('zh',), loss__slot_weight=0.7, seed=3)
  for name, value in (
      ('loss__softened_alpha', 0.5), ('data__augment', False),
      ('model__dropout', 0.3), ('recipe__gpus', 4),
      ('recipe__preset', 'released')):
    assert changed(**{name: value}), name
