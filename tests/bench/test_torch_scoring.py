"""The opponents of the scoring bench in PyTorch give the scores of ours."""
import json

import pytest

from jaxret.bench import scoring


@pytest.mark.slow
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
