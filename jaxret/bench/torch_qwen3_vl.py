"""The same embeddings in PyTorch: Qwen3-VL of `transformers`, on all cores.

Batches are padded to their longest, with the positions that we compute.
"""
import os

import numpy as np
import torch

from jaxret import sharding
from jaxret.bench import torch_rerank
from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.data.qwen3_vl import reader
from jaxret.models.qwen3_vl import vision as vision_lib


class Model:
  """Our config and parameters as transformers' model."""

  def __init__(self, config, params, special):
    torch.set_num_threads(os.cpu_count())
    self.special = special
    self.model = torch_rerank.load(
        config, sharding.to_host(params), special).model

  def batch(self, inputs):
    """Tensors of a list of data.qwen2_vl.reader.Inputs, pixels normalised."""
    longest = max(len(one.tokens) for one in inputs)
    tokens, mask = (np.zeros((len(inputs), longest), np.int64)
                    for _ in range(2))
    positions = np.zeros((3, len(inputs), longest), np.int64)
    for row, one in enumerate(inputs):
      n = len(one.tokens)
      tokens[row, :n], mask[row, :n] = one.tokens, 1
      positions[:, row, :n] = visual_tokens.mrope_positions(
          one.tokens, one.kinds, one.grids, self.special, reader.LAYOUT.merge,
          reader.LAYOUT.steps(one.sampled))
    found = {'input_ids': torch.from_numpy(tokens),
             'attention_mask': torch.from_numpy(mask),
             'position_ids': torch.from_numpy(positions)}
    for kind, pixels, grid in (
        ('image', 'pixel_values', 'image_grid_thw'),
        ('video', 'pixel_values_videos', 'video_grid_thw')):
      found |= self._seen(inputs, kind, pixels, grid)
    return found

  def _seen(self, inputs, kind, pixels, grid):
    seen = [(its, patches) for one in inputs for its, patches in _slices(
        one, kind)]
    if not seen:
      return {}
    values = vision_lib.pixel_values(
        np.concatenate([patches for _, patches in seen]))
    return {pixels: torch.from_numpy(np.array(values)),
            grid: torch.tensor([its for its, _ in seen])}

  def embed(self, batch):
    """Unit vectors [B, D] of the last tokens."""
    hidden = self.model(**batch, use_cache=False).last_hidden_state
    last = batch['attention_mask'].sum(1) - 1
    return torch.nn.functional.normalize(
        hidden[torch.arange(len(last)), last], dim=-1)


def _slices(inputs, kind):
  """[(grid, patches)] of one kind; patches of a video lie behind each other."""
  if not inputs.patches:
    return
  sizes = np.cumsum([np.prod(grid) for grid in inputs.grids])
  parts = np.split(np.concatenate(inputs.patches), sizes[:-1])
  for its, grid, patches in zip(inputs.kinds, inputs.grids, parts):
    if its == kind:
      yield grid, patches
