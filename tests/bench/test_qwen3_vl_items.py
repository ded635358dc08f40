"""The items of the Qwen3-VL bench."""
import numpy as np

from jaxret.bench import multimodal, qwen3_vl_items
from jaxret.data.qwen2_vl import layout

TINY = qwen3_vl_items.PRESETS['tiny']


def test_every_temporal_patch_is_a_medium_behind_its_time():
  special = multimodal.special(TINY.config)
  plain = multimodal.mixed(TINY, 8, patch_values=qwen3_vl_items.PATCH_VALUES)
  made = qwen3_vl_items.mixed(TINY, 8)
  for one, before in zip(made, plain):
    assert (one.tokens == special['video']).sum() == (
        before.tokens == special['video']).sum()
    if 'video' not in one.kinds:
      assert one is not before and np.array_equal(one.tokens, before.tokens)
      continue
    slices = before.grids[0][0]
    assert len(one.grids) == slices and all(t == 1 for t, _, _ in one.grids)
    assert len(one.tokens) == (
        len(before.tokens) + slices * qwen3_vl_items.TIME_TOKENS)
    # Runs of placeholders, each as long as a slice has visual tokens.
    seen = (one.tokens == special['video']).astype(int)
    starts = np.flatnonzero(np.diff(seen, prepend=0) == 1)
    ends = np.flatnonzero(np.diff(seen, append=0) == -1) + 1
    assert (ends - starts).tolist() == [
        layout.n_tokens(grid) for grid in one.grids]
