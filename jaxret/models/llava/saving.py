"""The files of an MM-Embed that was trained here, as the published ones are.

`mm_embed_files.read_config` is the way back.
"""
import numpy as np

from jaxret.models import clip, weight_files
from jaxret.models.llava import latent_attention

RETRIEVER = 'retriever.json'  # beside config.json, which names it
MAX_POSITIONS = 32768


def config_json(config, image_id, pinpoints):
  """config.json of an MmEmbedConfig; its text_config is what runs.

  image_id: the token that stands for an image; pinpoints: see files.Found.
  """
  c, tower = config.vision, config.vision.encoder
  return {
      'architectures': ['LlavaNextModel'], 'model_type': 'llava_next',
      'retriever': RETRIEVER, 'image_token_index': image_id,
      'image_grid_pinpoints': [list(size) for size in pinpoints],
      'projector_hidden_act': 'gelu', 'vision_feature_layer': -2,
      'vision_feature_select_strategy': 'default',
      'use_image_newline_parameter': True, 'tie_word_embeddings': False,
      'multimodal_projector_bias': True, 'global_image_patch_only': True,
      'image_seq_length': c.grid ** 2, 'text_config': _text(config.decoder),
      'vision_config': {
          'model_type': 'clip_vision_model', 'hidden_size': tower.width,
          'intermediate_size': tower.mlp_width,
          'num_hidden_layers': tower.layers + 1,  # the last does not run
          'num_attention_heads': tower.heads, 'hidden_act': tower.activation,
          'layer_norm_eps': tower.norm_eps, 'image_size': c.image_px,
          'patch_size': c.patch_px}}


def retriever_json(config):
  """What NV-Embed's config.json says of the decoder and latent attention.

  Raises ValueError for a model without latent attention, which it always has.
  """
  latent = config.latent
  if latent is None:
    raise ValueError('MM-Embed: got no latent attention, which its layout '
                     'always has: export a model that has it')
  return {
      'architectures': ['NVEmbedModel'], 'model_type': 'nvembed',
      'padding_side': 'right', 'is_mask_instruction': True, 'add_eos': True,
      'mask_type': 'b', 'hidden_size': config.decoder.width,
      'text_config': _text(config.decoder), 'latent_attention_config': {
          'hidden_dim': latent.width, 'num_latents_value': latent.latents,
          'num_cross_heads': latent.heads, 'cross_dim_head': latent.head_width,
          'output_normalize': True, **({} if latent.expansion == (
              latent_attention.LatentConfig.expansion) else {
                  'expansion': latent.expansion})}}


def _text(c):
  return {
      'model_type': 'mistral', 'vocab_size': c.vocab_size,
      'hidden_size': c.width, 'intermediate_size': c.mlp_width,
      'num_hidden_layers': c.layers, 'num_attention_heads': c.heads,
      'num_key_value_heads': c.kv_heads, 'head_dim': c.head_width,
      'hidden_act': 'silu', 'max_position_embeddings': MAX_POSITIONS,
      'rms_norm_eps': c.norm_eps, 'rope_theta': c.rope_theta,
      'sliding_window': None, 'attention_dropout': 0.0,
      'tie_word_embeddings': False}


def preprocessor_json(config, pinpoints):
  """preprocessor_config.json of LLaVA-NeXT's images."""
  px = config.vision.image_px
  return {
      'image_processor_type': 'LlavaNextImageProcessor',
      'image_grid_pinpoints': [list(size) for size in pinpoints],
      'image_mean': list(clip.MEAN), 'image_std': list(clip.STD),
      'crop_size': {'height': px, 'width': px}, 'size': {'shortest_edge': px},
      'do_center_crop': True, 'do_convert_rgb': True, 'do_normalize': True,
      'do_pad': True, 'do_rescale': True, 'do_resize': True, 'resample': 3,
      'rescale_factor': 1 / 255}


def shapes(config, table):
  """{key: shape} of the tower's convolution, flat in our parameters."""
  c = config.vision
  key = next(weight.key for weight in table
             if weight.path == 'vision/patch/kernel')
  return {key: (c.encoder.width, 3, c.patch_px, c.patch_px)}


def unread(config, table, params):
  """{key: Tensor} of what the tower's class has and nothing reads.

  The last layer, and the norm behind it: zeros.
  """
  tower, found = config.vision.encoder, {}
  dtype = np.dtype(tower.param_dtype)
  made = weight_files.tensors(table, {'vision': params['vision']})
  for weight in table:
    if weight.spare_layers and '{layer}' in weight.key:
      like = made.get(weight.key.format(layer=0))
      shape = like.shape if like else None
    else:
      shape = (tower.width,) if weight.path.startswith('vision_head/norm/') \
          else None
    if shape:
      found[weight.key.format(layer=tower.layers)] = weight_files.Tensor(
          shape, dtype, lambda shape=shape: np.zeros(shape, dtype))
  return found
