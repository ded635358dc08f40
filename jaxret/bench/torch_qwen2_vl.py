"""The same embeddings in PyTorch: Qwen2-VL of `transformers`, on all cores.

Batches are padded to their longest; the patches of a batch lie behind each
other without padding, as Qwen2-VL's processor lays them.
"""
import os
import re

import numpy as np
import torch
import transformers

from jaxret import sharding
from jaxret.models import names
from jaxret.models.qwen2_vl import vision as vision_lib


class Model:
  """Our config and parameters as transformers' Qwen2VLModel."""

  def __init__(self, config, params, special):
    torch.set_num_threads(os.cpu_count())
    self.special = special
    self.qwen2_vl = transformers.Qwen2VLModel(_config(config, special)).eval()
    self.qwen2_vl.load_state_dict(
        _state_dict(config, sharding.flatten(sharding.to_host(params))))

  def batch(self, inputs):
    """Tensors of a list of data.qwen2_vl.reader.Inputs, pixels normalised."""
    tokens = torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(one.tokens).long() for one in inputs],
        batch_first=True)
    length = torch.tensor([len(one.tokens) for one in inputs])
    mask = torch.arange(tokens.shape[1])[None] < length[:, None]
    found = {'input_ids': tokens, 'attention_mask': mask.long()}
    for kind, names_ in (
        ('image', ('pixel_values', 'image_grid_thw')),
        ('video', ('pixel_values_videos', 'video_grid_thw'))):
      media = [(grid, patches) for one in inputs for its, grid, patches
               in zip(one.kinds, one.grids, one.patches) if its == kind]
      if media:
        pixels = _normalised(np.concatenate([patches for _, patches in media]))
        found |= {names_[0]: torch.from_numpy(pixels),
                  names_[1]: torch.tensor([grid for grid, _ in media])}
    return found

  def embed(self, batch):
    """Unit vectors [B, D]: UNITE's positions and pooling."""
    positions = torch.arange(batch['input_ids'].shape[1])
    hidden = self.qwen2_vl(
        **batch, position_ids=positions.expand_as(batch['input_ids']),
        use_cache=False).last_hidden_state
    last = batch['attention_mask'].sum(1) - 1
    return torch.nn.functional.normalize(
        hidden[torch.arange(len(last)), last], dim=-1)


def _normalised(patches):
  each = patches.shape[-1] // vision_lib.CHANNELS
  mean, std = (np.repeat(np.float32(values), each)
               for values in (vision_lib.MEAN, vision_lib.STD))
  return (patches.astype(np.float32) / 255 - mean) / std


def _config(config, special):
  d, v = config.decoder, config.vision
  return transformers.Qwen2VLConfig(
      text_config={
          'vocab_size': d.vocab_size, 'hidden_size': d.width,
          'intermediate_size': d.mlp_width, 'num_hidden_layers': d.layers,
          'num_attention_heads': d.heads, 'num_key_value_heads': d.kv_heads,
          'rms_norm_eps': d.norm_eps, 'rope_parameters': {
              'rope_type': 'default', 'rope_theta': d.rope_theta,
              'mrope_section': list(d.rope_sections)},
          'bos_token_id': None, 'eos_token_id': None},
      vision_config={
          'depth': v.layers, 'embed_dim': v.width, 'hidden_size': v.out_width,
          'mlp_ratio': v.mlp_width // v.width, 'num_heads': v.heads,
          'patch_size': v.patch_px, 'spatial_merge_size': v.merge,
          'temporal_patch_size': v.temporal_patch},
      image_token_id=special['image'], video_token_id=special['video'],
      attn_implementation='sdpa')


def _state_dict(config, flat):
  """Our parameters under the names of transformers, in PyTorch's layout."""
  v, found = config.vision, {}
  layers = {'decoder': config.decoder.layers, 'vision': v.layers}
  for weight in names.QWEN2_VL:
    leaf = flat.get(f'params/{weight.path}')
    if leaf is None or 'lm_head' in weight.path:
      continue
    stacked = '{layer}' in weight.key
    for layer, part in enumerate(leaf if stacked else [leaf]):
      if weight.transform == 'transpose':
        part = part.T
      elif weight.transform == 'flatten':
        part = part.T.reshape(-1, vision_lib.CHANNELS, v.temporal_patch,
                              v.patch_px, v.patch_px)
      key = re.sub(r'^model\.', 'language_model.',
                   weight.key.format(layer=layer))
      found[key] = torch.from_numpy(np.array(part, np.float32))
    assert not stacked or len(leaf) == layers[weight.path.split('/')[0]]
  return found
