"""The files of a Qwen2-VL that was trained from scratch, as published ones are.

`files.read_config` is the way back.
"""
from jaxret.models.qwen2_vl import vision as vision_lib

MAX_POSITIONS = 32768


def config_json(config, special, end_id):
  """config.json of a Qwen2VlConfig, flat as transformers 4 and 5 read it.

  special: {'image', 'video', 'vision_start', 'vision_end'} -> id; end_id: of
  the token that ends a text. Raises ValueError for sizes that its class cannot
  say.
  """
  c, v = config.decoder, config.vision
  if c.head_width * c.heads != c.width:
    raise ValueError(
        f'Qwen2-VL: got {c.heads} heads of {c.head_width} in a width of '
        f'{c.width}; its class has heads that fill the width: train with '
        f'model.head_width={c.width // c.heads} to export')
  if v.mlp_width % v.width:
    raise ValueError(
        f'Qwen2-VL: got vision.mlp_width = {v.mlp_width}, of its class a '
        f'multiple of vision.width, {v.width}: train with one to export')
  return {
      'architectures': ['Qwen2VLForConditionalGeneration'],
      'model_type': 'qwen2_vl', 'vocab_size': c.vocab_size,
      'hidden_size': c.width, 'intermediate_size': c.mlp_width,
      'num_hidden_layers': c.layers, 'num_attention_heads': c.heads,
      'num_key_value_heads': c.kv_heads, 'hidden_act': 'silu',
      'max_position_embeddings': MAX_POSITIONS, 'rms_norm_eps': c.norm_eps,
      'tie_word_embeddings': c.tie_embeddings, 'rope_theta': c.rope_theta,
      'rope_scaling': {'type': 'mrope',
                       'mrope_section': list(c.rope_sections)},
      'use_sliding_window': False, 'attention_dropout': 0.0,
      'bos_token_id': None, 'eos_token_id': end_id,
      **{f'{name}_token_id': token for name, token in special.items()},
      'vision_config': {
          'model_type': 'qwen2_vl', 'depth': v.layers, 'embed_dim': v.width,
          'hidden_size': v.out_width, 'mlp_ratio': v.mlp_width // v.width,
          'num_heads': v.heads, 'in_channels': vision_lib.CHANNELS,
          'patch_size': v.patch_px, 'spatial_merge_size': v.merge,
          'temporal_patch_size': v.temporal_patch,
          'hidden_act': 'quick_gelu'}}


def preprocessor_json(config, pixels):
  """preprocessor_config.json; pixels: (least, most) of an image."""
  v = config.vision
  return {
      'image_processor_type': 'Qwen2VLImageProcessor',
      'do_convert_rgb': True, 'do_normalize': True, 'do_rescale': True,
      'do_resize': True, 'resample': 3, 'rescale_factor': 1 / 255,
      'image_mean': list(vision_lib.MEAN), 'image_std': list(vision_lib.STD),
      'min_pixels': pixels[0], 'max_pixels': pixels[1],
      'patch_size': v.patch_px, 'merge_size': v.merge,
      'temporal_patch_size': v.temporal_patch}


def shapes(config):
  """{key: shape} of its convolution, which is flat in our parameters."""
  v = config.vision
  key = next(weight.key for weight in config.weights
             if weight.path == 'vision/patch/kernel')
  return {key: (v.width, vision_lib.CHANNELS, v.temporal_patch, v.patch_px,
                v.patch_px)}
