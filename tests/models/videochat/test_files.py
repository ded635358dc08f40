"""VideoChat-Flash's config.json: sizes by hand, refusals."""
import json

import pytest

from jaxret.models.videochat import files as videochat

SIZES = {
    'vocab_size': 12, 'hidden_size': 8, 'intermediate_size': 10,
    'num_hidden_layers': 2, 'num_attention_heads': 4,
    'num_key_value_heads': 2, 'rope_theta': 1e6, 'rms_norm_eps': 1e-6,
    'tie_word_embeddings': False, 'mm_hidden_size': 6,
    'mm_local_num_frames': 4, 'mm_vision_select_layer': -2,
}


@pytest.mark.parametrize('change, message', [
    ({'mm_llm_compress': True}, 'got mm_llm_compress = True'),
    ({'mm_projector_type': 'linear'}, "want 'tome16_mlp_hd64'"),
    ({'mm_vision_tower': 'internvideo2'}, 'want a umt-hd one'),
    ({'mm_hidden_size': None}, "no field 'mm_hidden_size'"),
    ({'rope_scaling': {'type': 'dynamic', 'factor': 2.0}},
     "rope_type = 'dynamic' of the rotary positions, which follow the length"),
    ({'rope_parameters': {'rope_type': 'yarn', 'factor': 4.0, 'newest': 1}},
     'got newest = 1'),
])
def test_unsupported_configs_are_refused_in_one_line(
    tmp_path, change, message):
  config = {key: value for key, value in (SIZES | change).items()
            if value is not None}
  (tmp_path / 'config.json').write_text(json.dumps(config))
  with pytest.raises(ValueError, match=message) as caught:
    videochat.read_config(tmp_path)
  assert '\n' not in str(caught.value)


def sizes(directory, **changes):
  (directory / 'config.json').write_text(json.dumps(SIZES | changes))
  return videochat.read_config(directory)


def test_sizes_are_those_of_config_json(tmp_path):
  assert sizes(tmp_path) == {
      'decoder': {
          'vocab_size': 12, 'width': 8, 'mlp_width': 10, 'layers': 2,
          'heads': 4, 'kv_heads': 2, 'head_width': 2, 'rope_theta': 1e6,
          'norm_eps': 1e-6, 'tie_embeddings': False},
      'vision': None, 'visual_width': 6, 'tokens_per_clip': 64}
  decoder = sizes(tmp_path, head_dim=16, tie_word_embeddings=True,
                  rope_parameters={'rope_theta': 500})['decoder']
  assert (decoder['head_width'], decoder['rope_theta'],
          decoder['tie_embeddings']) == (16, 500, True)


@pytest.mark.parametrize('rope', [
    {'rope_scaling': {'type': 'linear', 'factor': 4.0}},
    {'rope_parameters': {'rope_type': 'linear', 'factor': 4.0}}])
def test_scaled_rotary_positions_reach_the_decoder(tmp_path, rope):
  plain = sizes(tmp_path)['decoder']
  scaled = sizes(tmp_path, **rope)['decoder']
  assert scaled.pop('rope_frequencies') == (0.25,)  # of a head of width 2
  assert scaled.pop('rope_scale') == 1.0 and scaled == plain


@pytest.mark.parametrize('select, layers', [(-2, 23), (-1, 24), (-5, 20)])
def test_the_tower_runs_up_to_the_selected_layer(tmp_path, select, layers):
  """Of 24 blocks; -1 is the last one. 8 frames a clip have 128 tokens."""
  found = sizes(tmp_path, mm_vision_tower='umt-hd-large',
                mm_vision_select_layer=select, mm_local_num_frames=8)
  assert found['vision']['layers'] == layers
  assert found['vision']['n_frames'] == 8
  assert found['tokens_per_clip'] == 128
