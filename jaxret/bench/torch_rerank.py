"""The same log odds in PyTorch: Qwen3-VL of `transformers`, pair by pair.

Batches of pairs of like lengths, padded to their longest; every pair is read
whole, its images seen anew.
"""
import os
import re

import numpy as np
import torch
import transformers

from jaxret import sharding
from jaxret.models import names
from jaxret.models.qwen3_vl import vision as vision_lib


class Baseline:
  """Pairs in batches that were made beforehand.

  config: a Qwen3VlConfig; model: the Reranker with its parameters; pairs:
  (query, candidate, reader.Inputs) of each.
  """

  def __init__(self, config, model, pairs, batch_size):
    torch.set_num_threads(os.cpu_count())
    special, words = model.reader.special, model.reader.words(None)
    self.model = load(config, sharding.to_host(model.params), special)
    head = self.model.lm_head.weight
    self.direction = head[words[0]] - head[words[1]]
    inputs = [one for *_, one in pairs]
    self.order = np.argsort([len(one.tokens) for one in inputs])
    self.batches = [
        batch([inputs[i] for i in self.order[start:start + batch_size]],
               special) for start in range(0, len(inputs), batch_size)]

  @torch.inference_mode()
  def run(self):
    """Log odds [N], in the order of the pairs."""
    found = np.empty(len(self.order), np.float32)
    rows = []
    for batch in self.batches:
      hidden = self.model.model(**batch, use_cache=False).last_hidden_state
      last = batch['attention_mask'].sum(1) - 1
      rows.append((hidden[torch.arange(len(last)), last]
                   @ self.direction).numpy())
    found[self.order] = np.concatenate(rows)
    return found


def batch(inputs, special):
  tokens = torch.nn.utils.rnn.pad_sequence(
      [torch.from_numpy(one.tokens).long() for one in inputs],
      batch_first=True)
  length = torch.tensor([len(one.tokens) for one in inputs])
  mask = torch.arange(tokens.shape[1])[None] < length[:, None]
  found = {'input_ids': tokens, 'attention_mask': mask.long()}
  if not transformers.__version__.startswith('4'):
    found['mm_token_type_ids'] = (tokens == special['image']).int()
  grids = [grid for one in inputs for grid in one.grids]
  if grids:
    pixels = vision_lib.pixel_values(np.concatenate(
        [patches for one in inputs for patches in one.patches]))
    found |= {'pixel_values': torch.from_numpy(np.array(pixels)),
              'image_grid_thw': torch.tensor(grids)}
  return found


def load(config, params, special):
  """Our config and parameters as transformers' model."""
  model = transformers.Qwen3VLForConditionalGeneration(
      _config(config, special)).eval()
  tensors = {}
  flat = sharding.flatten(params['params'])
  for weight in names.QWEN3_VL:
    if weight.path not in flat:
      continue
    leaf = flat[weight.path]
    for layer, part in enumerate(leaf if '{layer}' in weight.key else [leaf]):
      if weight.transform == 'transpose':
        part = part.T
      elif weight.transform == 'flatten':
        side = config.vision.patch_px
        part = part.T.reshape(-1, 3, 2, side, side)
      key = re.sub(r'^model\.', 'model.language_model.',
                   weight.key.format(layer=layer))
      key = re.sub(r'^visual\.', 'model.visual.', key)
      tensors[key] = torch.from_numpy(np.array(part, np.float32))
  left = model.load_state_dict(tensors, strict=False)
  missing = set(left.missing_keys)
  if config.decoder.tie_embeddings:
    missing.discard('lm_head.weight')
    model.tie_weights()
  assert not missing and not left.unexpected_keys, left
  return model


def _config(config, special):
  d, v = config.decoder, config.vision
  rope = {'rope_type': 'default', 'rope_theta': d.rope_theta,
          'mrope_section': list(d.rope_sections), 'mrope_interleaved': True}
  found = transformers.Qwen3VLConfig(
      text_config={
          'vocab_size': d.vocab_size, 'hidden_size': d.width,
          'intermediate_size': d.mlp_width, 'num_hidden_layers': d.layers,
          'num_attention_heads': d.heads, 'num_key_value_heads': d.kv_heads,
          'head_dim': d.head_width, 'rms_norm_eps': d.norm_eps,
          'rope_theta': d.rope_theta, 'rope_scaling': rope},
      vision_config={
          'depth': v.layers, 'hidden_size': v.width,
          'intermediate_size': v.mlp_width, 'num_heads': v.heads,
          'out_hidden_size': v.out_width, 'patch_size': v.patch_px,
          'num_position_embeddings': v.positions,
          'deepstack_visual_indexes': list(v.deepstack)},
      tie_word_embeddings=d.tie_embeddings,
      **{f'{kind}_token_id': token for kind, token in special.items()})
  found._attn_implementation = 'sdpa'
  return found
