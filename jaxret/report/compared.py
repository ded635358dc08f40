"""Runs side by side as one HTML file."""
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxret import files
from jaxret.report import media_links, page, plots, tables
from jaxret.report import queries as queries_lib


class Compared(NamedTuple):
  """One direction or task of all runs, on the queries that all answered.

  queries, of: how many these are, and of those that the first has. values:
  {run: {metric: mean over these}}. differences: of each other run less the
  first, as comparisons.compare has them. shared: these queries, whose rows are
  the runs, the first one the main row.
  """
  direction: str
  queries: int
  of: int
  values: Mapping[str, Mapping[str, float]]
  differences: Sequence[Mapping[str, Any]]
  shared: queries_lib.Queries

  @property
  def verdicts(self) -> list[str]:
    """A sentence on R@1 of each other run."""
    return [verdict(one) for one in self.differences
            if one['metric'] == 'recall_at_1']


def verdict(one: Mapping[str, Any]) -> str:
  """'b is better than a: R@1 +4.0 points, 95 % interval ...', or as good."""
  numbers = (f'R@1 {tables.signed(one)} points, 95 % interval '
             f'{tables.interval(one)}')
  if tables.is_noise(one):
    return (f'{one["row"]} and {one["baseline"]} do not differ by more than '
            f'noise: {numbers}.')
  kind = 'better' if one['difference'] > 0 else 'worse'
  return f'{one["row"]} is {kind} than {one["baseline"]}: {numbers}.'


def heading(metric: str) -> str:
  """'R@1', 'MRR' of a metric."""
  return metric.replace('recall_at_', 'R@').replace('mrr', 'MRR')


def value(metric: str, number: float) -> str:
  """A mean as text: recall in percent, MRR between 0 and 1."""
  return f'{number:.3f}' if metric == 'mrr' else f'{number:.1f}'


def write(path: str | os.PathLike, compared: Sequence[Compared],
          about: Mapping[str, str]) -> None:
  """Writes the page, at once.

  about: {run: where its results come from, as provenance.line says}. A run is
  named by its directory, whose report the page links to where there is one.
  """
  path = pathlib.Path(path)
  links = {run: media_links.relative(pathlib.Path(run) / 'report.html',
                                     path.absolute().parent)
           for run in about if (pathlib.Path(run) / 'report.html').is_file()}
  environment = page.environment_of_pages()
  environment.filters['words'] = _words
  files.write_atomically(
      path, environment.get_template('compared.html.jinja').render(
          compared=compared, about=about, links=links, heading=heading,
          plot=_plot(compared),
          value=value, tables=tables, row_words=str,
          listed=queries_lib.listed, most_listed=queries_lib.MOST_LISTED))


def _plot(compared):
  """R@1 of each other run less the first: a picture each, a line a task."""
  found: dict[str, list[plots.Interval]] = {}
  axes = {}
  for one in compared:
    for difference in one.differences:
      if difference['metric'] == 'recall_at_1':
        run = difference['row']
        first = _short(difference['baseline'])
        axes[run] = f'R@1 of {_short(run)} less {first}, points of a percent'
        found.setdefault(run, []).append(plots.Interval(
            _words(one.direction), difference['difference'],
            *difference['ci95']))
  return ''.join(plots.interval_plot(lines[:plots.MAX_TASKS], axes[run])
                 for run, lines in found.items())


def _short(name, most=24):
  """The end of a name, by which directories differ; no formula in it."""
  name = name if len(name) <= most else '...' + name[3 - most:]
  return name.replace('$', r'\$')


def _words(name):
  return name.replace('_', ' ')
