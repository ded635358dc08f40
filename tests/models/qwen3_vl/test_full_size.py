"""Qwen3-VL at its published sizes, without weights: counts, compilation."""
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
from jaxret.models.qwen3_vl import files
from jaxret.models.qwen3_vl import model as qwen3_vl

# config.json as published, what we read of it.
TEXT = {
    'model_type': 'qwen3_vl_text', 'hidden_act': 'silu', 'head_dim': 128,
    'rms_norm_eps': 1e-6, 'rope_theta': 5000000, 'vocab_size': 151936,
    'max_position_embeddings': 262144, 'attention_bias': False,
    'attention_dropout': 0.0, 'num_key_value_heads': 8,
    'rope_scaling': {'mrope_interleaved': True, 'rope_type': 'default',
                     'mrope_section': [24, 20, 20]}}
VISION = {
    'model_type': 'qwen3_vl', 'hidden_act': 'gelu_pytorch_tanh',
    'in_channels': 3, 'num_heads': 16, 'num_position_embeddings': 2304,
    'patch_size': 16, 'spatial_merge_size': 2, 'temporal_patch_size': 2}
SIZES = {
    '2B': ({'hidden_size': 2048, 'num_hidden_layers': 28,
            'num_attention_heads': 16, 'intermediate_size': 6144},
           {'depth': 24, 'hidden_size': 1024, 'intermediate_size': 4096,
            'deepstack_visual_indexes': [5, 11, 17]}, True),
    '8B': ({'hidden_size': 4096, 'num_hidden_layers': 36,
            'num_attention_heads': 32, 'intermediate_size': 12288},
           {'depth': 27, 'hidden_size': 1152, 'intermediate_size': 4304,
            'deepstack_visual_indexes': [8, 16, 24]}, False)}
# Of transformers 5.24, Qwen3VLForConditionalGeneration on the meta device:
# parameters of all and of the tower, tensors of the tower and the decoder.
COUNTS = {'2B': (2_127_532_032, 406_957_056, 315, 310),
          '8B': (8_767_123_696, 576_388_336, 351, 398)}
LORA = ('decoder/layers/(attention/[qkvo]|mlp/(gate|up|down))',)


@pytest.fixture(scope='module', params=SIZES)
def size(request):
  return request.param


@pytest.fixture(scope='module')
def config(size, tmp_path_factory):
  directory, (text, vision, tied) = tmp_path_factory.mktemp(size), SIZES[size]
  (directory / 'config.json').write_text(json.dumps({
      'model_type': 'qwen3_vl', 'tie_word_embeddings': tied,
      'image_token_id': 151655, 'video_token_id': 151656,
      'vision_start_token_id': 151652, 'vision_end_token_id': 151653,
      'text_config': {**TEXT, **text}, 'vision_config': {
          **VISION, **vision, 'out_hidden_size': text['hidden_size']}}))
  return files.read_config(
      directory, dtype='bfloat16', param_dtype='bfloat16', remat=True,
      lora_scale=2.0, lora_dropout=0.05).config


@pytest.fixture(scope='module')
def params(config):
  return jax.eval_shape(
      functools.partial(
          base.init, functools.partial(qwen3_vl.init, config), LORA, 8),
      jax.random.key(0))


def count(tree, prefix=''):
  return sum(math.prod(leaf.shape) for path, leaf
             in sharding.flatten(tree).items() if path.startswith(prefix))


def test_parameter_counts(size, params):
  whole, tower, *_ = COUNTS[size]
  assert count(params, 'params') == whole
  assert count(params, 'params/vision') == tower
  assert {leaf.dtype for leaf in jax.tree.leaves(params['params'])} == {
      jnp.dtype('bfloat16')}


def test_tensors_of_the_checkpoint(size, params):
  """As transformers counts them, the head apart."""
  flat = sharding.flatten(params['params'])
  tensors = {'vision': 0, 'decoder': 0}
  for weight in names.QWEN3_VL:
    if weight.path in flat and weight.path != 'decoder/lm_head/kernel':
      tensors[weight.path.partition('/')[0]] += (
          flat[weight.path].shape[0] if '{layer}' in weight.key else 1)
  assert set(flat) <= {weight.path for weight in names.QWEN3_VL}
  assert (tensors['vision'], tensors['decoder']) == COUNTS[size][2:]


def test_every_parameter_has_one_rule_and_large_ones_are_split(params):
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


def placed(tree, places):
  return jax.tree.map(lambda leaf, place: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=place), tree, places)


def abstract_batch(config, mesh, rows, tokens, patches):
  """Queries of text, candidates that are images."""
  def array(dtype, *shape):
    return jax.ShapeDtypeStruct(
        (rows, *shape), dtype, sharding=sharding.batch_sharding(mesh))
  ints = functools.partial(array, jnp.int32)
  batch = {'modality': ints(), 'positive': ints(),
           'candidate_patches': array(
               jnp.uint8, 1, patches, config.vision.patch_values),
           'candidate_segments': ints(1, patches),
           'candidate_coordinates': ints(1, patches, 4),
           'candidate_visual_index': ints(tokens)}
  for side in ('query', 'candidate'):
    batch |= {f'{side}_tokens': ints(tokens), f'{side}_length': ints(),
              f'{side}_positions': ints(3, tokens)}
  return batch


@pytest.mark.campaign
@pytest.mark.slow
@pytest.mark.parametrize('size', ['8B'], indirect=True)
def test_training_step_and_embedding_compile_for_eight_devices(config, params):
  """LoRA training in two chunks; short sequences compile as long ones do."""
  mesh = sharding.make_mesh({'data': 2, 'fsdp': 2, 'tensor': 2})
  settings = types.SimpleNamespace(
      temperature=0.03, dual=True, modality_mask=False, multi_positive=False,
      released=True)
  method = base.Method(
      name='qwen3_vl', init=None, load=None, examples=None, train_flops=None,
      tokens=None, trainable=('lora/.*',), loss=None,
      embed=functools.partial(unite.embed_pairs, config),
      embedding_loss=functools.partial(unite.embedding_loss, settings))
  optimizer = optax.adamw(1e-4)
  trainable, frozen = optim.partition(params, method.trainable)
  state = jax.eval_shape(lambda trainable: train.State(
      jnp.int32(0), trainable, optimizer.init(trainable)), trainable)
  batch = abstract_batch(config, mesh, 8, 16, 16)
  read = count(params, 'params') - count(params, 'params/decoder/lm_head')
  weights = 2 * read / 4  # none asks for logits
  compiled = train.make_update(method, optimizer, mesh, 0, 2).lower(
      placed(state, sharding.shardings(mesh, state)),
      placed(frozen, sharding.shardings(mesh, frozen)), {}, batch).compile()
  memory = compiled.memory_analysis()
  # Weights are split over fsdp and tensor, state and batch are small.
  assert weights < memory.argument_size_in_bytes < 1.1 * weights
  with jax.set_mesh(mesh):
    embedding = jax.jit(config.module().apply).lower(
        placed(params, sharding.shardings(mesh, params)),
        {name.removeprefix('candidate_'): leaf for name, leaf in batch.items()
         if name.startswith('candidate_')}).compile()
  memory = embedding.memory_analysis()
  assert weights < memory.argument_size_in_bytes < 1.1 * weights
