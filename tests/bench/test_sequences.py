"""The bench of score_sequences: what it asks for, and the work it counts."""
import json

import numpy as np
import pytest

from jaxret.bench import captioning, machine, sequences

TINY = captioning.PRESETS['tiny']


def test_prompts_are_as_long_as_those_of_the_scoring_bench():
  first, *_, last = sequences.make_prompts(TINY, 3)
  assert len(first.tokens) == 14 + 1 + 256 + 1 + 11
  assert (first.tokens == captioning.SPECIAL['image']).sum() == 256
  assert first.patches[0].shape == (1024, TINY.vision.patch_values)
  assert first.positions.shape == (3, len(first.tokens))
  assert first.positions.max() == 14 + 1 + 16 + 1 + 11 - 1
  assert not np.array_equal(first.tokens, last.tokens)


@pytest.mark.slow
def test_one_json_object_with_the_work_counted(monkeypatch, capsys):
  monkeypatch.setattr(machine, 'matmul_flops_per_s', lambda shapes, dtype: {
      shape: 1e9 for shape in shapes})
  assert sequences.main(
      ['--preset=tiny', '--prefixes=9', '--suffixes=20']) == 0
  found = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert found['pairs_per_s'] * found['seconds'] == pytest.approx(180)
  assert found['minimal_tokens'] <= found['tokens']
  assert found['tokens'] <= 1.25 * found['minimal_tokens']
  assert found['utilization'] == pytest.approx(found['flops_per_s'] / 1e9)
  assert 'baseline' not in found
