"""The training bench takes the steps that PyTorch takes."""
import pytest

from jaxret.bench import multimodal, training

TINY = multimodal.PRESETS['tiny']


@pytest.mark.slow
def test_training_steps_agree():
  """The second loss is that of parameters which a step has changed."""
  pytest.importorskip('torch')
  options = training.parse(
      ['--preset=tiny', '--pairs=8', '--steps=1', '--baseline=torch'])
  found = training.measure(options, TINY)
  assert found['max_abs_difference'] < 1e-3
  assert len(found['all_seconds']) == 1 and found['first_seconds'] > 0
