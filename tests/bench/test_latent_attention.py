"""The bench of latent attention at a tiny size: what it prints."""
import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_both_forms_agree_and_all_numbers_are_printed():
  sizes = {'tokens': 5, 'width': 16, 'heads': 2, 'latents': 6, 'rounds': 1}
  out = subprocess.run(
      [sys.executable, '-m', 'jaxret.bench.latent_attention',
       *(f'--{name}={value}' for name, value in sizes.items())],
      check=True, capture_output=True, text=True).stdout
  found = json.loads(out.splitlines()[-1])
  assert found.items() >= {name: value for name, value in sizes.items()
                           if name != 'rounds'}.items()
  for form in ('', 'module_'):
    assert found[f'{form}max_abs_difference'] < 1e-5
    ratio = found[f'{form}baseline_seconds'] / found[f'{form}seconds']
    speedup = found[f'{form}speedup']
    assert abs(speedup - ratio) < 1e-6 * ratio
  mlp_and_norms = 3 * 4 * 16 * 16 + 9 * 16 + 2 * 2 * 16
  assert found['weights'] == 6 * 16 + 4 * 2 * 16 * 16 + mlp_and_norms + 2 * 16
  assert found['folded_weights'] == 2 * 2 * 6 * 16 + mlp_and_norms
