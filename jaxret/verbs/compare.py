"""Puts finished runs side by side: is one better than another?

  jaxret compare WORKDIR WORKDIR ... [flags]

Each run against the first one on the queries that both answered, by the main
row of each: the difference, its 95 % interval and its two-sided p-value, from
drawing the queries again with replacement, each with both of its answers. Where
the interval leaves out 0, other queries of this kind would show it, too.
"""
import json
import sys

import numpy as np

from jaxret import comparisons, provenance
from jaxret.report import compared, tables
from jaxret.report import queries as queries_lib
from jaxret.verbs import _flags


def main(argv):
  return _flags.run(run, argv)


def run(argv):
  options = parse(argv)
  found = compare(options.workdirs, options.row, options.resamples)
  print(json.dumps(plain(found), indent=2) if options.json else text(found))
  if options.html:
    compared.write(options.html, found, {
        name: _about(name) for name in options.workdirs})
    print(f'page: {options.html}', file=sys.stderr)


def parse(argv):
  parser = _flags.Parser('compare', __doc__)
  parser.add_argument('workdirs', metavar='WORKDIR', nargs='+',
                      help='of finished runs, two at least; with several '
                      'benchmarks, the directory of one in it')
  parser.add_argument('--row', help='of the results (the main row of each)')
  parser.add_argument('--resamples', type=int, default=comparisons.N_RESAMPLES,
                      help=f'({comparisons.N_RESAMPLES:,})')
  parser.add_argument('--html', metavar='FILE', help='a page of it, with the '
                      'rank of each query in every run')
  parser.add_argument('--json', action='store_true', help='JSON in place of '
                      'tables')
  options = parser.parse_args(argv)
  if len(options.workdirs) < 2 or len(
      set(options.workdirs)) < len(options.workdirs):
    parser.error(f'got the workdirs {", ".join(options.workdirs)}; want two '
                 'at least, none twice')
  return options


def _about(workdir):
  """Where the results of a run come from, in a line."""
  found = provenance.read(workdir)
  return provenance.line(found) if found else 'not known'


def compare(workdirs, row=None, n_resamples=comparisons.N_RESAMPLES):
  """[compared.Compared] of each direction that all runs have.

  Errors: ValueError for a workdir without ranks, runs of other data or other
  candidates, an unknown row, and where no query is shared.
  """
  kept = {str(workdir): queries_lib.load(workdir) for workdir in workdirs}
  sets = {name: f'{one.dataset}, {one.split}' for name, one in kept.items()}
  _check_same('data', sets)
  first = next(iter(kept.values()))
  shared = [name for name in first.directions
            if all(name in one.directions for one in kept.values())]
  if not shared:
    raise ValueError('the runs share no direction or task: ' + '; '.join(
        f'{name} has {", ".join(one.directions)}'
        for name, one in kept.items()))
  return [_compared({name: one.directions[direction]
                     for name, one in kept.items()}, row, n_resamples)
          for direction in shared]


def _check_same(what, values):
  if len(set(values.values())) > 1:
    raise ValueError(f'the runs have other {what}: ' + '; '.join(
        f'{name} {value}' for name, value in values.items()) +
        '; want the same')


def _compared(runs, row, n_resamples):
  """runs: {name: Queries} of one direction."""
  first = next(iter(runs.values()))
  _check_same(f'candidates of {first.direction}',
              {name: one.pool or 'not known' for name, one in runs.items()})
  places = {name: _answered(name, one, row or one.main)
            for name, one in runs.items()}
  names = set.intersection(*(set(one) for one in places.values()))
  keys = [key for key in zip(first.ids, first.texts) if key in names]
  if not keys:
    raise ValueError(f'{first.direction}: the runs answered no query in '
                     'common; want the same split')
  ranks = {name: np.array([of[key] for key in keys])
           for name, of in places.items()}
  depths = [one.deepest for one in runs.values() if one.deepest is not None]
  metrics = [m for m in comparisons.METRICS if not depths or (
      m != 'mrr' and int(m.removeprefix('recall_at_')) <= min(depths))]
  baseline, *others = runs
  return compared.Compared(
      first.direction, len(keys), len(first.ids),
      {name: {m: float(comparisons.values_of(of, m).mean()) for m in metrics}
       for name, of in ranks.items()},
      comparisons.compare(ranks, [(name, baseline) for name in others],
                          metrics, n_resamples),
      queries_lib.Queries(
          first.direction, [name for name, _ in keys],
          [text for _, text in keys], ranks, baseline,
          min(depths, default=None)))


def plain(found):
  """[Compared] as JSON has them: all but the queries themselves."""
  return [{name: value for name, value in one._asdict().items()
           if name != 'shared'} for one in found]


def _answered(name, queries, row):
  """{(id, text): rank} of the queries that a row answered."""
  if row not in queries.ranks:
    raise ValueError(f'{name} has no row {row!r} of {queries.direction}; it '
                     f'has {", ".join(queries.ranks)}')
  keys = list(zip(queries.ids, queries.texts))
  if len(set(keys)) < len(keys):
    raise ValueError(f'{name}: queries of {queries.direction} share id and '
                     'text, so that they cannot be told apart in another run')
  return {key: int(rank) for key, rank in zip(keys, queries.ranks[row])
          if rank > 0}


def text(found):
  """The tables of [Compared], and what they say."""
  lines = []
  for one in found:
    names = list(next(iter(one.values.values())))
    lines += ['', f'{one.direction.replace("_", " ")}: {one.queries:,} of '
              f'{one.of:,} queries', '']
    lines += tables.aligned([('run', *map(compared.heading, names)), *(
        (run, *(compared.value(m, value) for m, value in values.items()))
        for run, values in one.values.items())])
    lines += ['', *tables.aligned([
        ('paired difference', 'metric', 'difference', '95 %', 'p',
         'better, worse', ''), *(
            (f'{d["row"]} - {d["baseline"]}', compared.heading(d['metric']),
             tables.signed(d), tables.interval(d), tables.p_value(d),
             f'{d["better"]}, {d["worse"]}',
             'noise' if tables.is_noise(d) else '') for d in one.differences)])]
    lines += ['', *one.verdicts]
  return '\n'.join(lines[1:])
