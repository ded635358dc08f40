"""Qwen2.5-VL at its published sizes, without weights: counts, compilation."""
import functools
import json
import math
import types

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxret import optim, sharding, train
from jaxret.methods import base
from jaxret.methods.unite import method as unite
from jaxret.models.qwen2_vl import model as qwen2_vl
from jaxret.models.qwen25_vl import files

# config.json as published, what we read of it.
SHARED = {
    'model_type': 'qwen2_5_vl', 'hidden_act': 'silu', 'rms_norm_eps': 1e-6,
    'rope_theta': 1e6, 'use_sliding_window': False,
    'rope_scaling': {'type': 'mrope', 'mrope_section': [16, 24, 24]}}
SIZES = {
    '3B': {'hidden_size': 2048, 'num_attention_heads': 16,
           'num_key_value_heads': 2, 'intermediate_size': 11008,
           'num_hidden_layers': 36, 'vocab_size': 151936,
           'tie_word_embeddings': True},
    '7B': {'hidden_size': 3584, 'num_attention_heads': 28,
           'num_key_value_heads': 4, 'intermediate_size': 18944,
           'num_hidden_layers': 28, 'vocab_size': 152064,
           'tie_word_embeddings': False}}
VISION = {'depth': 32, 'hidden_size': 1280, 'intermediate_size': 3420,
          'num_heads': 16, 'in_chans': 3, 'patch_size': 14, 'window_size': 112,
          'spatial_patch_size': 14, 'tokens_per_second': 2,
          'fullatt_block_indexes': [7, 15, 23, 31]}
# As published, in parameters: 3.75 and 8.29 B.
COUNTS = {'3B': 3_754_622_976, '7B': 8_292_166_656}
LORA = ('decoder/layers/(attention/[qkvo]|mlp/(gate|up|down))',)


@pytest.fixture(scope='module', params=SIZES)
def size(request):
  return request.param


@pytest.fixture(scope='module')
def config(size, tmp_path_factory):
  directory = tmp_path_factory.mktemp(size)
  width = SIZES[size]['hidden_size']
  (directory / 'config.json').write_text(json.dumps({
      **SHARED, **SIZES[size],
      'vision_config': {**VISION, 'out_hidden_size': width}}))
  return files.read_config(
      directory, 'mrope', dtype='bfloat16', param_dtype='bfloat16', remat=True,
      lora_scale=2.0, lora_dropout=0.05).config


@pytest.fixture(scope='module')
def params(config):
  return jax.eval_shape(
      functools.partial(
          base.init, functools.partial(qwen2_vl.init, config), LORA, 8),
      jax.random.key(0))


def count(tree, prefix=''):
  return sum(math.prod(leaf.shape) for path, leaf
             in sharding.flatten(tree).items() if path.startswith(prefix))


def test_parameter_counts(size, params):
  assert count(params, 'params') == COUNTS[size]
  assert {leaf.dtype for leaf in jax.tree.leaves(params['params'])} == {
      jnp.dtype('bfloat16')}


def test_every_parameter_has_a_name_and_one_rule(config, params):
  known = {weight.path for weight in config.weights}
  assert set(sharding.flatten(params['params'])) <= known
  flat = sharding.flatten(params)
  for path in flat:
    sharding.spec_for(path)
  for shape in ({'fsdp': 8}, {'tensor': 4, 'fsdp': 2}):
    mesh = sharding.make_mesh(shape)
    places = sharding.flatten(sharding.shardings(mesh, params))
    for path, leaf in flat.items():
      share = math.prod(places[path].shard_shape(leaf.shape))
      if math.prod(leaf.shape) > 10 ** 7:
        assert share < math.prod(leaf.shape) / 3, path


def weight_bytes(params):
  """Of the weights that an embedding reads, all but the output head."""
  return 2 * (count(params, 'params') - count(params, 'params/decoder/lm_head'))


def placed(tree, mesh):
  return jax.tree.map(lambda leaf, place: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=place), tree,
                      sharding.shardings(mesh, tree))


def abstract_batch(mesh, rows, tokens, patches):
  """Images or videos of one row of patches each."""
  def array(dtype, *shape):
    return jax.ShapeDtypeStruct(
        (rows, *shape), dtype, sharding=sharding.batch_sharding(mesh))
  ints = functools.partial(array, jnp.int32)
  return {'tokens': ints(tokens), 'length': ints(),
          'positions': ints(3, tokens), 'visual_index': ints(tokens),
          'patches': array(jnp.uint8, 1, patches, 1176),
          'segments': ints(1, patches), 'coordinates': ints(1, patches, 2)}


@pytest.mark.campaign
@pytest.mark.slow
@pytest.mark.parametrize('size', ['7B'], indirect=True)
def test_embedding_compiles_for_eight_devices(config, params):
  """Windows and slices, of images of 512 patches; two rows to a device."""
  mesh = sharding.make_mesh({'fsdp': 8})
  weights = {'params': params['params']}
  with jax.set_mesh(mesh):
    compiled = jax.jit(config.module().apply).lower(
        placed(weights, mesh), abstract_batch(mesh, 16, 160, 512)).compile()
  read = weight_bytes(params) / 8
  assert read < compiled.memory_analysis().argument_size_in_bytes < 1.1 * read


@pytest.mark.campaign
@pytest.mark.slow
@pytest.mark.parametrize('size', ['7B'], indirect=True)
def test_lora_training_compiles_for_eight_devices(config, params):
  mesh = sharding.make_mesh({'data': 2, 'fsdp': 2, 'tensor': 2})
  settings = types.SimpleNamespace(
      temperature=0.03, dual=True, modality_mask=False, multi_positive=False,
      released=True)
  method = base.Method(
      name='unite', init=None, load=None, examples=None, train_flops=None,
      tokens=None, trainable=('lora/.*',), loss=None,
      embed=functools.partial(unite.embed_pairs, config),
      embedding_loss=functools.partial(unite.embedding_loss, settings))
  optimizer = optax.adamw(1e-4)
  trainable, frozen = optim.partition(params, method.trainable)
  state = jax.eval_shape(lambda trainable: train.State(
      jnp.int32(0), trainable, optimizer.init(trainable)), trainable)
  one = abstract_batch(mesh, 8, 16, 16)
  batch = {'modality': one['length'], 'positive': one['length'],
           **{f'query_{name}': one[name]
              for name in ('tokens', 'length', 'positions')},
           **{f'candidate_{name}': array for name, array in one.items()}}
  update = train.make_update(method, optimizer, mesh, 0, 2)
  compiled = update.lower(
      placed(state, mesh), placed(frozen, mesh), {}, batch).compile()
  read = weight_bytes(params) / 4
  assert read < compiled.memory_analysis().argument_size_in_bytes < 1.1 * read
