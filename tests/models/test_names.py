"""The tables name every parameter once, and every renamed tensor."""
import json
import math
import re

import flax.traverse_util as traverse
import jax
import jax.numpy as jnp
import pytest

from jaxret.models import decoder, names
from jaxret.models.videochat import files as videochat
from jaxret.models.videochat import model as vlm
from jaxret.models.videochat import vision

SIZES = {
    'vocab_size': 12, 'hidden_size': 8, 'intermediate_size': 10,
    'num_hidden_layers': 2, 'num_attention_heads': 4,
    'num_key_value_heads': 2, 'rope_theta': 1e6, 'rms_norm_eps': 1e-6,
    'tie_word_embeddings': False, 'mm_hidden_size': 6,
    'mm_local_num_frames': 4, 'mm_vision_select_layer': -2,
}
TABLE = names.DECODER + names.BLIM_HEADS


def vlm_shapes(sizes, **numerics):
  config = decoder.DecoderConfig(**sizes['decoder'], **numerics)
  module = vlm.Vlm(config, sizes['visual_width'])
  return jax.eval_shape(
      module.init, jax.random.key(0),
      jax.ShapeDtypeStruct((1, 2, 3, sizes['visual_width']), jnp.float32),
      jax.ShapeDtypeStruct((1, 9), jnp.int32))['params']


def test_released_sizes_and_every_name(tmp_path):
  """At 7B the table names each parameter of the model, and no other."""
  released = SIZES | {
      'vocab_size': 152064, 'hidden_size': 3584, 'intermediate_size': 18944,
      'num_hidden_layers': 28, 'num_attention_heads': 28,
      'num_key_value_heads': 4, 'mm_hidden_size': 1024,
      'mm_vision_tower': 'umt-hd-large', 'mm_llm_compress': False}
  (tmp_path / 'config.json').write_text(json.dumps(released))
  sizes = videochat.read_config(tmp_path)
  assert sizes['tokens_per_clip'] == 64
  assert vision.VisionConfig(**sizes['vision']) == vision.VisionConfig()
  shapes = vlm_shapes(sizes, param_dtype='bfloat16')
  flat = traverse.flatten_dict(shapes, sep='/')
  assert set(flat) == {weight.path for weight in TABLE}
  decoder_size = sum(math.prod(leaf.shape) for path, leaf in flat.items()
                     if path.startswith('decoder/'))
  assert decoder_size == 7_615_616_512  # as published for Qwen2-7B
  tower = jax.eval_shape(
      vision.VisionTower(vision.VisionConfig()).init, jax.random.key(0),
      jax.ShapeDtypeStruct((1, 4, 448, 448, 3), jnp.float32))['params']
  assert set(traverse.flatten_dict({'vision': tower}, sep='/')) == {
      weight.path for weight in names.VISION}


@pytest.mark.parametrize('table', ['VIDEOCHAT_FLASH', 'QWEN2_VL'])
def test_no_name_stands_twice_or_is_ignored(table):
  table = getattr(names, table)
  for field in ('path', 'key'):
    found = [getattr(weight, field) for weight in table]
    assert len(set(found)) == len(found)
  for weight in table:
    key = weight.key.format(layer=0)
    assert names.plain(key) == key
    assert not any(re.fullmatch(pattern, key) for pattern, _ in names.IGNORED)


def test_newer_names_are_those_of_the_tables():
  """As transformers has written them since it split Qwen2-VL's parts."""
  old = {weight.key.format(layer=1) for weight in names.QWEN2_VL}
  for key, want in (
      ('model.language_model.layers.1.mlp.up_proj.weight',
       'model.layers.1.mlp.up_proj.weight'),
      ('model.language_model.embed_tokens.weight', 'model.embed_tokens.weight'),
      ('model.visual.blocks.1.attn.qkv.bias', 'visual.blocks.1.attn.qkv.bias'),
      ('model.visual.merger.mlp.2.weight', 'visual.merger.mlp.2.weight'),
      ('lm_head.weight', 'lm_head.weight')):
    assert names.plain(key) == want and want in old


def test_a_table_within_another_gets_prefixes_and_fields():
  table = names.within((names.Weight('kernel', 'weight', 'transpose'),),
                       'head/', 'lm_head.', optional=True)
  assert table == (names.Weight(
      'head/kernel', 'lm_head.weight', 'transpose', True, 0),)


def test_every_linear_layer_has_factors_and_nothing_else_has(tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps(SIZES))
  shapes = vlm_shapes(videochat.read_config(tmp_path))
  linear = {path.removesuffix('kernel') for path in traverse.flatten_dict(
      shapes, sep='/') if path.endswith('/kernel')}
  assert sorted(weight.path for weight in names.LORA) == sorted(
      f'{path}{factor}' for path in linear for factor in 'ab')
  keys = {weight.path: weight.key for weight in names.LORA}
  query = 'model.layers.{layer}.self_attn.q_proj'
  assert keys['decoder/layers/attention/q/a'] == f'{query}.lora_A.weight'
  assert keys['decoder/layers/attention/q/b'] == f'{query}.lora_B.weight'
