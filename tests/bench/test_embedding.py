"""The embedding bench agrees with PyTorch on what it times."""
import pytest

from jaxret.bench import embedding

# Whole runs, or other programs beside ours: left to `make test-slow`.
pytestmark = pytest.mark.slow


@pytest.mark.parametrize('model', embedding.MODELS)
def test_embeddings_agree_and_nothing_is_compiled_again(model):
  pytest.importorskip('torch')
  options = embedding.parse([
      f'--model={model}', '--preset=tiny', '--items=4', '--rounds=1',
      '--baseline=sorted-torch'])
  found = embedding.measure(options)
  assert found['max_abs_difference'] < 1e-5
  assert found['compiled'] > 0 and found['compiled_after_warm_up'] == 0
  assert found['speedup'] == found['baseline_seconds'] / found['seconds']
  kind = embedding.MODELS[model]
  preset = kind.PRESETS['tiny']
  made = kind.counts(preset.config, kind.mixed(preset, 4))
  assert found['tokens'] == made['tokens']
  assert found['flops_per_s'] * found['seconds'] == pytest.approx(
      made['flops'])
