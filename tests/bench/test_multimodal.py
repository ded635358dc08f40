"""Items of the embedding and training benches: of all sizes, by their seed."""
import numpy as np

from jaxret.bench import multimodal

TINY = multimodal.PRESETS['tiny']


def test_items_are_mixed_and_pairs_fill_their_budget():
  inputs = multimodal.mixed(TINY, 40)
  assert {one.kinds for one in inputs} == {(), ('image',), ('video',)}
  assert len({len(one.tokens) for one in inputs}) > 15
  captions, images = multimodal.pairs(TINY, 20)
  assert not any(one.grids for one in captions)
  sizes = {int(np.prod(one.grids)) for one in images}
  assert len({one.grids for one in images}) > 2
  assert min(sizes) > 0.8 * max(sizes)
