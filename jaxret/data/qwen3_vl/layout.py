"""Where the patches and visual tokens of Qwen3-VL go.

As for Qwen2-VL, where every temporal patch of a video is a medium of its own:
its time stands before it in the prompt, and its positions begin anew.
"""
import numpy as np


def slices(grid):
  """The grids (1, h, w) of the temporal patches of a grid (t, h, w)."""
  t, h, w = (int(n) for n in grid)
  return [(1, h, w)] * t


def with_extents(coordinates, segments, grids):
  """int32 [S, P, 4]: coordinates, and the rows and columns of the slice.

  coordinates, segments: of data.qwen2_vl.layout.lay_out(grids, ...). Padding
  is a slice of one patch.
  """
  extents = np.array([(1, 1), *((h, w) for t, h, w in grids
                                for _ in range(int(t)))], np.int32)
  return np.concatenate([coordinates, extents[segments]], -1)
