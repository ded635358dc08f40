"""The reranking bench agrees with PyTorch on what it times."""
import pytest

from jaxret.bench import rerank

# Whole runs, or other programs beside ours: left to `make test-slow`.
pytestmark = pytest.mark.slow


def test_scores_agree_and_nothing_is_compiled_again():
  pytest.importorskip('torch')
  found = rerank.measure(rerank.parse(
      ['--preset=tiny', '--candidates=8', '--rounds=1',
       '--baseline=transformers', '--baseline_pairs=12']))
  assert found['max_abs_difference'] < 1e-4
  assert found['compiled'] > 0 and found['compiled_after_warm_up'] == 0
  assert found['baseline_pairs'] == 12
  assert found['pairs_per_s'] == 16 / found['seconds']
  assert found['speedup'] == pytest.approx(
      found['pairs_per_s'] / found['baseline_pairs_per_s'])


def test_candidates_are_of_all_kinds_and_the_same_each_time():
  preset = rerank.PRESETS['tiny']
  made, queries, candidates = rerank.make(preset, 2, 8)
  kinds = {(len(made[one.id][0]) > 0, made[one.id][1] is not None)
           for one in candidates}
  assert kinds == {(False, True), (True, True), (True, False)}
  again, *_ = rerank.make(preset, 2, 8)
  assert all((made[name][0] == again[name][0]).all() for name in made)
