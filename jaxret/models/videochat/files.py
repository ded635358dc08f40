"""VideoChat-Flash directories: the sizes that config.json states."""
from jaxret.models import config_fields, model_files, rotary

# Qwen2Config, and what the code that comes with VideoChat-Flash adds: the
# fields of its own, how it makes pixels and prompts, and how it was trained.
FIELDS = config_fields.Fields(
    sizes={'vocab_size': 151936, 'hidden_size': 4096,
           'intermediate_size': 22016, 'num_hidden_layers': 32,
           'num_attention_heads': 32, 'num_key_value_heads': 32,
           'head_dim': None, 'max_position_embeddings': 32768,
           'rms_norm_eps': 1e-6, 'tie_word_embeddings': False},
    only={'hidden_act': ('silu',), 'use_sliding_window': (False, None),
          'attention_dropout': (0.0,),
          'mm_llm_compress': (False,),  # drops tokens inside the decoder
          'mm_projector_type': ('tome16_mlp_hd64',),
          'mm_newline_position': ('nothing',),  # between frames
          'mm_patch_merge_type': ('flat', 'spatial_nopad'),
          'mm_resampler_type': (None,), 'mm_use_im_patch_token': (False,),
          'mm_use_im_start_end': (False,),
          'mm_vision_select_feature': ('patch',),
          'vision_encode_type': ('video_image',), 'use_mm_proj': (True,),
          'use_pos_skipping': (False,), 'enable_depth_vision_tower': (False,),
          'tokenizer_padding_side': ('right',)},
    optional=('num_key_value_heads',),
    harmless=tuple("""
        sliding_window max_window_layers mm_hidden_size mm_local_num_frames
        mm_vision_select_layer mm_vision_tower vision_tower_pretrained
        llm_compress_layer_list llm_compress_type llm_image_token_ratio_list
        mm_close_init mm_num_compress_latents mm_num_compress_query_type
        mm_pos_num_frames min_slow_num_frames mm_spatial_pool_mode
        mm_spatial_pool_out_channels mm_spatial_pool_stride pos_skipping_range
        frame_aspect_ratio frame_grid_pinpoints image_aspect_ratio
        image_crop_resolution image_grid_pinpoints image_split_resolution
        max_num_pixels max_sequence_length time_msg_type
        tokenizer_model_max_length freeze_mm_mlp_adapter
        freeze_mm_vision_resampler mm_projector_lr mm_tunable_parts
        mm_vision_tower_lr tune_mm_mlp_adapter tune_mm_vision_resampler
        unfreeze_mm_vision_tower""".split()) + rotary.CONFIG_FIELDS)
# What the released code builds for a tower whose name contains 'umt-hd'.
UMT_HD = {'image_px': 448, 'patch_px': 16, 'width': 1024, 'heads': 16,
          'mlp_width': 4096}
UMT_HD_BLOCKS = 24
TOKENS_PER_FRAME = 16


def read_config(name):
  """Sizes of a model from its config.json.

  Returns:
    {'decoder': fields of DecoderConfig, 'vision': fields of VisionConfig, or
    None if the model has no tower, 'visual_width': int, 'tokens_per_clip':
    int}.

  Raises:
    ValueError: if a field is missing, asks for what is not implemented, or is
      not known.
  """
  path, config = model_files.read_json(name)
  decoder = _decoder_sizes(path, config)
  try:
    clip_frames = config['mm_local_num_frames']
    return {'decoder': decoder,
            'vision': _vision_sizes(config, path),
            'visual_width': config['mm_hidden_size'],
            'tokens_per_clip': TOKENS_PER_FRAME * clip_frames}
  except KeyError as error:
    raise ValueError(f'{path}: no field {error}; want the config.json of a '
                     'VideoChat-Flash model') from error


def read_decoder(name):
  """Fields of DecoderConfig from the config.json of a Qwen2 model."""
  return _decoder_sizes(*model_files.read_json(name))


def _decoder_sizes(path, config):
  sizes = config_fields.read(path, config, FIELDS)
  heads, width = sizes['num_attention_heads'], sizes['hidden_size']
  head_width = sizes['head_dim'] or width // heads
  rope = rotary.read(path, config, head_width,
                     sizes['max_position_embeddings'], 1e4)
  if 'max_tokens' in rope:
    # Prefixes and suffixes are read apart here, at positions that say nothing
    # of how long both are together.
    raise ValueError(f'{path}: got {rope["limited_by"]} of the rotary '
                     'positions, which follow the length of a sequence, want '
                     'default, linear, yarn or llama3: use another model')
  return {
      'vocab_size': sizes['vocab_size'],
      'width': width,
      'mlp_width': sizes['intermediate_size'],
      'layers': sizes['num_hidden_layers'],
      'heads': heads,
      'kv_heads': sizes['num_key_value_heads'] or heads,
      'head_width': head_width,
      'norm_eps': sizes['rms_norm_eps'],
      'tie_embeddings': sizes['tie_word_embeddings'],
      **rope,
  }


def _vision_sizes(config, path):
  tower = config.get('mm_vision_tower')
  if tower is None:
    return None
  if 'umt-hd' not in tower:
    raise ValueError(f'{path}: got mm_vision_tower = {tower!r}, want a umt-hd '
                     'one, the only one implemented: use another model')
  layers = UMT_HD_BLOCKS + config['mm_vision_select_layer'] + 1
  return {**UMT_HD, 'n_frames': config['mm_local_num_frames'],
          'layers': layers}
