"""The embedding bench agrees with PyTorch on what it times."""
import pytest

from jaxret.bench import embedding, multimodal

# Whole runs, or other programs beside ours: left to `make test-slow`.
pytestmark = pytest.mark.slow

TINY = multimodal.PRESETS['tiny']


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
