"""From ranks that are known to effects that were counted by hand."""
import dataclasses

import numpy as np
import pytest

from jaxret.claims import experiments, judged, listed
from jaxret.report import queries

RNG = np.random.default_rng(0)
RANKS = {name: RNG.integers(1, 6, (3, 40)) for name in (
    'a.first', 'a.first_oracle', 'a.second', 'b.first')}
COLOURS = RNG.random((3, 40))
COMPARED = listed.Comparison('text', 'mine/first', 'mine/second', ('a',))
CLAIM = listed.Claim(
    'one', 'unite', 'It is.', 'So.', 'Not so.', 'recall_at_1', 'higher',
    'points', (COMPARED,))


@pytest.fixture
def kept(tmp_path):
  """Makes a judged.Kept of three runs on a split."""
  experiment = listed.Experiment('mine', 'about', 'unite')
  def make(split='test', **changed):
    runs = [experiments.Run(experiment, seed, tmp_path) for seed in range(3)]
    for run in runs:
      tasks = {}
      for name, ranks in RANKS.items():
        task, _, row = name.partition('.')
        tasks.setdefault(task, {})[row] = ranks[run.seed]
      queries.save(run.workdir, {'dataset': 'x', 'split': split}, [
          dataclasses.replace(queries.Queries(
              task, [f'q{i}' for i in range(40)], [''] * 40, rows, 'first',
              pool='same', numbers={'colour': {'first': COLOURS[run.seed]}}),
              **changed.get(task, {}).get(run.seed, {}))
          for task, rows in tasks.items()])
      (run.workdir / queries.NAME).rename(run.ranks(split))
    return judged.Kept(runs, split)
  return make


def effect(kept, compared=COMPARED, **changed):
  return judged._comparison(
      dataclasses.replace(CLAIM, **changed), compared, kept)


def hits(name, depth=1):
  return 100.0 * (RANKS[name] <= depth)


def test_an_effect_is_paired_by_query_and_seed(kept):
  found = effect(kept())
  differences = hits('a.first') - hits('a.second')
  assert found['effect'] == pytest.approx(differences.mean(), abs=1e-4)
  np.testing.assert_allclose(found['of_seeds'], differences.mean(1), atol=1e-4)
  assert found['value'] == pytest.approx(hits('a.first').mean(), abs=1e-4)
  assert found['baseline_value'] == pytest.approx(
      hits('a.second').mean(), abs=1e-4)
  low, high = found['ci95']
  assert low < found['effect'] < high and found['queries'] == 40


def test_where_less_is_better_the_effect_is_turned(kept):
  up, down = (effect(kept(), direction=name) for name in ('higher', 'lower'))
  assert down['effect'] == -up['effect']
  assert down['ci95'] == [-up['ci95'][1], -up['ci95'][0]]
  assert down['value'] == up['value']


def test_tasks_are_averaged_and_others_subtracted(kept):
  compared = dataclasses.replace(
      COMPARED, baseline='mine/first', tasks=('a',), less=('b',),
      baseline_tasks=('b', 'b'))
  found = effect(kept(), compared, metric='recall_at_2')
  assert found['effect'] == pytest.approx(
      (hits('a.first', 2) - hits('b.first', 2)).mean(), abs=1e-4)
  both = dataclasses.replace(compared, tasks=('a', 'b'), less=())
  assert effect(kept(), both, metric='recall_at_2')['effect'] == pytest.approx(
      found['effect'] / 2, abs=1e-4)


def test_numbers_besides_ranks_are_metrics_too(kept):
  compared = dataclasses.replace(
      COMPARED, baseline='mine/first', baseline_tasks=('b',))
  assert effect(kept(), compared, metric='colour')['value'] == pytest.approx(
      COLOURS.mean(), abs=1e-4)
  with pytest.raises(ValueError, match="row of colour 'second' is not there"):
    effect(kept(), metric='colour')


def test_on_validation_weights_are_those_that_are_best_there(kept):
  assert effect(kept('validation'))['value'] == pytest.approx(
      hits('a.first_oracle').mean(), abs=1e-4)


def test_a_margin_is_what_may_be_lost(kept):
  assert effect(kept(), margin=60.0)['verdict'] == 'holds'
  same = dataclasses.replace(COMPARED, baseline='mine/first')
  assert effect(kept(), same)['verdict'] == 'no difference seen'
  assert effect(kept(), same, margin=0.1)['verdict'] == 'holds'


@pytest.mark.parametrize('changed, message', [
    ({'a': {1: {'ids': ['x'] * 40}}}, 'mine/seed-1: its queries of a are not'),
    ({'b': {s: {'ids': [f'p{i}' for i in range(40)]} for s in range(3)}},
     'claim one, text: .* cannot be paired'),
    ({'a': {2: {'ranks': {'first': np.zeros(40, int)}}}},
     'recall_at_1 of a is not known'),
    ({'a': {0: {'ranks': {'third': np.ones(40, int)}}}},
     "row of a 'first' is not there: use one of third")])
def test_what_cannot_be_paired_is_refused(kept, changed, message):
  compared = dataclasses.replace(
      COMPARED, baseline='mine/first', baseline_tasks=('b',))
  with pytest.raises(ValueError, match=message):
    effect(kept(**changed), compared)


def test_other_candidates_are_another_task(kept):
  found = kept()
  asked = judged.Asked(('q',), 'few'), judged.Asked(('q',), 'many')
  with pytest.raises(ValueError, match='other queries or candidates'):
    judged._check_paired(CLAIM, COMPARED, 'a', *asked, same_task=True)
  judged._check_paired(CLAIM, COMPARED, 'a', *asked, same_task=False)
  assert effect(found)['verdict']


def test_ranks_below_what_is_known_are_no_mrr(kept):
  deep = {s: {'deepest': 3} for s in range(3)}
  assert effect(kept(a=deep), metric='recall_at_3')
  with pytest.raises(ValueError, match='mrr of a is not known'):
    effect(kept(a=deep), metric='mrr')
