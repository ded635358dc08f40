"""The baseline says the same numbers; without PyTorch there is none."""
import json

import pytest

from jaxret.bench import machine, sequences


@pytest.mark.slow
def test_transformers_gives_the_same_sums(monkeypatch, capsys):
  pytest.importorskip('torch')
  pytest.importorskip('transformers')
  monkeypatch.setattr(machine, 'matmul_flops_per_s', lambda shapes, dtype: {
      shape: 1e9 for shape in shapes})
  assert sequences.main([
      '--preset=tiny', '--prefixes=2', '--suffixes=12', '--baseline_batch=5',
      '--baseline=transformers']) == 0
  found = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert found['baseline'] == 'transformers'
  assert found['baseline_pairs'] == 24
  assert found['max_abs_difference'] < 1e-3
  assert found['speedup'] > 0 and found['cpu_speedup'] > 0
