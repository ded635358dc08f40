"""LECCR as a method: one against eight devices, training, weights, recipes."""
import dataclasses
import types

import jax
import ml_collections
import numpy as np
import pytest

from jaxret import main, methods, sharding, train
from jaxret.data import types as data_types
from jaxret.data.sets import nrccr as parallel
from jaxret.methods.leccr import evaluator as cross_lingual
from jaxret.methods.leccr import method as leccr
from jaxret.models import leccr as leccr_lib
from tests import tiny_cross_lingual

BRANCHES = ('image', 'video')
PX, WIDTH = 16, 16
NO_DECAY = tuple(main.load_config(
    str(tiny_cross_lingual.CONFIG)).optim.no_decay)


def make_config(branch, preset='corrected', **model):
  video = branch == 'video'
  return ml_collections.ConfigDict({
      'method': 'leccr', 'seed': 0, 'mesh': {'data': -1},
      'recipe': {'preset': preset, 'gpus': 2},
      'loss': {'softened_weight': 0.5, 'softened_alpha': 0.8,
               'slot_weight': 0.01, 'regularization_weight': 0.01,
               'description_weight': 0.01},
      'data': {'augment': not video},
      'model': {
          'text_pretrained': '', 'vision_pretrained': '',
          'text': {'width': 8, 'mlp_width': 16, 'layers': 1, 'heads': 2,
                   'max_tokens': 12},
          'vision': {'width': 8, 'mlp_width': 16, 'layers': 1, 'heads': 2,
                     'patch_px': 8},
          'image_px': PX, 'visual_width': WIDTH, 'embedding_width': 8,
          'slots': 2, 'reader_layers': 2, 'interaction_layers': 1,
          'frame_layers': 1 if video else 0, 'temperature': 0.07,
          'dropout': 0.1, 'dtype': 'float32', 'param_dtype': 'float32',
          'remat': False, **model},
      'optim': {'learning_rate': 3e-3, 'betas': (0.9, 0.98), 'eps': 1e-8,
                'weight_decay': 0.01, 'schedule': 'linear',
                'warmup_fraction': 0.1, 'no_decay': NO_DECAY,
                'gradient_clip_norm': 0.0},
      'train': {'batch_size': 8, 'epochs': 0.0, 'steps': 12,
                'accumulation_steps': 1, 'log_every_steps': 4,
                'checkpoint_every_steps': 12, 'keep_checkpoints': 1}})


def encode(text):
  """One id per letter between a start and an end, cut to ten."""
  return [1, *(3 + ord(letter) % 16 for letter in text[:8]), 2]


TOKENIZER = types.SimpleNamespace(encode=encode, vocab_size=20)


class Visuals:
  """Noise that is the same for the same index; videos of unlike lengths."""

  def __init__(self, branch, count):
    self._branch, self._count, self.longest = branch, count, 4

  def __len__(self):
    return self._count

  def __getitem__(self, index):
    random = np.random.default_rng(index)
    if self._branch == 'image':
      return random.integers(0, 256, (1, PX, PX, 3), np.uint8)
    return random.normal(size=(1 + index % 4, WIDTH)).astype(np.float32)


def make_split(n_visuals=7, n_texts=13, translated=True):
  """Texts of letters; several may belong to one visual."""
  owner = (np.arange(n_texts) % n_visuals).astype(np.int32)
  def items(kind):
    return tuple(data_types.Item(f'{v}#{kind}#{i}', text=f'{kind}{v}{i}{v}')
                 for i, v in enumerate(owner))
  return parallel.ParallelSplit(
      'letters', 'train' if translated else 'test',
      tuple(data_types.Item(str(v)) for v in range(n_visuals)), items('en'),
      owner, items('de') if translated else (),
      tuple(f'shows {v}' for v in range(n_visuals)))


def examples_of(method, branch):
  split = make_split()
  return method.examples(split, Visuals(branch, len(split.videos)))


def batch_of(examples, size):
  rows = [examples[i] for i in range(size)]
  return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.slow
@pytest.mark.parametrize('branch, preset, key', [
    ('image', 'corrected', 5), ('video', 'released', None)])
def test_eight_devices_give_what_one_gives(branch, preset, key):
  """Losses and gradients of the whole batch, negatives of all devices in.

  With crops and dropout in one of the cases, whose compilation is the slower.
  """
  method = methods.get('leccr').method(make_config(branch, preset), TOKENIZER)
  batch = batch_of(examples_of(method, branch), 8)
  params = jax.jit(method.init)(jax.random.key(0))
  key = None if key is None else jax.random.key(key)

  def run(count):
    mesh = sharding.make_mesh(devices=jax.devices()[:count])
    placed = jax.device_put(params, sharding.shardings(mesh, params))
    def loss(params, batch):
      value, found = method.loss(params, {}, batch, key)
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
@pytest.mark.parametrize('branch', BRANCHES)
def test_training_lowers_the_loss_and_evaluation_reads_it(branch, tmp_path):
  """From examples to results; numbers of texts and visuals differ."""
  config = make_config(branch, dropout=0.0)
  config.data.augment = False
  method = methods.get('leccr').method(config, TOKENIZER)
  examples = examples_of(method, branch)
  mesh = sharding.make_mesh()
  params = train.fit(method, examples, config, tmp_path, mesh)
  batch = batch_of(examples, 8)
  value = jax.jit(lambda params: method.loss(params, {}, batch, None)[0].mean())
  start = jax.jit(method.init)(
      jax.random.split(jax.random.key(config.seed))[0])
  assert value(params) < value(start) - 0.1
  assert method.tokens(batch) == sum(
      batch[f'{name}_length'].sum()
      for name in ('source', 'target', 'description'))
  assert method.train_flops(batch) > 0
  split = make_split(n_visuals=5, n_texts=11, translated=False)
  module = leccr_lib.Leccr(leccr.model_config(config, TOKENIZER))
  embedded = cross_lingual.embed(
      module, params, mesh, split, Visuals(branch, 5), encode, batch_size=8)
  assert embedded.texts.shape == (11, 8) and embedded.slots.shape == (5, 2, 8)
  alone = cross_lingual.embed(
      module, sharding.to_host(params),
      sharding.make_mesh(devices=jax.devices()[:1]), split,
      Visuals(branch, 5), encode, batch_size=3)
  for got, want in zip(embedded, alone):
    np.testing.assert_allclose(got, want, atol=1e-5)
  np.testing.assert_allclose(
      np.linalg.norm(embedded.visuals, axis=1), 1, atol=1e-5)
  scores = cross_lingual.score(embedded, fused=branch == 'video')
  assert scores.shape == (11, 5)
  results = cross_lingual.summarize(scores, split)
  assert set(results) == {
      'text_to_visual', 'visual_to_text', 'sum_of_recalls'}


@pytest.mark.slow
def test_crops_are_drawn_in_training_alone():
  method = methods.get('leccr').method(make_config('image'), TOKENIZER)
  batch = batch_of(examples_of(method, 'image'), 4)
  params = jax.jit(method.init)(jax.random.key(0))
  loss = jax.jit(lambda key: method.loss(params, {}, batch, key)[0])
  plain = jax.jit(lambda: method.loss(params, {}, batch, None)[0])()
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


def test_without_translations_or_descriptions_nothing_is_trained():
  method = methods.get('leccr').method(make_config('image'), TOKENIZER)
  split = make_split()
  for field, message in (
      ('translations', '0 translations of 13 captions; give a file of machi'),
      ('descriptions', '3 descriptions of 7 visuals; describe all')):
    some = () if field == 'translations' else split.descriptions[:3]
    with pytest.raises(ValueError, match=message):
      method.examples(dataclasses.replace(split, **{field: some}),
                      Visuals('image', 7))
  module = leccr_lib.Leccr(leccr.model_config(make_config('image'), TOKENIZER))
  bare = dataclasses.replace(split, descriptions=())
  with pytest.raises(ValueError, match='0 descriptions of 7 visuals'):
    cross_lingual.embed(module, {}, sharding.make_mesh(), bare,
                        Visuals('image', 7), encode)


def test_selection_names_what_it_saw():
  found = {4: {'validation': 300.0, 'test': 310.0},
           8: {'validation': 320.0, 'test': 305.0},
           12: {'validation': 320.0, 'test': 330.0}}
  assert cross_lingual.select(found) == {
      'step': 8, 'selected_on': 'validation', 'sum_of_recalls': 320.0}
  assert cross_lingual.select(found, 'test') == {
      'step': 12, 'selected_on': 'test (released)', 'sum_of_recalls': 330.0}
  with pytest.raises(ValueError, match='no SumR on validation of step 4'):
    cross_lingual.select({4: {'test': 1.0}})
  with pytest.raises(ValueError, match="select_on 'train' is not known"):
    cross_lingual.select(found, 'train')


def test_summary_equals_a_loop_over_texts_and_visuals():
  """Several captions per visual: it is found where the best of them is."""
  split = make_split(n_visuals=4, n_texts=9, translated=False)
  scores = np.random.default_rng(3).normal(size=(9, 4))
  results = cross_lingual.summarize(scores, split)
  owner, total = split.text_video, 0.0
  to_visual = [1 + sum(scores[t] > scores[t, owner[t]]) for t in range(9)]
  to_text = [1 + min(sum(scores[:, v] > scores[t, v])
                     for t in np.flatnonzero(owner == v)) for v in range(4)]
  for name, ranks in (('text_to_visual', to_visual),
                      ('visual_to_text', to_text)):
    for k in (1, 5, 10):
      value = 100 * np.mean([rank <= k for rank in ranks])
      assert results[name][f'recall_at_{k}'] == pytest.approx(value)
      total += value
  assert results['sum_of_recalls'] == pytest.approx(total)
