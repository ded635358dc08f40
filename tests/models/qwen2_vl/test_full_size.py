"""Qwen2-VL at its published sizes, without weights: counts, compilation."""
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
from jaxret.models import names
from jaxret.models.qwen2_vl import files as qwen2_vl_files
from jaxret.models.qwen2_vl import model as qwen2_vl

# config.json as published, what we read of it.
SHARED = {
    'model_type': 'qwen2_vl', 'hidden_act': 'silu', 'rms_norm_eps': 1e-6,
    'num_hidden_layers': 28, 'rope_theta': 1e6, 'use_sliding_window': False,
    'rope_scaling': {'type': 'mrope', 'mrope_section': [16, 24, 24]},
    'image_token_id': 151655, 'video_token_id': 151656,
    'vision_start_token_id': 151652, 'vision_end_token_id': 151653}
SIZES = {
    '2B': {'hidden_size': 1536, 'num_attention_heads': 12,
           'num_key_value_heads': 2, 'intermediate_size': 8960,
           'vocab_size': 151936, 'tie_word_embeddings': True},
    '7B': {'hidden_size': 3584, 'num_attention_heads': 28,
           'num_key_value_heads': 4, 'intermediate_size': 18944,
           'vocab_size': 152064, 'tie_word_embeddings': False}}
VISION = {'depth': 32, 'embed_dim': 1280, 'mlp_ratio': 4, 'num_heads': 16,
          'in_chans': 3, 'patch_size': 14, 'spatial_merge_size': 2,
          'spatial_patch_size': 14, 'temporal_patch_size': 2}
# As published, in parameters: 2.209 B (spec §1) and 8.291 B.
COUNTS = {'2B': 2_208_985_600, '7B': 8_291_375_616}
TOWER = {'2B': 665_271_296, '7B': 675_759_104}
LORA = ('decoder/layers/(attention/[qkvo]|mlp/(gate|up|down))',)


@pytest.fixture(scope='module', params=SIZES)
def size(request):
  return request.param


@pytest.fixture(scope='module')
def config(size, tmp_path_factory):
  directory = tmp_path_factory.mktemp(size)
  (directory / 'config.json').write_text(json.dumps({
      **SHARED, **SIZES[size],
      'vision_config': {**VISION, 'hidden_size': SIZES[size]['hidden_size']}}))
  return qwen2_vl_files.read_config(
      directory, dtype='bfloat16', param_dtype='bfloat16', remat=True,
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
  assert count(params, 'params/vision') == TOWER[size]
  assert {leaf.dtype for leaf in jax.tree.leaves(params['params'])} == {
      jnp.dtype('bfloat16')}


def test_tensors_of_the_checkpoint(size, params):
  """729 of them in 2B: 391 of the tower and 338 of the decoder (spec §1)."""
  flat = sharding.flatten(params['params'])
  tensors = {'vision': 0, 'decoder': 0}
  for weight in names.QWEN2_VL:
    if weight.path in flat:
      stacked = '{layer}' in weight.key
      tensors[weight.path.partition('/')[0]] += (
          flat[weight.path].shape[0] if stacked else 1)
  assert set(flat) <= {weight.path for weight in names.QWEN2_VL}
  assert tensors == {'vision': 391, 'decoder': 338 + (size == '7B')}


def test_every_parameter_has_one_rule_and_large_ones_are_split(params):
  flat = sharding.flatten(params)
  for shape in ({'fsdp': 8}, {'tensor': 4, 'fsdp': 2}):
    mesh = sharding.make_mesh(shape)
    places = sharding.flatten(sharding.shardings(mesh, params))
    for path, leaf in flat.items():
      share = math.prod(places[path].shard_shape(leaf.shape))
      if math.prod(leaf.shape) > 10 ** 7:
        assert share < math.prod(leaf.shape) / 3, path


def placed(tree, places):
  return jax.tree.map(lambda leaf, place: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=place), tree, places)


def abstract_batch(mesh, rows, tokens, patches):
  """Queries of text, candidates that are images."""
  def array(dtype, *shape):
    return jax.ShapeDtypeStruct(
        (rows, *shape), dtype, sharding=sharding.batch_sharding(mesh))
  ints = functools.partial(array, jnp.int32)
  batch = {'modality': ints(), 'positive': ints(),
           'candidate_patches': array(jnp.uint8, 1, patches, 1176),
           'candidate_segments': ints(1, patches),
           'candidate_coordinates': ints(1, patches, 2),
           'candidate_visual_index': ints(tokens)}
  for side in ('query', 'candidate'):
    batch |= {f'{side}_tokens': ints(tokens), f'{side}_length': ints()}
  return batch


@pytest.mark.campaign
@pytest.mark.slow
@pytest.mark.parametrize('size', ['2B'], indirect=True)
def test_chunked_training_step_compiles_for_eight_devices(config, params):
  """LoRA training in two chunks; short sequences compile as long ones do."""
  mesh = sharding.make_mesh({'data': 2, 'fsdp': 2, 'tensor': 2})
  settings = types.SimpleNamespace(
      temperature=0.03, dual=True, modality_mask=False, multi_positive=False,
      released=True)
  contrast = functools.partial(unite.embedding_loss, settings)
  method = base.Method(
      name='unite', init=None, load=None, examples=None, train_flops=None,
      tokens=None, trainable=('lora/.*',), loss=None,
      embed=functools.partial(unite.embed_pairs, config),
      embedding_loss=contrast)
  optimizer = optax.adamw(1e-4)
  trainable, frozen = optim.partition(params, method.trainable)
  state = jax.eval_shape(lambda trainable: train.State(
      jnp.int32(0), trainable, optimizer.init(trainable)), trainable)
  update = train.make_update(method, optimizer, mesh, 0, 2)
  compiled = update.lower(
      placed(state, sharding.shardings(mesh, state)),
      placed(frozen, sharding.shardings(mesh, frozen)), {},
      abstract_batch(mesh, 8, 16, 16)).compile()
  memory = compiled.memory_analysis()
  # Weights are split over fsdp and tensor, state and batch are small.
  weights = 2 * count(params, 'params') / 4
  assert weights < memory.argument_size_in_bytes < 1.1 * weights
