"""Tries the claims of the four papers, each with an interval and a verdict.

  jaxret claims [--paper=PAPER[,PAPER ...]] [--seeds=3] [flags]

Trains small models on the embedded world, all of them first on validation; then
what was settled is frozen, the test split is opened once, and every claim
*holds*, is *opposite*, or there is *no difference seen*. Results: claims.json
and claims.html in the workdir. Stopped at any moment, the same call goes on.
"""
import json
import pathlib
import sys

from jaxret import main as program
from jaxret.verbs import _flags


def main(argv):
  return _flags.run(run, argv)


def run(argv):
  options = parse(argv)
  from jaxret.claims import campaign, listed, page
  found = listed.read()
  if options.paper:
    found = found.of_papers(options.paper.split(','))
  program.log_plainly()
  program.set_process()
  import jax
  jobs = options.jobs or (2 if jax.default_backend() == 'cpu' else 1)
  root = pathlib.Path(options.workdir)
  try:
    with program.terminated_as_interrupted():
      results = campaign.judge(
          found, options.seeds, root, options.until, jobs)
  except KeyboardInterrupt:
    raise KeyboardInterrupt('interrupted; the runs that were finished are '
                            'kept: call it again to go on') from None
  if options.json:
    print(json.dumps(results, indent=2, ensure_ascii=False))
  else:
    print((page.markdown if options.markdown else page.text)(results))
  name = 'claims' if options.until == 'test' else f'claims_{options.until}'
  print(f'page: {root / name}.html', file=sys.stderr)


def parse(argv):
  parser = _flags.Parser('claims', __doc__)
  parser.add_argument('--paper', help='blim, unite, mm_embed, leccr, commas '
                      'between (all)')
  parser.add_argument('--seeds', type=int, default=3,
                      help='of every experiment (3)')
  parser.add_argument('--jobs', type=int, help='runs at a time, each of about '
                      '3 GB (2; 1 where there is an accelerator)')
  parser.add_argument('--workdir', default='workdirs/claims', metavar='DIR',
                      help='of all experiments (workdirs/claims)')
  parser.add_argument('--until', choices=('validation', 'test'),
                      default='test', help='validation: judge by it, and leave '
                      'the test split closed (test)')
  printed = parser.add_mutually_exclusive_group()
  printed.add_argument('--json', action='store_true', help='print what '
                       'claims.json says')
  printed.add_argument('--markdown', action='store_true', help='print the '
                       'table as Markdown, and what was tried')
  options = parser.parse_args(argv)
  if options.seeds < 1:
    parser.error(f'--seeds is {options.seeds}, want 1 at least')
  if options.jobs is not None and options.jobs < 1:
    parser.error(f'--jobs is {options.jobs}, want 1 at least')
  return options
