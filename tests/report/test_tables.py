"""The tables: aligned, of what the results hold, with one list of measures."""
import re

import pytest

from jaxret import report
from jaxret.report import tables

DIRECTIONS = ('text_to_video', 'video_to_text')


def test_text_table_is_aligned_and_marks_weights(inputs):
  results = inputs['results']
  table = report.format_table(results)
  assert 'chance R@1 2.5 %' in table
  columns = {line.index('R@1') for line in table.splitlines()
             if line.startswith(tuple(f'{name} ' for name in DIRECTIONS))}
  assert len(columns) == 1
  for direction in DIRECTIONS:
    lines = table[table.index(f'{direction} '):].splitlines()
    rows = list(results[direction])
    assert len(rows) == 7
    for name, line in zip(rows, lines[2:]):
      assert line.split()[0] == name
      value = f'{results[direction][name]["recall_at_1"]:.1f}'
      assert line.split()[1] == value
      assert line.index(value) + len(value) == lines[0].index('R@1') + 3
  assert 'validation: alpha 0.3, query weight 0.6' in table
  assert 'test, not a result: alpha 0.5' in table
  assert 'paper: alpha 0.9' in table


def test_text_table_has_the_differences_that_are_more_than_noise(inputs):
  results = inputs['results']
  first = [(direction, one) for direction, found in
           results['differences'].items() for one in found
           if one['metric'] == 'recall_at_1']
  seen = [(direction, one) for direction, one in first
          if not tables.is_noise(one)]
  assert 0 < len(seen) < len(first)
  block = report.format_table(results).split('\nbeyond noise')[1].splitlines()
  for line, (direction, one) in zip(block[2:], seen):
    low, high = one['ci95']
    p = one['p_value']
    assert re.split(r'  +', line) == [
        f'{direction}, R@1: {one["row"]} - {one["baseline"]}',
        f'{one["difference"]:+.1f}', f'{low:+.1f} to {high:+.1f}',
        '<0.001' if p < 0.001 else f'{p:.3f}',
        f'{one["better"]}, {one["worse"]}']
  assert block[2 + len(seen):][:1] == ['']
  assert block[-1].startswith(
      f'{len(first) - len(seen)} of {len(first)} differences are within noise')
  assert 'docs/claims.md' in block[-1]


def test_a_table_of_noise_alone_says_so(inputs):
  results = inputs['results']
  noise = {direction: [{**one, 'ci95': [-1.0, 1.0]} for one in found]
           for direction, found in results['differences'].items()}
  table = report.format_table({**results, 'differences': noise})
  count = sum(one['metric'] == 'recall_at_1'
              for found in noise.values() for one in found)
  assert 'beyond noise' not in table
  assert f'{count} of {count} differences are within noise' in table


def of_tasks():
  """Two tasks of two rows, one of which answers the first task alone."""
  def row(recall):
    return {'recall_at_1': recall, 'recall_at_5': 80.0,
            'recall_at_20': 90.0, 'median_rank': 2.0, 'mean_rank': None,
            'mrr': None, 'recall_at_1_ci95': [10.0, 70.0]}
  return {
      'dataset': 'toy', 'split': 'test',
      'sizes': {'tasks': 2, 'queries': 1500, 'candidates': 30},
      'main_row': 'ours', 'tasks': {
          name: {'queries': 750, 'candidates': 15, 'chance': 100 / 15,
                 'left_out': 0} for name in ('a_to_b', 'b_to_a')},
      'means': {row: {'both': {'mean': mean, 'tasks': n, 'of': 2}}
                for row, mean, n in (('theirs', 20.0, 1), ('ours', None, 2))},
      'sum_of_recalls': {'de': {'theirs': 1.25, 'ours': 300.0}},
      'a_to_b': {'theirs': row(20.0), 'ours': row(40.0)},
      'b_to_a': {'ours': row(60.0)}}


def test_tables_that_span_tasks_call_rows_by_their_words():
  rows = report.Rows({'ours': 'Our Method'})
  table = report.format_table(of_tasks(), rows)
  lines = [line.split('  ') for line in table.splitlines()]
  lines = [[cell.strip() for cell in line if cell] for line in lines]
  assert ['R@1', 'queries', 'candidates', 'chance', 'theirs', 'Our Method'
          ] in lines
  assert ['a to b', '750', '15', '6.7', '20.0', '40.0'] in lines
  assert ['b to a', '750', '15', '6.7', '-', '60.0'] in lines
  assert ['both', '1 of 2', '20.0', '-'] in lines
  assert ['de', '1.2', '300.0'] in lines
  # Of one task, rows have the names of results.json; what is not known is '-'.
  assert ['b_to_a', 'R@1', '95 %', 'R@5', 'R@20', 'median', 'mean', 'MRR'
          ] in lines
  assert ['ours', '60.0', '10.0-70.0', '80.0', '90.0', '2', '-', '-'] in lines


@pytest.fixture
def with_toy(monkeypatch):
  """Results of a metric that one line of MEASURES shows."""
  toy = tables.Measure('toy_at_3', 'toy@3', 'toy metric at 3', '%.2f')
  monkeypatch.setattr(tables, 'MEASURES', (*tables.MEASURES, toy))
  results = of_tasks()
  results['a_to_b']['ours']['toy_at_3'] = 0.123
  return results


def test_a_metric_is_shown_by_one_line(with_toy, tmp_path):
  table = report.format_table(with_toy)
  ours = next(line for line in table.splitlines()
              if line.startswith('ours ') and '40.0' in line)
  theirs = next(line for line in table.splitlines()
                if line.startswith('theirs ') and '80.0' in line)
  assert ours.endswith('  0.12') and theirs.endswith('  -')
  # A task of which no row has it does not show it.
  assert table.count('toy@3') == 1
  source = report.write(tmp_path, with_toy).read_text()
  assert source.count('toy metric at 3</th>') == 1
  columns = re.findall(r'<td>(.*?)</td>', source.partition('>a to b</h3>')[2])
  assert columns[:14] == ['20.0', '80.0', '90.0', '2', '-', '-', '-',
                          '40.0', '80.0', '90.0', '2', '-', '-', '0.12']


def test_what_the_results_hold_makes_the_directions(inputs):
  assert tables.directions(inputs['results']) == list(DIRECTIONS)
  assert tables.directions(of_tasks()) == ['a_to_b', 'b_to_a']


def test_main_rows_are_those_that_are_compared(inputs):
  """What is not folded in the page; the rest of the results stays."""
  results = inputs['results']
  found = tables.main_rows(results, report.Rows(main='blim'))
  for direction in DIRECTIONS:
    assert list(found[direction]) == [
        'candidate_likelihood', 'query_likelihood', 'cpn', 'bidirectional',
        'blim']
  assert found['weights'] == results['weights']
  assert 'blim_oracle' in results['text_to_video']
  assert 'oracle' not in report.format_table(found)


def test_headline_is_of_the_main_row(inputs):
  results = inputs['results']
  first, second = (results[d]['blim']['recall_at_1'] for d in DIRECTIONS)
  assert tables.headline(results, report.Rows({'blim': 'Ours'}, 'blim')) == (
      f'R@1 of Ours: {first:.1f} % text to video, {second:.1f} % video to '
      'text.')
  assert tables.headline({'dataset': 'x', 'split': 'y'}, report.Rows()) == ''
