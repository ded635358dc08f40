"""The bench of input: every reader reads, and rates are of its sizes."""
import pytest

from jaxret.bench import input as bench


def test_every_reader_reads():
  found = {name: read() for name, read in bench.reads((32, 64), 4).items()}
  # Two frames a patch, of as many as there are.
  assert found['image clip 336'].shape == (336, 336, 3)
  assert found['video frames 224'].shape == (4, 224, 224, 3)
  (image, grid), (_, (steps, *_)) = (
      found[f'{kind} qwen2_vl'] for kind in ('image', 'video'))
  assert len(image) == grid[0] * grid[1] * grid[2] and steps == 2


@pytest.mark.campaign
@pytest.mark.slow
def test_rates_of_one_and_of_several():
  found = bench.measure((32, 64), 2, 2, 1)
  assert all(rate > 1 for rate in found['items_per_s_per_core'].values())
  assert set(found['process_scaling']) == {
      'video qwen2_vl', 'video frames 224'} == set(found['thread_scaling'])
