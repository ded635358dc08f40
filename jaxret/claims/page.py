"""The claims as one HTML file that opens anywhere, and as a text table."""
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from jaxret import files, provenance
from jaxret.claims import effects, experiments, listed
from jaxret.report import media_links, plots, tables
from jaxret.report import page as page_lib

CLAIM_WIDTH = 58  # of the text table
MARKS = {effects.HOLDS: 'holds', effects.UNSEEN: 'unseen',
         effects.OPPOSITE: 'opposite'}


def write(root: pathlib.Path, results: Mapping[str, Any],
          runs: Sequence[experiments.Run], seconds: Mapping[str, float]
          ) -> pathlib.Path:
  """Writes claims.html, of validation claims_validation.html -> its path.

  results: as judged.judged has them. seconds: {'run on split': how long it
  took}, perhaps of other runs, too.
  """
  split = results['split']
  path = root / ('claims.html' if split == experiments.TEST
                 else f'claims_{split}.html')
  links = {}
  for run in runs:
    if run.gives_ranks:
      links.setdefault(run.experiment.name, []).append(
          (run.seed, media_links.relative(
              run.workdir / 'report.html', root.absolute())))
  environment = page_lib.environment_of_pages(pathlib.Path(__file__).parent)
  files.write_atomically(
      path, environment.get_template('claims.html.jinja').render(
          results=results, papers=listed.PAPERS, by_paper=by_paper(results),
          marks=MARKS, figure=figure, number=number, interval=interval,
          metric_words=metric_words, links=links,
          abouts={run.experiment.name: run.experiment for run in runs},
          provenance=provenance.line(provenance.gather(None)),
          minutes=minutes_of(runs, seconds)))
  return path


def minutes_of(runs: Sequence[experiments.Run], seconds: Mapping[str, float]
               ) -> float:
  """How long all these runs took; seconds: as `write` has them."""
  names = {run.name for run in runs}
  return sum(took for name, took in seconds.items()
             if name.partition(' on ')[0] in names) / 60


def by_paper(results: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
  """{paper: its claims}."""
  found: dict[str, list[Mapping[str, Any]]] = {}
  for one in results['claims']:
    found.setdefault(one['paper'], []).append(one)
  return found


def figure(claim: Mapping[str, Any]) -> str:
  """The plot of a claim: its comparisons with intervals and seeds."""
  return plots.interval_plot(
      [plots.Interval(one['says'], one['effect'], *one['ci95'],
                      one['of_seeds']) for one in claim['comparisons']],
      f'in favour of the claim, {claim["unit"]}', claim['margin'])


def metric_words(metric: str) -> str:
  """'R@1', 'MRR', 'prior percentile' of a metric."""
  if metric == 'mrr':
    return 'MRR'
  if metric.startswith('recall_at_'):
    return metric.replace('recall_at_', 'R@')
  return metric.replace('_', ' ')


def number(metric: str, value: float, signed: bool = False) -> str:
  """A mean or an effect as text: MRR with three places, others with one."""
  return f'{value:{"+" * signed}{".3f" if metric == "mrr" else ".1f"}}'


def interval(metric: str, ends: Sequence[float]) -> str:
  """'-0.5 to +3.0'."""
  return ' to '.join(number(metric, end, signed=True) for end in ends)


def text(results: Mapping[str, Any]) -> str:
  """What the console shows: a line for every comparison."""
  table = [('claim', 'effect', '95 %', 'verdict')]
  for claim in results['claims']:
    several = len(claim['comparisons']) > 1
    head = textwrap.shorten(f'{claim["id"]}: {claim["claim"]}', CLAIM_WIDTH,
                            placeholder=' ...')
    if several:
      table.append((head, '', '', claim['verdict']))
    for one in claim['comparisons']:
      table.append((
          f'  {one["says"]}' if several else head,
          number(claim['metric'], one['effect'], signed=True),
          interval(claim['metric'], one['ci95']), one['verdict']))
  counts = ', '.join(f'{count} {verdict}'
                     for verdict, count in results['verdicts'].items())
  return '\n'.join([
      f'{len(results["claims"])} claims on {results["split"]}, '
      f'{results["seeds"]} seeds: {counts}; effects are in favour of the '
      'claim', '', *tables.aligned(table, left_last=True)])


def markdown(results: Mapping[str, Any]) -> str:
  """The same as a table for a document; below it what was tried.

  A claim of several comparisons has a line for each.
  """
  lines = ['| | what is compared | effect | 95 % | of each seed | verdict |',
           '|---|---|---|---|---|---|']
  for paper, claims in by_paper(results).items():
    for claim in claims:
      metric, several = claim['metric'], len(claim['comparisons']) > 1
      for place, one in enumerate(claim['comparisons']):
        in_all = (f'; in all: {claim["verdict"]}'
                  if several and not place else '')
        lines.append('| ' + ' | '.join((
            '' if place else f'**{listed.PAPERS[paper]}**: {claim["claim"]}',
            f'{one["says"]}, {claim["unit"]}',
            number(metric, one['effect'], signed=True),
            interval(metric, one['ci95']),
            ', '.join(number(metric, seed, signed=True)
                      for seed in one['of_seeds']),
            one['verdict'] + in_all)) + ' |')
  tried = [f'- {claim["claim"]} {claim["tried"]}'
           for claim in results['claims'] if claim['tried']]
  return '\n'.join([*lines, *['', *tried] * bool(tried)])
