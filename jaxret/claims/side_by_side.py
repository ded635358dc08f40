"""Several runs at a time, each in a process of its own.

A tiny model keeps two cores busy for half of the time: compiling, decoding and
what Python does between take one. What a run says goes to log.txt in its
workdir.
"""
import contextlib
import math
import multiprocessing
import os
import pathlib
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection

from jaxret import main as program
from jaxret.claims import experiments
from jaxret.data import closed

LOG = 'log.txt'


def do(runs: Sequence[experiments.Run], split: str, jobs: int,
       begin: Callable[[experiments.Run], object],
       end: Callable[[experiments.Run, float], object],
       expected: Callable[[experiments.Run], float | None] = lambda run: None
       ) -> None:
  """Does those runs that are not done, `jobs` at a time.

  One that uses what others leave waits for them. Those come first of which
  nobody knows how long they take; then the longest, so that the last ones end
  together. begin, end: are told of each, and how many seconds it took.
  expected: the seconds that a run will take, where others tell. Raises
  ValueError, with the last words of a run that fails; what then goes on is
  stopped, and goes on with the next call.
  """
  context = multiprocessing.get_context('spawn')
  waiting = [run for run in runs if not run.is_done(split)]
  busy: dict[multiprocessing.process.BaseProcess,
             tuple[experiments.Run, float]] = {}
  try:
    while waiting or busy:
      while len(busy) < jobs:
        doing = [run for run, _ in busy.values()]
        run = _next(waiting, doing, expected)
        if run is None:
          break
        waiting.remove(run)
        begin(run)
        process = context.Process(target=_child, args=(run, split))
        process.start()
        busy[process] = run, time.monotonic()
      connection.wait([process.sentinel for process in busy])
      for process in [one for one in busy if not one.is_alive()]:
        run, start = busy.pop(process)
        if process.exitcode:
          raise ValueError(f'{run.name}: {_last_words(run, process.exitcode)}')
        end(run, time.monotonic() - start)
  finally:
    for process in busy:
      process.terminate()
    for process in busy:
      process.join()


def _next(waiting, doing, expected):
  """Which of those that use nothing that is still to be done, or None."""
  missing = {run.experiment.name for run in (*waiting, *doing)}
  busy = {run.experiment.name for run in doing}

  def urgency(run):
    seconds = expected(run)
    if seconds is not None:
      return seconds
    # Another seed of it compiles just now what this one needs as well.
    return -math.inf if run.experiment.name in busy else math.inf

  return max((run for run in waiting
              if missing.isdisjoint(run.experiment.used())),
             key=urgency, default=None)


def _last_words(run, exit_code):
  said = (run.workdir / LOG).read_text(errors='replace').strip()
  return f'{said.splitlines()[-1] if said else "said nothing"} ' \
         f'(exit status {exit_code}; {run.workdir / LOG} has more)'


def _child(run, split):
  """One run, in its own process."""
  with _said_to(run.workdir / LOG):
    program.log_plainly()
    program.set_process()
    status = 0
    try:
      with program.terminated_as_interrupted(), _closed(split):
        experiments.do(run, split)
    except Exception:
      traceback.print_exc()
      status = 1
    except KeyboardInterrupt:
      status = 130
    sys.exit(status)


def _closed(split):
  """As in the process that started it, see campaign."""
  if split == experiments.TEST:
    return contextlib.nullcontext()
  return closed.closed(experiments.TEST)


@contextlib.contextmanager
def _said_to(path: pathlib.Path) -> Iterator[None]:
  """What the process prints goes to a file."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, 'a') as log:
    for descriptor in (1, 2):
      os.dup2(log.fileno(), descriptor)
    yield
