"""VideoChat-Flash directories: the sizes that config.json states."""
from jaxret.models import model_files

# (key of config.json, the value that we implement, what it means)
SUPPORTED = (
    ('mm_llm_compress', False, 'token dropping inside the decoder'),
    ('mm_projector_type', 'tome16_mlp_hd64', 'the visual projector'),
    ('mm_newline_position', 'nothing', 'separators between frames'),
    ('hidden_act', 'silu', 'the activation of the decoder'),
    ('use_sliding_window', False, 'sliding-window attention'),
    ('rope_scaling', None, 'scaled rotary positions'),
)
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
    ValueError: if a field is missing, or asks for what is not implemented.
  """
  path, config = model_files.read_json(name)
  model_files.check_supported(path, config, SUPPORTED)
  try:
    clip_frames = config['mm_local_num_frames']
    return {'decoder': _decoder_sizes(config),
            'vision': _vision_sizes(config, path),
            'visual_width': config['mm_hidden_size'],
            'tokens_per_clip': TOKENS_PER_FRAME * clip_frames}
  except KeyError as error:
    raise ValueError(f'{path}: no field {error}; want the config.json of a '
                     'VideoChat-Flash model') from error


def _decoder_sizes(config):
  heads, width = config['num_attention_heads'], config['hidden_size']
  rope = config.get('rope_parameters') or config
  return {
      'vocab_size': config['vocab_size'],
      'width': width,
      'mlp_width': config['intermediate_size'],
      'layers': config['num_hidden_layers'],
      'heads': heads,
      'kv_heads': config['num_key_value_heads'],
      'head_width': config.get('head_dim') or width // heads,
      'rope_theta': float(rope['rope_theta']),
      'norm_eps': config['rms_norm_eps'],
      'tie_embeddings': config.get('tie_word_embeddings', False),
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
