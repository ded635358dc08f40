"""From nothing to claims.json: all runs on validation, then on test, once."""
import contextlib
import json
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from jaxret import files, own_files, process_settings, workdir_lock
from jaxret.claims import (
  experiments,
  frozen,
  judged,
  listed,
  page,
  side_by_side,
)
from jaxret.data import closed

TIMES = 'times.json'


def judge(found: listed.Listed, n_seeds: int, root: pathlib.Path,
          until: str = experiments.TEST, jobs: int = 1) -> dict[str, Any]:
  """Runs what is lacking and judges the claims; writes claims.json and a page.

  until: 'validation' leaves the test split closed, and claims are judged on
  validation. jobs: runs at a time, see side_by_side; 1 = in this process.
  Stopped at any moment, it goes on where it was, and gives the same bytes.
  Returns what claims.json says. Raises ValueError where the test split was
  opened with other claims, configs or seeds.
  """
  planned = experiments.runs(found, n_seeds, root)
  for run in planned:  # what is wrong in one is said before hours of others
    experiments.config_of(run, experiments.TEST)
  process_settings.keep_compiled_of_user()
  with workdir_lock.held(root):
    progress = Progress(root, planned, until, jobs)
    with closed.closed(experiments.TEST):
      _do(planned, experiments.VALIDATION, progress, jobs)
    if until == experiments.TEST:
      frozen.settle(root, found, planned)
      _do(planned, experiments.TEST, progress, jobs)
    results = judged.judged(found, planned, until)
    files.write_atomically(
        root / f'claims{"" if until == experiments.TEST else "_" + until}.json',
        json.dumps(results, indent=2, ensure_ascii=False) + '\n')
    page.write(root, results, planned, progress.seconds)
  return results


def _do(planned, split, progress, jobs):
  if jobs > 1:
    return side_by_side.do(
        planned, split, jobs, lambda run: progress.begin(run, split),
        lambda run, seconds: progress.keep(run, split, seconds),
        lambda run: progress.expected(run, split))
  for run in planned:
    if not run.is_done(split):
      with progress.of(run, split):
        experiments.do(run, split)


class Progress:
  """Says which run begins, and how long all that is left will take.

  seconds: {run on split: how long it took}, kept in times.json; a run that was
  stopped counts from where it went on.
  """

  def __init__(self, root: pathlib.Path, planned: Sequence[experiments.Run],
               until: str, jobs: int = 1):
    self._path, self._jobs = root / TIMES, jobs
    self.seconds: dict[str, float] = own_files.read_object(
        self._path) if self._path.is_file() else {}
    splits = (experiments.VALIDATION, experiments.TEST)
    self._all = [(run, split) for split in splits[:1 + (until == splits[1])]
                 for run in planned]

  @contextlib.contextmanager
  def of(self, run: experiments.Run, split: str) -> Iterator[None]:
    """Times a run that ends well, and says so before."""
    self.begin(run, split)
    start = time.monotonic()
    yield
    self.keep(run, split, time.monotonic() - start)

  def begin(self, run: experiments.Run, split: str) -> None:
    """Says which run begins."""
    place = self._all.index((run, split)) + 1
    left = self._left()
    print(f'claims: {place} of {len(self._all)}, {run.name} on {split}'
          + (f'; about {left / 60:.0f} min left' if left else ''),
          file=sys.stderr, flush=True)

  def keep(self, run: experiments.Run, split: str, seconds: float) -> None:
    """Keeps how long a run took."""
    self.seconds[f'{run.name} on {split}'] = round(seconds, 1)
    files.write_atomically(self._path, json.dumps(self.seconds, indent=1))

  def expected(self, run: experiments.Run, split: str) -> float | None:
    """Seconds, as others of its experiment took; None = not known."""
    like = [took for name, took in self.seconds.items()
            if name.startswith(f'{run.experiment.name}/')
            and name.endswith(f' on {split}')]
    return _mean(like) if like else None

  def _left(self):
    """Seconds: of each as others of its experiment took, else as any; 0 = not
    known."""
    total = 0.0
    for run, split in self._all:
      if run.is_done(split):
        continue
      like = self.expected(run, split)
      total += like if like is not None else _mean(
          [took for name, took in self.seconds.items()
           if name.endswith(f' on {split}')])
    return total / self._jobs


def _mean(numbers):
  return sum(numbers) / len(numbers) if numbers else 0.0
