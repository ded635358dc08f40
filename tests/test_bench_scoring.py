"""The scoring bench: what it prints, and that all its opponents agree."""
import json

import pytest

from jaxret.bench import scoring

# Whole runs, or other programs beside ours: left to `make test-slow`.
pytestmark = pytest.mark.slow


def test_parts_of_a_tile_add_up_to_it(capsys):
  assert scoring.main(
      ['--preset=tiny', '--videos=4', '--texts=8', '--inside']) == 0
  found = json.loads(capsys.readouterr().out.splitlines()[-1])
  inside = found['inside_captions_tile']
  assert inside['videos'] == 4 and inside['tokens'] > inside['captions'] > 0
  parts = {name: part['seconds'] for name, part in inside.items()
           if isinstance(part, dict)}
  whole = parts.pop('tile')
  assert len(parts) == 5 and sum(parts.values()) == pytest.approx(whole)


@pytest.mark.parametrize('baseline', scoring.BASELINES)
def test_baselines_score_what_the_bench_scores(baseline, capsys):
  pytest.importorskip('torch', reason='the extra `parity` is not installed')
  assert scoring.main([
      '--preset=tiny', '--videos=4', '--texts=8', f'--baseline={baseline}',
      '--baseline_seconds=2']) == 0
  found = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert found['baseline'] == baseline and found['baseline_pairs'] > 0
  assert 0 < found['max_abs_difference'] < 2e-4
  assert found['speedup'] == pytest.approx(
      found['pairs_per_s'] / found['baseline_pairs_per_s'])
  assert found['tokens'] > 0 and found['minimal_tokens'] > 0
