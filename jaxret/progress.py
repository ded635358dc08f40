"""What a training run shows while it runs."""
import contextlib
import json
import pathlib
import sys
import time

import jax
from absl import logging
from tqdm import tqdm

from jaxret import files, trackers

_UNITS = ('', 'k', 'M', 'G', 'T', 'P', 'E')


class Progress(contextlib.AbstractContextManager):
  """One line on standard error and one JSON line per log, by process 0 only.

  On a terminal the line is a tqdm bar; elsewhere each log is one line. names,
  config: of trackers that get the same numbers, see trackers.Trackers.
  """

  def __init__(self, workdir, start_step, total_steps, names=(), config=None):
    self._path = pathlib.Path(workdir) / 'metrics.jsonl'
    self._first = jax.process_index() == 0
    if self._first:
      keep_until(self._path, start_step)
    self._bar = tqdm(
        total=total_steps, initial=start_step, unit='step', file=sys.stderr,
        dynamic_ncols=True, disable=not self._first or not sys.stderr.isatty())
    self._total = total_steps
    self._trackers = trackers.Trackers(
        names, workdir, start_step, config or {}, self._first)
    self.start_clock()

  def start_clock(self):
    """Rates count from here; called once what was compiled has run."""
    self._since, self._steps = time.perf_counter(), 0
    self._counted = {}

  def count(self, **amounts):
    """Adds one step's examples, tokens, model_flops."""
    self._steps += 1
    for name, amount in amounts.items():
      self._counted[name] = self._counted.get(name, 0) + amount
    self._bar.update()

  def log(self, step, metrics):
    """Writes the metrics with the rates since the last log."""
    seconds = time.perf_counter() - self._since
    rates = {f'{name}_per_s': amount / seconds
             for name, amount in self._counted.items()}
    left = (self._total - step) * seconds / max(self._steps, 1)
    self.start_clock()
    if not self._first:
      return
    with self._path.open('a') as file:
      file.write(json.dumps({'step': step, **metrics, **rates}) + '\n')
    self._trackers.log(step, {**metrics, **rates})
    shown = {'loss': f'{metrics["loss"]:.4f}'}
    shown |= {name.removeprefix('model_').replace('_per_s', '/s'): short(rate)
              for name, rate in rates.items()}
    if self._bar.disable:
      line = ' '.join(f'{name} {value}' for name, value in shown.items())
      logging.info('step %d/%d %s%s', step, self._total, line,
                   f', about {_minutes(left)} left' if left else '')
    else:
      self._bar.set_postfix(shown)

  def __exit__(self, *error):
    self._bar.close()
    self._trackers.close()


def phase(phases, name, about=''):
  """Says which part of a run begins: '2 of 5: training'.

  phases: the names of all, in their order. One that is not among them, or all
  there is, has no number. about: more that is said of it.
  """
  number = f'{phases.index(name) + 1} of {len(phases)}: ' if (
      name in phases and len(phases) > 1) else ''
  logging.info('%s%s%s', number, name, about and f': {about}')


def short(number):
  """1234567 -> '1.23M'."""
  power = 0
  while abs(number) >= 1000 and power < len(_UNITS) - 1:
    number, power = number / 1000, power + 1
  return f'{number:.3g}{_UNITS[power]}'


def keep_until(path, last_step):
  """Drops the lines of a JSONL file after a step, and a half-written one."""
  if not path.exists():
    return
  kept = []
  for line in filter(None, path.read_text().split('\n')):
    try:
      if json.loads(line)['step'] > last_step:
        break
    except (json.JSONDecodeError, KeyError):
      break
    kept.append(line + '\n')
  files.write_atomically(path, ''.join(kept))


class Counted(contextlib.AbstractContextManager):
  """How many of a number of things are done, and the time that is left.

  On a terminal a tqdm bar; elsewhere a line on standard error twice a minute.
  """

  def __init__(self, total, what, unit, shown=True):
    self._shown, self._what, self._unit = shown, what, unit
    self._total, self._done = total, 0
    self._start = self._said = time.monotonic()
    self._bar = tqdm(
        total=total, desc=what, unit=unit, file=sys.stderr, dynamic_ncols=True,
        disable=not shown or not total or not sys.stderr.isatty())

  def count(self, n=1):
    """So many more are done."""
    self._done += n
    self._bar.update(n)
    now = time.monotonic()
    if self._shown and self._bar.disable and now - self._said >= 30:
      self._said = now
      rate = self._done / (now - self._start)
      left = (self._total - self._done) / rate
      print(f'{self._what}: {self._done:,} of {self._total:,} {self._unit}s, '
            f'{rate:.3g} a second, about {_minutes(left)} left',
            file=sys.stderr, flush=True)

  def __exit__(self, *error):
    self._bar.close()


def _minutes(seconds):
  """90 -> '2 min', 30 -> '30 s', 7200 -> '2 h'."""
  for unit, name in ((3600, 'h'), (60, 'min')):
    if seconds >= 1.5 * unit:
      return f'{seconds / unit:.0f} {name}'
  return f'{seconds:.0f} s'
