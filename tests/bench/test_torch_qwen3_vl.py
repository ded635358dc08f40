"""The batches of the Qwen3-VL baseline; its embeddings: test_embedding."""
import numpy as np
import pytest

from jaxret import sharding
from jaxret.bench import qwen3_vl_items

pytest.importorskip('torch')
TINY = qwen3_vl_items.PRESETS['tiny']


def test_patches_go_by_kind_and_positions_are_ours():
  model = qwen3_vl_items.torch_model(
      TINY.config, qwen3_vl_items.init_params(
          TINY.config, sharding.make_mesh()))
  made = qwen3_vl_items.mixed(TINY, 4)
  batch = model.batch(made)
  images = sum(np.prod(grid) for one in made
               for kind, grid in zip(one.kinds, one.grids) if kind == 'image')
  videos = sum(np.prod(grid) for one in made
               for kind, grid in zip(one.kinds, one.grids) if kind == 'video')
  assert len(batch['pixel_values']) == images > 0
  assert len(batch['pixel_values_videos']) == videos > 0
  read = qwen3_vl_items.Ready(TINY.config, made)
  ours = read.pad(made, read.bucket(max(
      made, key=lambda one: len(one.tokens)))._replace(rows=16, patches=64))
  longest = batch['position_ids'].shape[-1]
  np.testing.assert_array_equal(
      batch['position_ids'].numpy(),
      ours['positions'][..., :longest].transpose(1, 0, 2))
