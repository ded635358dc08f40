"""The embedding and training benches agree with PyTorch on what they time."""
import numpy as np
import pytest

from jaxret.bench import embedding, multimodal, training

# Whole runs, or other programs beside ours: left to `make test-slow`.
pytestmark = pytest.mark.slow

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


def test_embeddings_agree_and_nothing_is_compiled_again():
  pytest.importorskip('torch')
  options = embedding.parse(
      ['--preset=tiny', '--items=4', '--rounds=1', '--baseline=sorted-torch'])
  found = embedding.measure(options, TINY)
  assert found['max_abs_difference'] < 1e-5
  assert found['compiled'] > 0 and found['compiled_after_warm_up'] == 0
  assert found['speedup'] == found['baseline_seconds'] / found['seconds']
  assert found['tokens'] == sum(
      len(one.tokens) for one in multimodal.mixed(TINY, 4))


@pytest.mark.slow
def test_training_steps_agree():
  """The second loss is that of parameters which a step has changed."""
  pytest.importorskip('torch')
  options = training.parse(
      ['--preset=tiny', '--pairs=8', '--steps=1', '--baseline=torch'])
  found = training.measure(options, TINY)
  assert found['max_abs_difference'] < 1e-3
  assert len(found['all_seconds']) == 1 and found['first_seconds'] > 0
