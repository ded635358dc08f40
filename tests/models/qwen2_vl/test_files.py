"""config.json of Qwen2-VL in both layouts gives the same sizes."""
import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.data.qwen2_vl import reader as reader_lib
from jaxret.methods.unite import method as unite
from jaxret.models.qwen2_vl import files
from tests import tiny_unite

CHECKPOINTS = pathlib.Path(__file__).parents[1] / 'checkpoints' / '5.24.0'

TEXT = {'hidden_size': 64, 'intermediate_size': 96, 'num_hidden_layers': 3,
        'num_attention_heads': 4, 'num_key_value_heads': 2, 'vocab_size': 500,
        'rms_norm_eps': 1e-5, 'rope_theta': 1e6,
        'rope_scaling': {'mrope_section': [2, 3, 3]}}
VISION = {'embed_dim': 32, 'hidden_size': 64, 'depth': 2, 'num_heads': 2,
          'mlp_ratio': 4, 'patch_size': 14, 'spatial_merge_size': 2,
          'temporal_patch_size': 2}


def read(directory, whole, *args, **options):
  directory.mkdir(exist_ok=True)
  (directory / 'config.json').write_text(json.dumps(whole))
  return files.read_config(directory, *args, **options)


def flat(**fields):
  return {'model_type': 'qwen2_vl', 'tie_word_embeddings': True,
          'image_token_id': 7, **TEXT, 'vision_config': VISION, **fields}


def test_both_layouts_say_the_same(tmp_path):
  nested = {'model_type': 'qwen2_vl', 'tie_word_embeddings': True,
            'image_token_id': 7, 'text_config': TEXT, 'vision_config': VISION}
  found = read(tmp_path / 'flat', flat())
  assert found == read(tmp_path / 'nested', nested)
  decoder, vision = found.config.decoder, found.config.vision
  assert (decoder.width, decoder.layers, decoder.heads, decoder.kv_heads,
          decoder.head_width, decoder.vocab_size) == (64, 3, 4, 2, 16, 500)
  assert (decoder.rope_theta, decoder.rope_sections, decoder.norm_eps) == (
      1e6, (2, 3, 3), 1e-5)
  assert (vision.width, vision.layers, vision.mlp_width, vision.out_width) == (
      32, 2, 128, 64)
  assert decoder.tie_embeddings and found.special['image'] == 7


def test_numerics_reach_the_part_that_has_them(tmp_path):
  found = read(tmp_path, flat(), 'mrope', dtype='bfloat16', lora_scale=2.0)
  assert found.config.position_mode == 'mrope'
  assert (found.config.decoder.dtype, found.config.vision.dtype) == (
      'bfloat16', 'bfloat16')
  assert found.config.decoder.lora_scale == 2.0


def test_a_reader_makes_what_the_model_is_right_for(tmp_path):
  scaling = {'type': 'dynamic', 'factor': 2.0, 'mrope_section': [2, 3, 3]}
  config = read(tmp_path, flat(
      rope_scaling=scaling, max_position_embeddings=96)).config
  tokenizer = tiny_unite.tokenizer()
  reader = reader_lib.open_reader(config, tokenizer, max_tokens=96)
  assert reader.max_tokens == 96
  with pytest.raises(ValueError, match='of 97 tokens.* want 96 at most: past '
                     "it rope_type = 'dynamic' of the model"):
    reader_lib.open_reader(config, tokenizer, max_tokens=97)
  config = read(tmp_path, flat(vision_config={**VISION, 'patch_size': 16}))
  with pytest.raises(ValueError, match='got patch_size = 16, want 14'):
    reader_lib.open_reader(config.config, tokenizer)


@pytest.mark.parametrize('fields, message', [
    ({'use_sliding_window': True}, 'got use_sliding_window = True'),
    ({'vision_config': {**VISION, 'in_channels': 4}}, 'got in_channels = 4'),
    ({'text_config': {**TEXT, 'tie_word_embeddings': False}},
     'got tie_word_embeddings = True, and False in text_config'),
    ({'rope_parameters': {'rope_type': 'yarn', 'factor': 2.0}},
     'got rope_scaling and rope_parameters, which differ')])
def test_what_is_not_implemented_is_refused(tmp_path, fields, message):
  with pytest.raises(ValueError, match=message):
    read(tmp_path, flat(**fields))


def test_what_is_trained_to_embed_has_a_head_if_the_file_has(tmp_path):
  bare = CHECKPOINTS / 'qwen2_vl_bare'
  config = files.read_config(bare).config
  assert not config.decoder.tie_embeddings
  found = files.without_absent_head(bare, config)
  assert found.decoder.tie_embeddings
  assert found == dataclasses.replace(config, decoder=dataclasses.replace(
      config.decoder, tie_embeddings=True))
  assert files.without_absent_head(
      CHECKPOINTS / 'qwen2_vl_untied', config) == config
  # A config.json alone is enough to plan with.
  assert files.without_absent_head(tmp_path, config) == config


def test_unite_is_trained_from_a_checkpoint_without_a_head():
  config, tokenizer = tiny_unite.make_config(), tiny_unite.tokenizer()
  config.model.pretrained = str(CHECKPOINTS / 'qwen2_vl_bare')
  method = unite.method(config, tokenizer)
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  params = method.load(jax.random.key(0), mesh)
  want = jax.eval_shape(method.init, jax.random.key(0))
  assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, want)
  assert 'lm_head' not in params['params']['decoder']
