"""What a training run shows while it runs, and how it is told to stop."""
import contextlib
import json
import os
import pathlib
import signal
import sys
import threading
import time

import jax
from absl import logging
from jax.experimental import multihost_utils
from tqdm import tqdm

from jaxret import files

_UNITS = ('', 'k', 'M', 'G', 'T', 'P', 'E')


class Progress(contextlib.AbstractContextManager):
  """One line on standard error and one JSON line per log, by process 0 only.

  On a terminal the line is a tqdm bar; elsewhere each log is one line.
  """

  def __init__(self, workdir, start_step, total_steps):
    self._path = pathlib.Path(workdir) / 'metrics.jsonl'
    self._first = jax.process_index() == 0
    if self._first:
      keep_until(self._path, start_step)
    self._bar = tqdm(
        total=total_steps, initial=start_step, unit='step', file=sys.stderr,
        dynamic_ncols=True, disable=not self._first or not sys.stderr.isatty())
    self._total = total_steps
    self.start_clock()

  def start_clock(self):
    """Rates count from here; called once what was compiled has run."""
    self._since = time.perf_counter()
    self._counted = {}

  def count(self, **amounts):
    """Adds one step's examples, tokens, model_flops."""
    for name, amount in amounts.items():
      self._counted[name] = self._counted.get(name, 0) + amount
    self._bar.update()

  def log(self, step, metrics):
    """Writes the metrics with the rates since the last log."""
    seconds = time.perf_counter() - self._since
    rates = {f'{name}_per_s': amount / seconds
             for name, amount in self._counted.items()}
    self.start_clock()
    if not self._first:
      return
    with self._path.open('a') as file:
      file.write(json.dumps({'step': step, **metrics, **rates}) + '\n')
    shown = {'loss': f'{metrics["loss"]:.4f}'}
    shown |= {name.removeprefix('model_').replace('_per_s', '/s'): short(rate)
              for name, rate in rates.items()}
    if self._bar.disable:
      line = ' '.join(f'{name} {value}' for name, value in shown.items())
      logging.info('step %d/%d %s', step, self._total, line)
    else:
      self._bar.set_postfix(shown)

  def __exit__(self, *error):
    self._bar.close()


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


class Interruption(contextlib.AbstractContextManager):
  """Turns SIGTERM and Ctrl-C into a request that the loop can answer.

  A second Ctrl-C acts at once. With several processes a signal to any of them
  stops all at the same step, through JAX's preemption service, which listens
  to SIGTERM; Ctrl-C is passed on to it.
  """

  def __init__(self):
    self._requested = False
    self._old = {}

  def __enter__(self):
    if threading.current_thread() is threading.main_thread():
      if jax.process_count() == 1:
        self._listen(signal.SIGTERM, self._request)
        self._listen(signal.SIGINT, self._request)
      else:
        self._listen(signal.SIGINT, self._pass_on)
    return self

  def _listen(self, number, handler):
    self._old[number] = signal.signal(number, handler)

  def _request(self, number, frame):
    self._requested = True
    signal.signal(number, self._old[number])

  def _pass_on(self, number, frame):
    signal.signal(number, self._old[number])
    os.kill(os.getpid(), signal.SIGTERM)

  def requested(self, step):
    """Whether to stop after this step; the same answer on all processes."""
    if jax.process_count() == 1:
      return self._requested
    return multihost_utils.reached_preemption_sync_point(step)

  def __exit__(self, *error):
    for number, handler in self._old.items():
      signal.signal(number, handler)
