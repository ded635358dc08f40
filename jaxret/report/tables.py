"""Tables of results.json, as rows of text and as aligned lines."""
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

Results: TypeAlias = Mapping[str, Any]  # as page.write takes them
Table: TypeAlias = list[tuple[str, ...]]  # rows of cells, the head first


@dataclasses.dataclass(frozen=True)
class Rows:
  """What a method says of the rows of its results; it may say nothing.

  words: {row: what a reader calls it}. main: the row that is set in bold where
  the results name none. explained: {row, direction or task: a sentence for
  whoever reads its numbers}.
  """
  words: Mapping[str, str] = dataclasses.field(default_factory=dict)
  main: str | None = None
  explained: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def name(self, row: str) -> str:
    """A row in words: its own name where the method has no other."""
    return self.words.get(row, row.replace('_', ' '))


class Measure(NamedTuple):
  """A column of numbers: its key in a row of results, and how it is shown.

  heading: in text; label: in the page. Where a row lacks the number, or it is
  not known, there is a dash.
  """
  key: str
  heading: str
  label: str
  style: str

  def cell(self, row: Mapping[str, Any]) -> str:
    """The number of a row of results as text."""
    return number(self.style, row.get(self.key))


# What is shown of a row besides recall and its interval: the columns that any
# row of a table has. A metric needs a line here and one in metrics.summary.
MEASURES = (
    Measure('ndcg_at_10', 'nDCG@10', 'nDCG@10', '%.1f'),
    Measure('median_rank', 'median', 'median rank', '%g'),
    Measure('mean_rank', 'mean', 'mean rank', '%.1f'),
    Measure('mrr', 'MRR', 'MRR', '%.3f'),
)


def measures(results: Results, direction: str) -> list[Measure]:
  """The columns of a direction or task: recall at each k, then MEASURES."""
  rows = results[direction].values()
  first = next(iter(rows))
  depths = [key.removeprefix('recall_at_') for key in first
            if key.startswith('recall_at_') and key[10:].isdigit()]
  return [*(Measure(f'recall_at_{k}', f'R@{k}', f'R@{k}', '%.1f')
            for k in depths),
          *(m for m in MEASURES if any(m.key in row for row in rows))]


def label(results: Results, direction: str, metric: str) -> str:
  """What the page calls a metric."""
  return next(m.label for m in measures(results, direction) if m.key == metric)


def format_table(results: Results, rows: Rows | None = None) -> str:
  """The results of every direction or task as aligned text tables."""
  rows = rows or Rows()
  head = f'{results["dataset"]}, {results["split"]}: {sizes(results)}'
  if 'tasks' not in results:
    head += f'; chance R@1 {chance(results):.2g} %'
  lines = [head]
  for of in (overview, means_table, sums_table):
    table = of(results, rows)
    lines += _aligned(table, left_last=False) if table else []
  for table in results.get('tables', ()):
    lines += ['', table['title']]
    lines += _aligned(table['rows'], left_last=False)[1:]
  for direction in directions(results):
    lines += _aligned(_direction_table(results, direction),
                      left_last='weights' in results)
  lines += _seen(results)
  return '\n'.join(lines) + '\n'


def _direction_table(results, direction):
  recall, *others = measures(results, direction)
  has_weights = 'weights' in results
  table = [(direction, recall.heading, '95 %', *(m.heading for m in others),
            *['weights chosen on'] * has_weights)]
  for name, row in results[direction].items():
    low, high = row['recall_at_1_ci95']
    table.append((
        name, recall.cell(row), f'{low:.1f}-{high:.1f}',
        *(m.cell(row) for m in others),
        *[weights(results, direction, name)] * has_weights))
  return table


def _aligned(table, left_last=True):
  """An empty line and those of a table; its last column perhaps to the left."""
  return ['', *aligned(table, left_last)]


def aligned(table: Table, left_last: bool = False) -> list[str]:
  """Lines of a table; its first column, and perhaps its last, to the left."""
  widths = [max(map(len, column)) for column in zip(*table)]
  lines = []
  for i, (first, *cells) in enumerate(table):
    cells = [c.ljust(w) if left_last and n == len(cells) - 1 else c.rjust(w)
             for n, (c, w) in enumerate(zip(cells, widths[1:]))]
    lines.append('  '.join([first.ljust(widths[0]), *cells]).rstrip())
    if i == 0:
      lines.append('-' * (sum(widths) + 2 * len(widths) - 2))
  return lines


# Tables that span tasks; each is None where there is nothing to show.


def overview(results: Results, rows: Rows) -> Table | None:
  """R@1 of every row on every task, as rows of text."""
  if len(results.get('tasks', ())) < 2:
    return None
  names = list(dict.fromkeys(row for task in results['tasks']
                             for row in results[task]))
  table = [('R@1', 'queries', 'candidates', 'chance', *map(rows.name, names))]
  for name, task in results['tasks'].items():
    of_task = results[name]
    table.append((
        name.replace('_', ' '), f'{task["queries"]:,}',
        f'{task["candidates"]:,}', f'{task["chance"]:.2g}',
        *(f'{of_task[row]["recall_at_1"]:.1f}' if row in of_task else '-'
          for row in names)))
  return table


def means_table(results: Results, rows: Rows) -> Table | None:
  """Mean R@1 of groups of tasks, as rows of text."""
  means = results.get('means')
  if not means:
    return None
  table = [('mean R@1', 'tasks', *map(rows.name, means))]
  for group, first in next(iter(means.values())).items():
    table.append((group, f'{first["tasks"]} of {first["of"]}', *(
        number('%.1f', groups[group]['mean']) for groups in means.values())))
  return table


def sums_table(results: Results, rows: Rows) -> Table | None:
  """SumR of every language, as rows of text."""
  sums = results.get('sum_of_recalls')
  if not sums:
    return None
  names = next(iter(sums.values()))
  return [('sum of recalls', *map(rows.name, names)), *(
      (language, *(f'{of_row[name]:.1f}' for name in names))
      for language, of_row in sums.items())]


# Tables and parts of one direction.


class Pair(NamedTuple):
  """A row less a baseline; of_metric: {metric: one of 'differences'}."""
  row: str
  baseline: str
  of_metric: Mapping[str, Mapping[str, Any]]


def differences(results: Results, direction: str) -> list[Pair]:
  """The pairs of rows that were compared, if any."""
  found: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
  for one in results.get('differences', {}).get(direction, ()):
    found.setdefault((one['row'], one['baseline']), {})[one['metric']] = one
  return [Pair(*pair, of_metric) for pair, of_metric in found.items()]


def signed(one: Mapping[str, Any]) -> str:
  """'+3.0' of a difference."""
  return f'{one["difference"]:{_signed(one["metric"])}}'


def interval(one: Mapping[str, Any]) -> str:
  """'-0.5 to +3.0' of a difference."""
  style = _signed(one['metric'])
  return ' to '.join(f'{end:{style}}' for end in one['ci95'])


def is_noise(one: Mapping[str, Any]) -> bool:
  """Whether the interval of a difference holds 0."""
  low, high = one['ci95']
  return low <= 0 <= high


def p_value(one: Mapping[str, Any]) -> str:
  """'<0.001', '0.043' of a difference."""
  return '<0.001' if one['p_value'] < 0.001 else f'{one["p_value"]:.3f}'


def _signed(metric):
  return '+.1f' if metric.startswith('recall_at_') else '+.3f'


def _seen(results):
  """Lines of the differences that are more than noise, and what the others are.
  """
  table, count = [('beyond noise', 'difference', '95 %', 'p', 'better, worse')
                  ], 0
  for direction in directions(results):
    for pair in differences(results, direction):
      metric, one = next(iter(pair.of_metric.items()))
      count += 1
      if not is_noise(one):
        table.append((
            f'{direction}, {label(results, direction, metric)}: '
            f'{pair.row} - {pair.baseline}', signed(one), interval(one),
            p_value(one), f'{one["better"]}, {one["worse"]}'))
  if not count:
    return []
  hidden = count - len(table) + 1
  note = (f'{hidden} of {count} differences are within noise and not shown; '
          if hidden else '')
  note += ('intervals are over queries, of this one run. What holds over '
           'seeds: docs/claims.md, jaxret claims')
  return [*(_aligned(table, left_last=False) if hidden < count else []), '',
          note]


def groups(results: Results, direction: str, main_row: str | None
           ) -> tuple[list[str], list[str]]:
  """(rows to compare, further rows) of a direction.

  Further are those that need all queries at once, and those whose weights were
  chosen elsewhere than the main row's.
  """
  on = chosen_on(results, direction, main_row) if main_row else None
  all_at_once = results.get('all_queries_at_once', ())
  further = [row for row in results[direction] if row in all_at_once or on and
             chosen_on(results, direction, row) not in (None, on)]
  return [row for row in results[direction] if row not in further], further


def main_rows(results: Results, rows: Rows) -> Results:
  """The results less the further rows of `groups`, for a short table."""
  main = results.get('main_row', rows.main)
  return {**results, **{
      direction: {row: results[direction][row]
                  for row in groups(results, direction, main)[0]}
      for direction in directions(results)}}


# Parts of the results.


def directions(results: Results) -> list[str]:
  """The tasks, or else the directions: whatever holds rows of metrics."""
  if 'tasks' in results:
    return list(results['tasks'])
  return [name for name, rows in results.items()
          if isinstance(rows, dict) and rows and all(
              isinstance(row, dict) and 'recall_at_1' in row
              for row in rows.values())]


def sentences(results: Results, rows: Rows) -> list[str]:
  """What is to be known of the rows that the results have."""
  names = {name for direction in directions(results)
           for name in results[direction]}
  return [text for name, text in rows.explained.items() if name in names]


def headline(results: Results, rows: Rows,
             words: Callable[[str], str] = lambda name: name.replace('_', ' ')
             ) -> str:
  """'R@1 of ours: 40.0 % text to video, 33.0 % video to text.', or ''.

  Of the main row, else the last one; of many tasks the mean alone. words: of
  a direction.
  """
  found = [(direction, results[direction]) for direction in directions(results)]
  main = results.get('main_row', rows.main)
  values = {direction: of[main if main in of else list(of)[-1]]['recall_at_1']
            for direction, of in found}
  if not values:
    return ''
  name = rows.name(main if main in found[0][1] else list(found[0][1])[-1])
  if len(values) > 2:
    mean = sum(values.values()) / len(values)
    return f'R@1 of {name}: {mean:.1f} % on average of {len(values)} tasks.'
  return f'R@1 of {name}: ' + ', '.join(
      f'{value:.1f} % {words(direction)}'
      for direction, value in values.items()) + '.'


def sizes(results: Results) -> str:
  """'1,000 videos, 1,000 texts'."""
  return ', '.join(f'{n:,} {name}' for name, n in results['sizes'].items())


def chance(results: Results) -> float:
  """R@1 in percent of a random order, in either direction without tasks.

  With T texts of V videos it is 1/V for a text; a video has T/V texts on
  average, so T/V/T for a video.
  """
  return 100.0 / results['sizes']['videos']


def weights(results: Results, direction: str, row: str) -> str:
  """'validation: alpha 0.3, query weight 0.5', or '' for a plain row.

  A row that is no answer to a query alone says so.
  """
  values = dict(results.get('weights', {}).get(direction, {}).get(row, {}))
  if not values:
    return ''
  split = values.pop('chosen_on')
  if split == 'test':
    split = 'test, not a result'
  text = ', '.join(f'{k.replace("_", " ")} {v:g}' for k, v in values.items())
  if row in results.get('all_queries_at_once', ()):
    text += '; needs all queries at once'
  return f'{split}: {text}' if text else split


def chosen_on(results: Results, direction: str, row: str) -> str | None:
  """The split on which the weights of a row were chosen, or None."""
  return results.get('weights', {}).get(direction, {}).get(row, {}).get(
      'chosen_on')


def number(style: str, value: float | None) -> str:
  """A number, or a dash where it is not known."""
  return '-' if value is None else style % value
