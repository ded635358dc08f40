"""`jaxret compare`: runs side by side, on what both answered."""
import json

import numpy as np
import pytest

from jaxret import cli, comparisons, provenance
from jaxret.data import types
from jaxret.report import queries as queries_lib

N = 60


def items(kind, n):
  return [types.Item(f'{kind}{i}', f'a {kind} {i}') for i in range(n)]


def ranks_of(seed):
  return np.random.default_rng(seed).integers(1, 8, N)


def write(workdir, seed, order=None, dataset='shapes', candidates=9,
          ranks=None, deepest=None):
  asked = items('query', N)
  ranks = ranks_of(seed) if ranks is None else ranks
  order = range(N) if order is None else order
  queries_lib.save(workdir, {'dataset': dataset, 'split': 'test'}, [
      queries_lib.Queries.of_items(
          'text_to_video', [asked[i] for i in order],
          {'plain': ranks_of(99)[list(order)], 'ours': ranks[list(order)]},
          deepest=deepest, candidates=items('clip', candidates))])
  return str(workdir)


@pytest.fixture
def runs(tmp_path):
  """Two runs; the second has its queries in another order, and fewer."""
  order = np.random.default_rng(5).permutation(N)[:50]
  return [write(tmp_path / 'a', 1), write(tmp_path / 'b', 2, order)], order


def test_the_difference_is_that_of_the_shared_queries(runs, capsys):
  workdirs, order = runs
  assert cli.main(['compare', *workdirs, '--json', '--resamples=500']) == 0
  found, = json.loads(capsys.readouterr().out)
  assert (found['queries'], found['of']) == (50, 60)
  kept = sorted(order)
  for seed, run in zip((1, 2), workdirs):
    assert found['values'][run]['recall_at_1'] == pytest.approx(
        100 * np.mean(ranks_of(seed)[kept] == 1))
    assert found['values'][run]['mrr'] == pytest.approx(
        np.mean(1 / ranks_of(seed)[kept]))
  wanted = comparisons.compare(
      {'a': ranks_of(1)[kept], 'b': ranks_of(2)[kept]}, [('b', 'a')],
      n_resamples=500)
  for one, other in zip(found['differences'], wanted, strict=True):
    assert (one['row'], one['baseline']) == (workdirs[1], workdirs[0])
    assert {k: v for k, v in one.items() if k not in ('row', 'baseline')} == {
        k: v for k, v in other.items() if k not in ('row', 'baseline')}


def test_tables_say_what_is_noise(runs, tmp_path, capsys):
  workdirs, _ = runs
  best = write(tmp_path / 'best', 0, ranks=np.ones(N, int))
  assert cli.main(['compare', workdirs[0], best, workdirs[1],
                   '--resamples=500']) == 0
  printed = capsys.readouterr().out
  assert printed.startswith('text to video: 50 of 60 queries\n')
  lines = [line for line in printed.splitlines() if ' - ' in line]
  assert len(lines) == 2 * 4
  of_best = [line for line in lines if f'{best} - ' in line]
  assert ' R@1 ' in of_best[0] and not of_best[0].endswith('noise')
  assert '<0.001' not in printed.split('paired')[0]


def test_a_page_is_written_where_asked(runs, tmp_path, capsys):
  workdirs, _ = runs
  provenance.write(workdirs[0], {
      'date': 'today', 'version': '1', 'commit': None, 'device': '1 x cpu',
      'duration_s': 2, 'seed': 7})
  page = tmp_path / 'both.html'
  assert cli.main(['compare', *workdirs, f'--html={page}', '--json',
                   '--resamples=10']) == 0
  found, = json.loads(capsys.readouterr().out)
  assert 'shared' not in found
  source = page.read_text()
  assert 'today, jaxret 1, 1 x cpu, 2 s, seed 7' in source
  assert source.count('<tr class="found') + source.count(
      '<tr class="missed') == 50


def test_another_row_is_compared_where_asked(runs, capsys):
  workdirs, _ = runs
  assert cli.main(['compare', *workdirs, '--row=plain', '--json',
                   '--resamples=10']) == 0
  found, = json.loads(capsys.readouterr().out)
  assert all(one['difference'] == 0 for one in found['differences'])


def test_ranks_that_are_not_known_are_not_averaged(tmp_path, capsys):
  workdirs = [write(tmp_path / 'a', 1, deepest=5), write(tmp_path / 'b', 2)]
  assert cli.main(['compare', *workdirs, '--json', '--resamples=10']) == 0
  found, = json.loads(capsys.readouterr().out)
  assert list(found['values'][workdirs[0]]) == ['recall_at_1', 'recall_at_5']


@pytest.mark.parametrize('other, said', [
    ({'dataset': 'msvd'}, 'other data'),
    ({'candidates': 8}, 'other candidates'),
    ({'ranks': np.zeros(N, int)}, 'no query in common')])
def test_what_cannot_be_compared_is_refused(other, said, tmp_path, capsys):
  workdirs = [write(tmp_path / 'a', 1), write(tmp_path / 'b', 2, **other)]
  assert cli.main(['compare', *workdirs]) == 1
  error = capsys.readouterr().err
  assert said in error and error.count('\n') == 1


@pytest.mark.parametrize('arguments, said', [
    (['one'], 'want two at least'), (['one', 'one'], 'none twice'),
    (['one', 'two'], 'holds no ranks.npz'), ([], 'WORKDIR')])
def test_bad_arguments_are_one_line(arguments, said, capsys):
  assert cli.main(['compare', *arguments]) == 1
  error = capsys.readouterr().err
  assert said in error and error.count('\n') == 1


def test_an_unknown_row_names_those_there_are(runs, capsys):
  assert cli.main(['compare', *runs[0], '--row=blim']) == 1
  assert "no row 'blim'" in capsys.readouterr().err
