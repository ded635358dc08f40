"""BLiM at its published size, without weights: shapes, rules, compilation.

Nothing is allocated: arrays are ShapeDtypeStructs, programs are compiled for
eight CPU devices.
"""
import functools
import math

import jax
import jax.numpy as jnp
import pytest

from configs import blim as blim_config
from jaxret import optim, sharding, train
from jaxret.methods import base
from jaxret.methods.blim import likelihood as blim_likelihood
from jaxret.methods.blim import method as blim
from jaxret.models import decoder
from jaxret.models.videochat import model as vlm
from jaxret.scoring.likelihood import kernels

# Short sequences: compilation takes as long, running would not.
CLIPS, TOKENS_PER_CLIP = 4, 4
PREFIX, LABELS, TEXT_PREFIX = 24, 8, 24


@pytest.fixture(scope='module')
def config():
  """The recipe of MSR-VTT, with the released model."""
  return blim_config.get_config('msrvtt')


@pytest.fixture(scope='module')
def model(config):
  """The VlmConfig of VideoChat-Flash-Qwen2-7B (spec §1)."""
  m = config.model
  qwen2 = decoder.DecoderConfig(
      vocab_size=152064, width=3584, mlp_width=18944, layers=28, heads=28,
      kv_heads=4, head_width=128, dtype=m.dtype, param_dtype=m.param_dtype,
      remat=m.remat, lora_scale=m.lora.alpha / m.lora.rank,
      lora_dropout=m.lora.dropout)
  return vlm.VlmConfig(qwen2, m.visual_width, CLIPS, TOKENS_PER_CLIP)


@pytest.fixture(scope='module')
def params(config, model):
  lora = config.model.lora
  return jax.eval_shape(
      functools.partial(blim.init, model, lora.targets, lora.rank),
      jax.random.key(0))


def count(params, pattern=''):
  return sum(math.prod(leaf.shape)
             for path, leaf in sharding.flatten(params).items()
             if path.startswith(pattern))


def test_parameter_counts(config, params):
  assert count(params, 'params/decoder') == 7_615_616_512  # as published
  trainable, frozen = optim.partition(params, config.model.trainable)
  assert count(trainable) == 10_149_888
  parts = {'lora/decoder/layers': 5_046_272, 'lora/decoder/lm_head': 1_245_184,
           'lora/projector': 188_416, 'params/visual_head': 3_670_016}
  for path, number in parts.items():
    assert count(trainable, path) == number
  assert sum(parts.values()) == count(trainable)
  assert {leaf.dtype for leaf in jax.tree.leaves(trainable)} == {
      jnp.dtype(jnp.float32)}
  assert {leaf.dtype for leaf in jax.tree.leaves(frozen)} == {
      jnp.dtype(jnp.bfloat16)}


def test_every_parameter_has_one_sharding_rule(params):
  """And one that splits all large ones over eight devices of either kind."""
  flat = sharding.flatten(params)
  for path in flat:
    sharding.spec_for(path)
  for shape in ({'fsdp': 8}, {'tensor': 4, 'fsdp': 2}):
    mesh = sharding.make_mesh(shape)
    places = sharding.flatten(sharding.shardings(mesh, params))
    for path, leaf in flat.items():
      share = math.prod(places[path].shard_shape(leaf.shape))
      if math.prod(leaf.shape) > 10 ** 7:
        assert share * 8 == math.prod(leaf.shape), path


def placed(tree, places):
  return jax.tree.map(lambda leaf, place: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=place), tree, places)


def sharded(mesh, tree):
  return placed(tree, sharding.shardings(mesh, tree))


def rows(mesh, dtype, *shape):
  return jax.ShapeDtypeStruct(
      shape, dtype, sharding=sharding.batch_sharding(mesh))


def lower_update(config, model, params, mesh, batch_size, accumulation_steps):
  """The training step that `fit` runs, lowered for a mesh."""
  method = base.Method(
      name='blim', init=None, load=None, examples=None, train_flops=None,
      tokens=None, loss=functools.partial(blim.loss, model),
      trainable=config.model.trainable)
  optimizer = optim.make_optimizer(
      config.optim, optim.schedule(config.optim, config.train.epochs, 100))
  trainable, frozen = optim.partition(params, method.trainable)
  state = jax.eval_shape(lambda trainable: train.State(
      jnp.int32(0), trainable, optimizer.init(trainable)), trainable)
  whole = sharding.replicated(mesh)
  constants = {
      'visual_prefix': jax.ShapeDtypeStruct(
          (PREFIX,), jnp.int32, sharding=whole),
      'video_vocabulary': jax.ShapeDtypeStruct(
          (256, CLIPS, model.visual_width), jnp.float32, sharding=whole)}
  ints = functools.partial(rows, mesh, jnp.int32, batch_size)
  batch = {
      'features': rows(mesh, jnp.float16, batch_size, CLIPS, TOKENS_PER_CLIP,
                       model.visual_width),
      'video_index': ints(), 'labels': ints(LABELS), 'label_length': ints(),
      'text_prefix': ints(TEXT_PREFIX), 'text_prefix_length': ints(),
      'visual_prefix_length': ints()}
  update = train.make_update(method, optimizer, mesh, 0, accumulation_steps)
  return update.lower(
      sharded(mesh, state), sharded(mesh, frozen), constants, batch)


@pytest.mark.campaign
@pytest.mark.slow
def test_training_step_compiles_for_eight_devices(config, model, params):
  mesh = sharding.make_mesh({'data': 2, 'fsdp': 2, 'tensor': 2})
  lowered = lower_update(config, model, params, mesh, 8, 2)
  memory = lowered.compile().memory_analysis()
  # Weights are split over fsdp and tensor, state and batch are small.
  weights = 2 * count(params, 'params') / 4
  assert weights < memory.argument_size_in_bytes < 1.05 * weights
  # The state is updated in place.
  assert memory.alias_size_in_bytes > 0.99 * memory.output_size_in_bytes


@pytest.mark.campaign
@pytest.mark.slow
def test_scoring_tile_compiles_for_eight_devices(model, params):
  """The prefixes of a block of videos, then a tile of captions."""
  mesh = sharding.make_mesh({'data': 2, 'fsdp': 2, 'tensor': 2})
  scorer = blim_likelihood.likelihood_model(model)
  params, videos, captions = sharded(mesh, params), 8, 2
  whole = sharding.replicated(mesh)
  def ints(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=whole)
  with jax.set_mesh(mesh):
    prefix = kernels.visual_prefix.lower(
        scorer, params, ints(PREFIX),
        rows(mesh, jnp.float32, videos, CLIPS, TOKENS_PER_CLIP,
             model.visual_width))
    compiled = prefix.compile()
    first, cache = placed(prefix.out_info, compiled.output_shardings)
    assert cache.key.shape == (28, videos, PREFIX, 4, 128)
    # Two captions that share three of their tokens.
    tokens = 2 * (LABELS - 1) - 3
    inputs = (ints(1, tokens), ints(tokens), ints(captions, LABELS - 1),
              ints(tokens))
    kernels.text_tile.lower(
        scorer, True, params, first, cache, rows(mesh, jnp.int32, videos),
        inputs, ints(1, captions, LABELS), ints(1, captions)).compile()
