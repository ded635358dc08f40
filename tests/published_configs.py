"""config.json of published models, what is read of it."""
import json

QWEN25_VL_7B = {
    'model_type': 'qwen2_5_vl', 'hidden_act': 'silu', 'rms_norm_eps': 1e-6,
    'rope_theta': 1e6, 'use_sliding_window': False, 'hidden_size': 3584,
    'num_attention_heads': 28, 'num_key_value_heads': 4,
    'intermediate_size': 18944, 'num_hidden_layers': 28, 'vocab_size': 152064,
    'tie_word_embeddings': False,
    'rope_scaling': {'type': 'mrope', 'mrope_section': [16, 24, 24]},
    'vision_config': {
        'depth': 32, 'hidden_size': 1280, 'intermediate_size': 3420,
        'num_heads': 16, 'in_chans': 3, 'patch_size': 14, 'window_size': 112,
        'spatial_patch_size': 14, 'tokens_per_second': 2,
        'fullatt_block_indexes': [7, 15, 23, 31], 'out_hidden_size': 3584}}
QWEN3_VL_8B = {
    'model_type': 'qwen3_vl', 'tie_word_embeddings': False,
    'text_config': {
        'model_type': 'qwen3_vl_text', 'hidden_act': 'silu', 'head_dim': 128,
        'rms_norm_eps': 1e-6, 'rope_theta': 5000000, 'vocab_size': 151936,
        'max_position_embeddings': 262144, 'attention_bias': False,
        'attention_dropout': 0.0, 'num_key_value_heads': 8,
        'hidden_size': 4096, 'num_hidden_layers': 36,
        'num_attention_heads': 32, 'intermediate_size': 12288,
        'rope_scaling': {'mrope_interleaved': True, 'rope_type': 'default',
                         'mrope_section': [24, 20, 20]}},
    'vision_config': {
        'model_type': 'qwen3_vl', 'hidden_act': 'gelu_pytorch_tanh',
        'in_channels': 3, 'num_heads': 16, 'num_position_embeddings': 2304,
        'patch_size': 16, 'spatial_merge_size': 2, 'temporal_patch_size': 2,
        'depth': 27, 'hidden_size': 1152, 'intermediate_size': 4304,
        'deepstack_visual_indexes': [8, 16, 24], 'out_hidden_size': 4096}}


def write(directory, config):
  """Writes a config.json; returns the directory as str."""
  (directory / 'config.json').write_text(json.dumps(config))
  return str(directory)
