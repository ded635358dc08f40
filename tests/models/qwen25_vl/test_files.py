"""config.json of Qwen2.5-VL as transformers and the hub write it."""
import json
import pathlib

import pytest

from jaxret import models
from jaxret.models.qwen2_vl import files as qwen2_vl
from jaxret.models.qwen25_vl import files

CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
GOLDEN = pathlib.Path(__file__).parents[2] / 'golden' / 'qwen25_vl'
VERSIONS = '4.49.0', '4.51.3', '4.57.6', '5.24.0'


def literal(version, name='qwen2_5_vl'):
  return json.loads((CONFIGS / version / f'{name}.json').read_text())


def read(directory, whole, *args, **options):
  (directory / 'config.json').write_text(json.dumps(whole))
  return files.read_config(directory, *args, **options)


@pytest.mark.parametrize('version', VERSIONS)
def test_sizes_are_those_that_were_saved(tmp_path, version):
  found = read(tmp_path, literal(version))
  decoder, vision = found.config.decoder, found.config.vision
  assert (decoder.vocab_size, decoder.width, decoder.mlp_width, decoder.layers,
          decoder.heads, decoder.kv_heads, decoder.rope_theta,
          decoder.norm_eps, decoder.tie_embeddings) == (
      400, 32, 48, 3, 4, 2, 5e5, 1e-6, True)
  assert decoder.rope_sections == (1, 1, 2)
  assert (vision.width, vision.out_width, vision.layers, vision.heads,
          vision.mlp_width, vision.window_px, vision.full_blocks,
          vision.tokens_per_second, vision.norm_eps) == (
      24, 32, 3, 2, 40, 56, (1,), 2, 1e-6)
  assert found.special == {'image': 390, 'video': 391, 'vision_start': 392,
                           'vision_end': 393}
  assert found.config.name == 'qwen2_5_vl'


@pytest.mark.parametrize('version', VERSIONS)
def test_what_a_file_leaves_out_is_the_class_default(tmp_path, version):
  whole = literal(version, 'qwen2_5_vl_default')
  read(tmp_path, whole)
  # And what the class writes, left out, is the same.
  vision = {'out_hidden_size': 8192}
  short = {'model_type': 'qwen2_5_vl', 'vision_config': vision}
  assert read(tmp_path, whole).config == read(tmp_path, short).config
  config = read(tmp_path, short).config
  assert (config.decoder.width, config.decoder.layers, config.decoder.norm_eps,
          config.decoder.kv_heads) == (8192, 80, 1e-5, 8)
  assert (config.vision.width, config.vision.tokens_per_second,
          config.vision.window_tokens, config.vision.window_patches) == (
      3584, 4, 4, 64)


def test_numerics_reach_the_part_that_has_them(tmp_path):
  found = read(tmp_path, literal('4.57.6'), 'mrope', dtype='bfloat16',
               lora_scale=2.0).config
  assert (found.position_mode, found.decoder.lora_scale) == ('mrope', 2.0)
  assert found.decoder.dtype == found.vision.dtype == 'bfloat16'


@pytest.mark.parametrize('version', ('4.49.0', '5.24.0'))
@pytest.mark.parametrize('place, field, value', [
    ('', 'mystery_norm', 7), ('text_config', 'mystery_norm', True),
    ('vision_config', 'mystery_norm', 'new'),
    ('vision_config', 'embed_dim', 24), ('vision_config', 'mlp_ratio', 4),
    ('vision_config', 'hidden_act', 'quick_gelu'),
    ('vision_config', 'in_channels', 1),
    ('vision_config', 'spatial_merge_size', 4),
    ('vision_config', 'model_type', 'qwen2_vl'),
    ('vision_config', 'window_size', '112'),
    ('vision_config', 'window_size', 14),
    ('vision_config', 'fullatt_block_indexes', [7, 31]),
    ('vision_config', 'fullatt_block_indexes', 7),
    ('vision_config', 'fullatt_block_indexes', [1.5]),
    ('vision_config', 'tokens_per_second', -1),
    ('text_config', 'hidden_act', 'gelu'),
    ('text_config', 'use_sliding_window', True),
    ('text_config', 'head_dim', 16)])
def test_what_changes_numbers_is_refused_by_name(
    tmp_path, version, place, field, value):
  whole = literal(version)
  part = whole[place] if place in whole else whole
  part[field] = value
  with pytest.raises(ValueError) as caught:
    read(tmp_path, whole)
  message = str(caught.value)
  said = {'window_size': 'window', 'fullatt_block_indexes': 'block'}
  assert said.get(field, field) in message and '\n' not in message


def test_each_backbone_reads_its_own_files(tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps(literal('4.57.6')))
  assert models.files_of(tmp_path) is files
  with pytest.raises(ValueError, match="got model_type 'qwen2_5_vl', want qwen2"
                     '_vl or qwen2_vl_text'):
    qwen2_vl.read_config(tmp_path)
  (tmp_path / 'config.json').write_text('{"model_type": "llama"}')
  with pytest.raises(ValueError, match="got model_type 'llama', want .*qwen2_5"
                     '_vl.* or qwen2_vl'):
    models.files_of(tmp_path)


def test_the_published_layout_is_read(tmp_path):
  """Flat, with the fields that only files of the hub have."""
  whole = json.loads((GOLDEN / 'config_hub_flat.json').read_text())
  assert 'in_chans' in whole['vision_config'] and 'vision_token_id' in whole
  assert read(tmp_path, whole) == files.read_config(GOLDEN / 'model')
