"""Tables of mixed pools, against loops over first answers."""
import numpy as np
import pytest

from jaxret.data import types
from jaxret.data.sets import mixed
from jaxret.methods.mm_embed import evaluator
from jaxret.methods.mm_embed import tables as mixed_tables
from tests.tiny_mixed import Encoder, benchmark, rank


def test_tables_count_wrong_modalities(tmp_path):
  found = benchmark()
  union, rankings = rank(found, Encoder(), tmp_path)
  results = mixed_tables.tabulate(found, union, {'row': rankings}, 'test')
  for task in found.tasks:
    first = rankings[task.name, 'union'].candidates[:, 0]
    wrong = [mixed.modality(union[int(p)]) != task.modality for p in first]
    assert results[task.name]['row']['wrong_modality_at_1'] == pytest.approx(
        100 * np.mean(wrong))
  shares = mixed_tables.wrong_modality(found, results)
  assert shares['row'] == pytest.approx(np.mean([
      results[task.name]['row']['wrong_modality_at_1']
      for task in found.tasks]))
  for task, queries in zip(found.tasks, mixed_tables.all_queries(
      found, union, {'row': rankings})):
    numbers = queries.numbers
    assert np.mean(numbers['wrong_modality_at_1']['row']) == pytest.approx(
        results[task.name]['row']['wrong_modality_at_1'])
    assert not numbers['wrong_modality_at_1']['right_answer'].any()
    for k in (1, 5, 10):
      assert np.mean(numbers[f'own_pool_recall_at_{k}']['row']) == (
          pytest.approx(results[f'{task.name}_local']['row'][f'recall_at_{k}']))


def hand_made(n_found):
  """A task of each name, with so many of four queries found at once."""
  pool = tuple(types.Item(f'c:{i}', f'{i}') for i in range(3))
  queries = tuple(types.Item(f'q{i}', f'query {i}') for i in range(4))
  found = mixed.Benchmark('hand', {'only': pool}, tuple(
      mixed.Task(name, queries, ('',) * 4, ({'c:0': 1},) * 4, 'only', 'text',
                 depth=1, is_composed=name == 'composed')
      for name in n_found), union=False)
  scores = np.tile(np.array([3, 2, 1], np.float32), (4, 1))
  return found, {(name, 'local'): evaluator.Ranking(
      np.arange(4), scores, np.array(
          [[0, 1, 2] if q < n else [1, 0, 2] for q in range(4)]))
                 for name, n in n_found.items()}


def test_queries_and_gallery_tell_ranks_and_scores():
  found, rankings = hand_made({'one': 4, 'two': 2})
  union = evaluator.Union(found)
  one, two = mixed_tables.all_queries(found, union, {'row': rankings})
  np.testing.assert_array_equal(one.ranks['row'], [1, 1, 1, 1])
  np.testing.assert_array_equal(two.ranks['row'], [1, 1, 2, 2])
  assert one.deepest == 3 and one.pool == two.pool
  assert one.pool.startswith('3 candidates, ')
  shown = mixed_tables.gallery(found, union, {'row': rankings}, 1, 1)
  assert [(query.direction, query.rows['row'].rank) for query in shown] == [
      ('one', 1), ('two', 2), ('two', 1)]
  for query in shown:
    assert query.rows['row'].scores == (3.0, 2.0, 1.0)


def test_means_are_of_tasks_and_parts_of_one_are_averaged_first():
  """Hand numbers; stack is a task of two parts."""
  found, rankings = hand_made({'stack/a': 4, 'stack/b': 0, 'plain': 3,
                               'composed': 1})
  results = mixed_tables.tabulate(
      found, evaluator.Union(found), {'all': rankings}, 'test')
  assert results['reported']['local']['all'] == {
      'stack/a': 100.0, 'stack/b': 0.0, 'plain': 75.0, 'composed': 25.0,
      'mean of all': (50 + 75 + 25) / 3,
      'mean, single-modal queries': (50 + 75) / 2,
      'mean, multi-modal queries': 25.0}
  table, = results['tables']
  assert table['title'] == 'hit rate, %'
  assert [row[:2] for row in table['rows'][1:]] == [
      ('stack/a', '1'), ('stack/b', '1'), ('plain', '1'), ('composed', '1'),
      ('mean of all', ''), ('mean, single-modal queries', ''),
      ('mean, multi-modal queries', '')]
  assert [row[2] for row in table['rows'][1:]] == [
      '100.0', '0.0', '75.0', '25.0', '50.0', '62.5', '25.0']


def test_a_row_of_some_tasks_has_no_means_and_is_not_the_main_one():
  found, rankings = hand_made({'one': 4, 'two': 2})
  some = {('two', 'local'): rankings['two', 'local']}
  results = mixed_tables.tabulate(
      found, evaluator.Union(found), {'all': rankings, 'some': some}, 'val')
  assert results['main_row'] == 'all' and results['split'] == 'val'
  assert set(results['one']) == {'all'} and set(results['two']) == {
      'all', 'some'}
  assert results['reported']['local']['some'] == {'two': 50.0}
  assert results['reported']['local']['all']['mean of all'] == 75.0
  assert results['tasks']['one'] == {
      'queries': 4, 'candidates': 3, 'chance': pytest.approx(100 / 3),
      'left_out': 0}
  assert results['sizes'] == {'tasks': 2, 'queries': 8, 'candidates': 3}
