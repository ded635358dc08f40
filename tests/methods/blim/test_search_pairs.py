"""Searches of a trained model: the call, a run's results, and the bench."""
import json
import shutil

import numpy as np
import pytest
from ml_collections import ConfigDict

import jaxret
from configs import blim as blim_config
from jaxret.bench import certified, quantized
from jaxret.data import sets
from jaxret.methods.blim import run, search_pairs
from jaxret.scoring.likelihood import cpn
from jaxret.verbs import compare
from tests import tiny_runs

pytestmark = pytest.mark.usefixtures('one_device')


@pytest.fixture(scope='module')
def trained(tmp_path_factory, one_device):
  """(workdir, its flags, test Split) of a whole run, tiny."""
  root = tmp_path_factory.mktemp('search')
  flags = tiny_runs.shapes_flags(root / 'corpus')
  assert tiny_runs.run('', root / 'run', *flags) == 0
  config = json.loads((root / 'run' / 'config.json').read_text())
  return root / 'run', flags, sets.load(ConfigDict(config).data, 'test')


def given(split):
  return [v.video for v in split.videos], [t.text for t in split.texts]


@pytest.mark.slow
def test_the_call_finds_what_all_scores_say_and_shares_their_store(
    trained, tmp_path):
  workdir, _, split = trained
  pairs = given(split)
  scores = jaxret.score_matrix(*pairs, workdir)
  for direction in ('video_to_text', 'text_to_video'):
    found = jaxret.search_pairs(*pairs, workdir, k=3, direction=direction,
                                workdir=tmp_path)
    best = scores.top(3, direction)
    assert found.certified.all() and found.chosen_on == scores.chosen.on
    assert found.weights == scores.chosen.weights[direction]
    assert {q: [c for c, _ in row] for q, row in found.top().items()} == {
        q: [c for c, _ in row] for q, row in best.items()}
    np.testing.assert_allclose(found.score, [
        [value for _, value in row] for row in best.values()], atol=1e-5)
  other = jaxret.search_pairs(*pairs, workdir, k=1, alpha=0.3,
                              query_weight=0.7, workdir=tmp_path, budget=2)
  assert other.chosen_on == 'given' and other.expected_share is None
  right = scores.video_to_text(0.3, 0.7).argmax(1)
  np.testing.assert_array_equal(
      other.index[other.certified, 0], right[other.certified])
  # Exhaustive scoring goes on in the same matrices.
  cells = np.load(tmp_path / 'text_given_video.npy')
  jaxret.score_matrix(*pairs, workdir, workdir=tmp_path)
  after = np.load(tmp_path / 'text_given_video.npy')
  np.testing.assert_array_equal(after[~np.isnan(cells)],
                                cells[~np.isnan(cells)])
  assert not np.isnan(after).any()


@pytest.mark.slow
def test_a_run_reports_recall_up_to_k_and_what_proves_it(trained, tmp_path):
  workdir, flags, split = trained
  whole = tiny_runs.results(workdir)
  shutil.copytree(workdir, tmp_path / 'run')
  shutil.rmtree(tmp_path / 'run' / 'scores')
  extra = tiny_runs.flags({'task': 'evaluate', 'eval.exact_topk': 5})
  assert tiny_runs.run('', tmp_path / 'run', *flags, *extra) == 0
  results = tiny_runs.results(tmp_path / 'run')
  for direction in ('text_to_video', 'video_to_text'):
    (name, row), = results[direction].items()
    assert name == 'blim'
    assert set(row) == {'recall_at_1', 'recall_at_5', 'recall_at_1_ci95'}
    for key, value in row.items():
      assert value == whole[direction]['blim'][key]
    assert results['weights'][direction]['blim'] == (
        whole['weights'][direction]['blim'])
    certificate = results['certificates'][direction]
    assert certificate['certified'] == certificate['queries'] == 6
    assert certificate['k'] == 5 and certificate['token_share'] > 0
  text = (tmp_path / 'run' / 'results.txt').read_text()
  assert 'the best 5 of each query are those of all pairs' in text
  assert '6 of 6' in text and 'mean' not in text
  assert '6 of 6' in (tmp_path / 'run' / 'report.html').read_text()
  # What it knows of each query is what all pairs say.
  for one in compare.compare([workdir, tmp_path / 'run'], n_resamples=10):
    assert one.queries == 6
    assert {d['metric']: (d['better'], d['worse']) for d in one.differences
            } == {'recall_at_1': (0, 0), 'recall_at_5': (0, 0)}
  # Its weights are found by what ranks with them.
  found = jaxret.search_pairs(*given(split), tmp_path / 'run', k=1)
  assert found.chosen_on == 'validation'


@pytest.mark.slow
def test_the_bench_compares_with_all_pairs(trained, capsys):
  workdir, _, _ = trained
  assert certified.main([
      f'--workdir={workdir}', '--k=1,3', '--weights=chosen,0.2:0.5']) == 0
  result = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert result['videos'] == result['texts'] == 6
  assert len(result['searches']) == 4
  for one in result['searches']:
    assert one['same_in_order'] == one['certified'] == one['queries'] == 6
    assert one['max_abs_difference'] < 1e-5
    np.testing.assert_allclose(
        one['token_share'], one['tokens'] / result['baseline_tokens'])
  assert result['searches'][2]['alpha'] == 0.2


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['int8', 'fp8'])
def test_the_best_by_layers_in_8_bits_are_made_those_of_all_of_them(
    trained, kind, capsys):
  pytest.importorskip('qwix')
  workdir, _, _ = trained
  assert quantized.main([
      f'--workdir={workdir}', f'--kind={kind}', '--k=2']) == 0
  result = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert result[kind]['bytes'] < result['reference']['bytes']
  assert result[kind]['tokens'] == result['reference']['tokens']
  for direction in ('text_to_video', 'video_to_text'):
    one = result[direction]
    assert one['again']['same_best_k'] == one['again']['queries'] == 6
    assert 0 < one['largest_difference'] <= one['again']['difference']
    assert one['kendall_tau'] > 0.5


@pytest.mark.parametrize('flag, message', [
    ({'eval.exact_topk': -1}, 'eval.exact_topk is -1'),
    ({'eval.exact_topk': 1, 'eval.topk': 2}, 'eval.topk does not go with'),
    ({'eval.exact_topk': 1, 'eval.trec_depth': 3}, 'eval.trec_depth does not'),
    ({'eval.exact_topk': 1, 'eval.first_stage': 'clip'},
     'eval.first_stage does not go with'),
    ({'eval.exact_topk': 1, 'eval.mode': 'reference'}, 'does not go with'),
    ({'eval.exact_topk': 1, 'eval.exact_directions': ('both',)},
     "eval.exact_directions \\('both',\\)"),
    ({'eval.exact_topk': 1, 'eval.bound_slack': -1.0}, 'eval.bound_slack is'),
])
def test_a_run_refuses_what_no_search_can_do(flag, message):
  config = blim_config.get_config()
  for name, value in flag.items():
    config.eval[name.removeprefix('eval.')] = value
  with pytest.raises(ValueError, match=message) as caught:
    run.check_config(config)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('kwargs, message', [
    (dict(k=0), 'k is 0'), (dict(direction='both'), "direction is 'both'"),
    (dict(k=4, budget=3), 'budget is 3, fewer than k = 4'),
    (dict(slack=-1e-4), 'slack is -0.0001')])
def test_bad_input_is_refused_before_anything_is_read(kwargs, message):
  with pytest.raises(ValueError, match=message):
    jaxret.search_pairs(['no.mp4'], ['a text'], 'nowhere', **kwargs)


def test_top_gives_names_and_no_more_than_was_searched():
  found = search_pairs.TopK(
      np.array([[1, 0], [0, 1]]), np.array([[-1, -2], [-3, -np.inf]]),
      np.array([True, False]), np.array([1.0, -np.inf]), 0.5, 0.5, None, None,
      ('a', 'b'), ('x', 'y'), cpn.Weights(), 'paper')
  assert found.top() == {'a': [('y', -1.0), ('x', -2.0)], 'b': [('x', -3.0)]}
  assert found.top(1) == {'a': [('y', -1.0)], 'b': [('x', -3.0)]}
  for k in (0, 3):
    with pytest.raises(ValueError, match=f'k = {k}, want 1 to 2'):
      found.top(k)
