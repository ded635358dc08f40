"""MM-Embed and LLaVA-NeXT at their published sizes, without weights."""
import functools
import json
import math

import jax
import jax.numpy as jnp
import pytest

from jaxret import sharding
from jaxret.models import lora
from jaxret.models.llava import files as llava_next_files
from jaxret.models.llava import mm_embed, mm_embed_files
from jaxret.models.llava import model as llava_next
from jaxret.models.llava import names as mm_embed_names

# config.json as published, what we read of it; a text_config leaves out what
# is Mistral's default.
VISION = {'hidden_size': 1024, 'intermediate_size': 4096, 'image_size': 336,
          'num_hidden_layers': 24, 'num_attention_heads': 16, 'patch_size': 14}
LLAVA = {
    'model_type': 'llava_next', 'vision_config': VISION,
    'image_token_index': 32000, 'vision_feature_layer': -2,
    'text_config': {'model_type': 'mistral', 'vocab_size': 32064,
                    'rope_theta': 1e6, 'rms_norm_eps': 1e-5}}
RETRIEVER = {
    'model_type': 'nvembed', 'text_config': {
        'vocab_size': 32000, 'rope_theta': 1e4, 'rms_norm_eps': 1e-5}}
# Spec §1.
TOTAL = 8_175_507_456
PARTS = {'vision': 303_507_456, 'projector': 20_979_712,
         'decoder': 7_110_660_096, 'latent_attention': 740_356_096,
         'image_newline': 4_096}
LORA = ('decoder/layers/(attention/[qkvo]|mlp/(gate|up|down))',)


@pytest.fixture(scope='module')
def config(tmp_path_factory):
  directory = tmp_path_factory.mktemp('mm_embed')
  (directory / 'nv_embed').mkdir()
  (directory / 'nv_embed' / 'config.json').write_text(json.dumps(RETRIEVER))
  (directory / 'config.json').write_text(json.dumps(
      {**LLAVA, 'retriever': str(directory / 'nv_embed')}))
  return mm_embed_files.read_config(
      directory, dtype='bfloat16', param_dtype='bfloat16', remat=True).config


@pytest.fixture(scope='module')
def params(config):
  def init(key):
    whole = mm_embed.init(config, key)
    return {**whole, 'lora': lora.init(key, whole['params'], LORA, 8)}
  return jax.eval_shape(init, jax.random.key(0))


def count(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def test_parameter_counts(params):
  """Those of the checkpoint: it also holds what the features do not need, the
  last layer of the tower and the norm behind it."""
  counts = {name: count(tree) for name, tree in params['params'].items()}
  layers = params['params']['vision']['layers']
  n_layers = jax.tree.leaves(layers)[0].shape[0]
  assert n_layers == VISION['num_hidden_layers'] - 1
  counts['vision'] += count(layers) // n_layers + 2 * VISION['hidden_size']
  assert counts == PARTS
  assert sum(counts.values()) == TOTAL
  assert {leaf.dtype for leaf in jax.tree.leaves(params['params'])} == {
      jnp.dtype('bfloat16')}


def test_tensors_of_the_checkpoint(params):
  """700 of them (spec §5): 391 of CLIP, 5 of projector and newline, 290 of the
  decoder, 14 of latent attention."""
  flat = sharding.flatten(params['params'])
  tensors, parts = set(), {}
  for weight in mm_embed_names.MM_EMBED:
    if weight.path not in flat:
      continue
    layers = flat[weight.path].shape[0] + weight.spare_layers
    keys = ({weight.key.format(layer=i) for i in range(layers)}
            if '{layer}' in weight.key else {weight.key})
    tensors |= keys
    parts.setdefault(weight.path.partition('/')[0], set()).update(keys)
  assert set(flat) <= {weight.path for weight in mm_embed_names.MM_EMBED}
  unread = 2  # the norm behind the last layer of the tower
  assert len(tensors) + unread == 700
  assert {name: len(keys) for name, keys in parts.items()} == {
      'vision': 391 - unread, 'projector': 4, 'image_newline': 1,
      'decoder': 290, 'latent_attention': 14}


def test_every_parameter_has_one_rule_and_large_ones_are_split(
    config, params):
  folded = jax.eval_shape(
      lambda params: mm_embed.fold(config, params)[1], params)
  for tree in (params, folded):
    flat = sharding.flatten(tree)
    for shape in ({'fsdp': 8}, {'tensor': 4, 'fsdp': 2}):
      mesh = sharding.make_mesh(shape)
      places = sharding.flatten(sharding.shardings(mesh, tree))
      for path, leaf in flat.items():
        share = math.prod(places[path].shard_shape(leaf.shape))
        if math.prod(leaf.shape) > 10 ** 7:
          assert share < math.prod(leaf.shape) / 3, path


def test_folding_leaves_a_sixteenth_of_the_attention(config, params):
  """537 million weights become 33.6 million (spec §1)."""
  folded = jax.eval_shape(
      lambda params: mm_embed.fold(config, params)[1], params)
  def attention(tree):
    latent = tree['params']['latent_attention']
    return count({name: leaf for name, leaf in latent.items()
                  if name in ('q', 'k', 'v', 'o') or name.startswith('folded')})
  assert attention(params) == 4 * 8 * 4096 ** 2
  assert attention(folded) == 2 * 8 * 512 * 4096


@pytest.fixture(scope='module')
def reranker(tmp_path_factory):
  directory = tmp_path_factory.mktemp('llava')
  (directory / 'config.json').write_text(json.dumps(LLAVA))
  return llava_next_files.read_config(
      directory, dtype='bfloat16', param_dtype='bfloat16').config


def test_llava_next_has_its_own_vocabulary_and_a_head(reranker):
  assert reranker.decoder.vocab_size == 32064
  assert reranker.decoder.rope_theta == 1e6
  shapes = jax.eval_shape(functools.partial(
      llava_next.init, reranker), jax.random.key(0))['params']
  assert shapes['decoder']['lm_head']['kernel'].shape == (4096, 32064)
  paths = {weight.path for weight in mm_embed_names.LLAVA_NEXT}
  assert set(sharding.flatten(shapes)) <= paths


@pytest.mark.slow
def test_embedding_compiles_for_eight_devices(config, params):
  """A batch of images with text; short ones compile as long ones do."""
  mesh = sharding.make_mesh({'data': 2, 'fsdp': 2, 'tensor': 2})
  tokens, rows = 16 + (336 // 14) ** 2 + 1, 8
  def array(dtype, *shape):
    return jax.ShapeDtypeStruct(
        (rows, *shape), dtype, sharding=sharding.batch_sharding(mesh))
  batch = {'tokens': array(jnp.int32, tokens), 'length': array(jnp.int32),
           'pool_start': array(jnp.int32),
           'visual_index': array(jnp.int32, tokens),
           'pixels': array(jnp.uint8, 1, 336, 336, 3)}
  weights = {'params': params['params']}
  with jax.set_mesh(mesh):
    compiled = jax.jit(functools.partial(mm_embed.embed, config)).lower(
        sharding.abstract(mesh, weights), batch).compile()
  memory = compiled.memory_analysis()
  per_device = 2 * count(weights) / 4
  assert per_device < memory.argument_size_in_bytes < 1.1 * per_device
