"""The same embeddings in PyTorch: CLIP of `transformers`, on all cores.

A batch holds texts, padded to their longest, or images and the frames of
videos, behind each other without padding.
"""
import os

import numpy as np
import torch
import transformers

from jaxret import sharding
from jaxret.models import clip, encoder_names


class Model:
  """Our config and parameters as transformers' CLIPModel."""

  def __init__(self, config, params):
    torch.set_num_threads(os.cpu_count())
    self.clip = transformers.CLIPModel(_config(config)).eval()
    left = self.clip.load_state_dict(_state_dict(
        config, sharding.flatten(sharding.to_host(params))), strict=False)
    missing = set(left.missing_keys) - {'logit_scale'}
    assert not missing and not left.unexpected_keys, left

  def batch(self, inputs):
    """Tensors of a list of data.dual_encoder.reader.Inputs of one kind."""
    if inputs[0].tokens is None:
      pixels = clip.pixel_values(
          np.concatenate([one.pixels for one in inputs]))
      return {'pixel_values': torch.from_numpy(
                  np.array(pixels).transpose(0, 3, 1, 2).copy()),
              'frames': [len(one.pixels) for one in inputs]}
    tokens = torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(one.tokens).long() for one in inputs],
        batch_first=True)
    length = torch.tensor([len(one.tokens) for one in inputs])
    mask = torch.arange(tokens.shape[1])[None] < length[:, None]
    return {'input_ids': tokens, 'attention_mask': mask.long()}

  def embed(self, batch):
    """Unit vectors [B, D]; of a video the mean of its frames' unit vectors."""
    unit = torch.nn.functional.normalize
    if 'input_ids' in batch:
      found = self.clip.text_model(**batch).pooler_output
      return unit(self.clip.text_projection(found), dim=-1)
    found = self.clip.vision_model(batch['pixel_values']).pooler_output
    each = unit(self.clip.visual_projection(found), dim=-1)
    return unit(torch.stack([
        part.mean(0) for part in each.split(batch['frames'])]), dim=-1)


def _config(config):
  def tower(c):
    return {'hidden_size': c.width, 'intermediate_size': c.mlp_width,
            'num_hidden_layers': c.layers, 'num_attention_heads': c.heads,
            'hidden_act': c.activation, 'layer_norm_eps': c.norm_eps}
  v, t = config.vision, config.text
  return transformers.CLIPConfig(
      text_config={**tower(t.encoder), 'vocab_size': t.vocab_size,
                   'max_position_embeddings': t.max_tokens,
                   'eos_token_id': t.eos_id, 'bos_token_id': None},
      vision_config={**tower(v.encoder), 'image_size': v.image_px,
                     'patch_size': v.patch_px},
      projection_dim=config.width, attn_implementation='sdpa')


def _state_dict(config, flat):
  """Our parameters under the names of transformers, in PyTorch's layout."""
  found, side = {}, config.vision.patch_px
  for weight in encoder_names.CLIP:
    leaf = flat.get(f'params/{weight.path}')
    if leaf is None:
      continue
    for layer, part in enumerate(leaf if '{layer}' in weight.key else [leaf]):
      if weight.transform == 'transpose':
        part = part.T
      elif weight.transform == 'patch':
        part = part.reshape(side, side, 3, -1).transpose(3, 2, 0, 1)
      found[weight.key.format(layer=layer)] = torch.from_numpy(
          np.array(part, np.float32))
  return found
