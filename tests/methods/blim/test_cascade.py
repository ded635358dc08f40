"""A run's cascade: what it scores of each split, and what it says of that."""
import types as python_types

import numpy as np
import pytest

from jaxret import main, report
from jaxret.data import types
from jaxret.methods.blim import cascade, evaluator, first_stage, results
from jaxret.scoring.likelihood import cascades, cpn
from jaxret.scoring.likelihood import score as likelihood
from tests import tiny_likelihood as tiny
from tests import tiny_runs

DIRECTIONS = evaluator.DIRECTIONS


def make_config(**fields):
  config = main.load_config(str(tiny_runs.CONFIG))
  with config.unlocked():
    config.eval.update(fields)
  return config


@pytest.mark.parametrize('fields, message', [
    ({'topk': 3}, 'topk is 3, but eval.first_stage is not set'),
    ({'agreement': 0.9}, 'agreement is 0.9, but eval.first_stage is not set'),
    ({'agreement': 0.9, 'topk': 3, 'first_stage': 'clip'}, 'set one to 0'),
    ({'agreement': 95.0, 'first_stage': 'clip'}, 'want a share of the queries'),
    ({'agreement': 0.9, 'first_stage': 'clip', 'splits': ('test',)},
     "K on 'validation': name it in eval.splits, before"),
    ({'agreement': 0.9, 'first_stage': 'clip', 'splits': ('validation',)},
     "K on 'validation': name it in eval.splits, before"),
    ({'topk': 3, 'first_stage': 'clip', 'zero_shot': True},
     'the head that predicts clips is untrained'),
])
def test_fields_that_do_not_go_together(fields, message):
  with pytest.raises(ValueError) as error:
    cascade.check(make_config(**fields))
  assert message in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('fields', [
    {}, {'first_stage': 'clip'}, {'first_stage': 'clip', 'topk': 3},
    {'first_stage': 'tower', 'agreement': 0.9},
    {'first_stage': 'x.npz', 'topk': 3, 'zero_shot': True}])
def test_fields_that_go_together(fields):
  cascade.check(make_config(**fields))


def split_of(name, n_videos):
  """A Split of the first videos of the tiny set and all of its texts."""
  return types.Split(
      'tiny', name, tuple(types.Item(f'v{i}') for i in range(n_videos)),
      tuple(types.Item(f't{i}', text='a') for i in range(tiny.TEXTS)),
      np.arange(tiny.TEXTS, dtype=np.int32) % n_videos)


def run(directory, n_videos=tiny.VIDEOS, stage=None, **fields):
  """What cascade.evaluate gives of a random model and two splits of it."""
  config = make_config(**fields)
  method = python_types.SimpleNamespace(scorer=python_types.SimpleNamespace(
      model=tiny.MODEL, prompts=lambda texts: tiny.make_prompts(),
      video_vocabulary=lambda features: features.mean(2)))
  splits = {}
  for name, count in (('validation', tiny.VIDEOS), ('test', n_videos)):
    splits[name] = results.EvaluatedSplit(
        split_of(name, count), tiny.make_features()[:count], None, stage)
  return cascade.evaluate(
      config, directory, tiny.one_device(), method, tiny.make_params(), splits,
      likelihood.Options(rows=6, columns=7, max_padding=9.0))


@pytest.fixture(scope='module')
def wanted():
  """log P(clip 1) [T, V] by full passes, and the scores of all pairs."""
  params, prompts = tiny.make_params(), tiny.make_prompts()
  features = tiny.make_features()
  first = np.array([[tiny.clip_values(
      params, prompts, features, v, t, False)[0] for v in range(tiny.VIDEOS)]
                    for t in range(tiny.TEXTS)])
  return first, tiny.full_passes(params, features, prompts)


def best(row, k):
  return set(sorted(range(len(row)), key=lambda c: (-row[c], c))[:k])


@pytest.mark.slow
def test_the_first_clips_choose_what_is_scored(tmp_path, wanted):
  """Less the paper's alpha times the prior; by a loop over full passes."""
  first, whole = wanted
  found, about = run(tmp_path, first_stage='clip', topk=2, alpha=(0.5, 0.9))
  stage = {'text_to_video': first - 0.5 * whole.video_prior,
           'video_to_text': first.T}
  either = np.zeros(first.shape, bool)
  for name, by_text in (('text_to_video', either), ('video_to_text', either.T)):
    for split in ('validation', 'test'):
      direction = found[split][name]
      np.testing.assert_allclose(
          direction.first_stage, stage[name], atol=tiny.ATOL)
      for query, row in enumerate(stage[name]):
        assert set(np.flatnonzero(direction.keep[query])) == best(row, 2)
        by_text[query, list(best(row, 2))] = True
    assert about[name] == {'k': 2, 'candidates': len(stage[name].T),
                           'why_not': 'validation was not scored exhaustively'}
  scored = found['test']['text_to_video'].candidate
  np.testing.assert_array_equal(~np.isnan(scored), either)
  np.testing.assert_allclose(
      scored[either], whole.video_given_text[either], atol=tiny.ATOL)
  assert about['pairs_percent'] == pytest.approx(100 * either.mean())
  assert about['alpha'] == 0.5 and about['agreement'] is None
  assert 'validation was not scored' in str(cascade.tables(about))


def check_table(told, name, stage, scores):
  """K against agreement by a double loop."""
  for row in told['table']:
    one = sum(best(s, 1) <= best(f, row['k'])
              for s, f in zip(scores, stage[name]))
    ten = sum(best(s, 10) <= best(f, row['k'])
              for s, f in zip(scores, stage[name]))
    pairs = sum(v in best(stage['text_to_video'][t], row['k'])
                or t in best(stage['video_to_text'][v], row['k'])
                for t in range(tiny.TEXTS) for v in range(tiny.VIDEOS))
    assert row['best']['percent'] == pytest.approx(100 * one / len(scores))
    assert row['ten_best']['percent'] == pytest.approx(100 * ten / len(scores))
    assert row['pairs_percent'] == pytest.approx(
        100 * pairs / (tiny.TEXTS * tiny.VIDEOS))
    low, high = row['best']['ci95']
    assert low <= row['best']['percent'] <= high
  assert told['table'][-1]['best']['percent'] == 100


@pytest.mark.slow
def test_validation_says_how_many_to_keep(tmp_path):
  """It is scored as a whole, test in part; half of the queries suffice."""
  random = np.random.default_rng(0)
  stage = {'text_to_video': random.normal(size=(tiny.TEXTS, tiny.VIDEOS)),
           'video_to_text': random.normal(size=(tiny.VIDEOS, tiny.TEXTS))}
  found, about = run(
      tmp_path, stage=stage, first_stage='x.npz', agreement=0.5)
  whole = found['validation']
  relevant = evaluator.relevant(split_of('validation', tiny.VIDEOS))
  for name in DIRECTIONS:
    direction, told = whole[name], about[name]
    assert direction.keep is None and not np.isnan(direction.candidate).any()
    weights = cpn.choose(direction, relevant[name])['blim']
    scores = cpn.bidirectional(direction, weights)
    check_table(told, name, stage, scores)
    depths = sorted(min(k for k in range(1, 8) if best(s, 1) <= best(f, k))
                    for s, f in zip(scores, stage[name]))
    k = depths[-(-(len(depths) + 1) // 2) - 1]  # of n + 1, the upper half
    assert told['k'] == k
    assert told['guarantee']['holds'] and told['guarantee']['agreement'] == 0.5
    assert told['held_out']['queries'] == len(scores)
    keep = found['test'][name].keep
    if k < told['candidates']:
      assert (keep.sum(1) == k).all()
      assert told['guarantee']['conditions'] == list(cascade.CONDITIONS)
  text = report.format_table({
      'dataset': 'tiny', 'split': 'test', 'sizes': {'videos': 6, 'texts': 7},
      'tables': cascade.tables(about)})
  assert '50 %' in text and 'takes for granted that the queries' in text


@pytest.mark.slow
def test_another_number_of_candidates_voids_the_guarantee(tmp_path):
  """And it is said so; fewer candidates than those of validation."""
  _, about = run(tmp_path, n_videos=4, first_stage='clip', agreement=0.5)
  told = about['text_to_video']
  assert told['candidates'] == 4
  if told['k'] < 4:
    assert not told['guarantee']['holds']
    assert told['guarantee']['why_not'] == '6 candidates in validation, 4 here'
  # Texts are as many in both.
  assert about['video_to_text']['guarantee']['holds']


@pytest.mark.parametrize('n_here, k', [(200, 12), (1000, 60), (100, 12)])
def test_k_grows_with_the_candidates_as_a_guess(n_here, k):
  depths = np.arange(1, 20).clip(max=12)
  got, guarantee = cascade._chosen(0.95, depths, 200, n_here)
  assert got == k == cascades.conformal_k(depths, 0.95, 200) * max(
      1, n_here / 200)
  assert guarantee['holds'] == (n_here == 200)
  got, guarantee = cascade._chosen(0.95, depths[:10], 200, n_here)
  assert got == n_here and guarantee['because'] == 'all candidates are scored'


@pytest.mark.slow
def test_without_topk_validation_still_says_what_k_would_keep(tmp_path):
  found, about = run(tmp_path, first_stage='clip')
  for name in DIRECTIONS:
    assert found['test'][name].keep is None
    assert about[name]['k'] == about[name]['candidates']
    assert about[name]['table'] and 'guarantee' not in about[name]
  assert about['pairs_percent'] == 100
  assert cascade.tables(about)[0]['rows'][1][-1] == '-'


def test_there_is_nothing_to_say_without_a_first_stage(tmp_path):
  found, about = run(tmp_path)
  assert about is None
  assert found['test']['text_to_video'].first_stage is None
  assert first_stage.CLIP == 'clip'


@pytest.mark.slow
@pytest.mark.usefixtures('one_device')
def test_a_run_says_what_its_cascade_loses(tmp_path):
  """In results.json, on the console and in the report; and again from disk."""
  fields = {'eval.first_stage': 'clip', 'eval.agreement': 0.5}
  flags = tiny_runs.shapes_flags(tmp_path / 'shapes', **fields)
  workdir = tmp_path / 'run'
  assert tiny_runs.run('', workdir, *flags) == 0
  found = tiny_runs.results(workdir)
  about = found['cascade']
  scores = {name: np.load(workdir / 'scores' / name / 'video_given_text.npy')
            for name in ('validation', 'test')}
  assert np.isfinite(scores['validation']).all()
  assert about['pairs_percent'] == pytest.approx(
      100 * np.isfinite(scores['test']).mean())
  for name in DIRECTIONS:
    assert 1 <= about[name]['k'] <= about[name]['candidates'] == 6
    assert about[name]['guarantee']['holds']
    assert {'first_stage', 'ensemble', 'blim'} <= found[name].keys()
    # Of validation all pairs are known, of this split some: no sums over them.
    assert not {'blim_dual_softmax', 'blim_qb_norm'} & found[name].keys()
  for path in ('results.txt', 'report.html'):
    text = (workdir / path).read_text()
    assert all(table['title'] in text for table in found['tables']), path
  files = {path: path.stat().st_mtime_ns
           for path in (workdir / 'scores').rglob('*.npy')}
  assert tiny_runs.run('', workdir, *flags, '--config.task=evaluate') == 0
  assert tiny_runs.results(workdir) == found
  assert files == {path: path.stat().st_mtime_ns
                   for path in (workdir / 'scores').rglob('*.npy')}
