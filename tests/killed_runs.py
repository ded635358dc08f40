"""Kills whole runs at random moments, and compares what they end with.

  python -m tests.killed_runs KILLS DIRECTORY [--systems blim unite ...]
      [--processes 2] [--seed 0] [--kills_a_run 4]

A run of each system goes undisturbed, corpus rendering included; others get
SIGKILL again and again, each time after a random part of what is left, and are
then left to end. Parameters, scores, embeddings, what was mined or described,
and results must be those of the undisturbed run, to the bit. `jaxret answer`
and `jaxret score`, which keep nothing, must print the same, and leave the work
directory that they read as it is. Prints a line of JSON for each run. With two
processes launch/local.sh starts them, one of them is killed, and JAX's cache of
compiled programs is warm.
"""
import argparse
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import jax

from jaxret import process_settings
from tests import finished_runs

ROOT = pathlib.Path(__file__).resolve().parents[1]
# They read the undisturbed run of `answers`.
VERBS = 'answer', 'score'
LONGEST_S = 1800


def preload():
  """What all runs import; nothing of it starts JAX or a thread."""
  import av  # noqa: F401
  import flax  # noqa: F401
  import grain  # noqa: F401
  import jinja2  # noqa: F401
  import optax  # noqa: F401
  import orbax.checkpoint  # noqa: F401
  import PIL.Image  # noqa: F401
  import tensorflow_datasets  # noqa: F401
  import tokenizers  # noqa: F401

  import jaxret.methods.answers.answering
  import jaxret.methods.blim.run
  import jaxret.methods.leccr.run
  import jaxret.methods.mm_embed.run
  import jaxret.methods.unite.run  # noqa: F401
  from jaxret import cli
  return lambda arguments: cli.main(
      arguments if arguments[0] in VERBS else ['run', *arguments])


def forked(main, arguments, log):
  """Starts `main` in a fork; returns its process id."""
  child = os.fork()
  if child:
    return child
  try:
    os.dup2(os.open(log.with_name('output'),
                    os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    code = main(arguments)
    sys.stdout.flush()
  except BaseException:
    import traceback
    traceback.print_exc()
    code = 99
  os._exit(code)


def seconds_of(process):
  """CPU time of a process, which load elsewhere does not change."""
  fields = pathlib.Path(f'/proc/{process}/stat').read_text().rpartition(')')[2]
  user, system = fields.split()[11:13]
  return (int(user) + int(system)) / os.sysconf('SC_CLK_TCK')


def ended(process, kill_after=None):
  """(exit code, CPU seconds); SIGKILL after so many of them."""
  start, spent = time.time(), 0.0
  while True:
    spent = max(spent, seconds_of(process))
    found, status = os.waitpid(process, os.WNOHANG)
    if found:
      return os.waitstatus_to_exitcode(status), spent
    if (kill_after is not None and spent >= kill_after
        or time.time() - start > LONGEST_S):
      os.kill(process, signal.SIGKILL)
      kill_after = None
    time.sleep(0.002)


class OneProcess:
  """Runs as forks of this process."""

  def __init__(self, directory):
    # Not by the environment, which JAX has read when it was imported.
    process_settings.keep_compiled(directory / 'compiled')
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
    self._main = preload()

  def __call__(self, arguments, log, kill_after=None):
    return ended(forked(self._main, arguments, log), kill_after)


class Launched:
  """Several processes by launch/local.sh; a random one of them is killed."""

  def __init__(self, directory, count, choice):
    self._count, self._choice = count, choice
    self._environment = {
        **os.environ, 'PYTHON': sys.executable,
        'JAX_COMPILATION_CACHE_DIR': str(directory / 'compiled'),
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}

  def __call__(self, arguments, log, kill_after=None):
    with open(log, 'ab') as file, subprocess.Popen(
        [ROOT / 'launch' / 'local.sh', str(self._count), *arguments],
        cwd=ROOT, env=self._environment, stdout=file, stderr=file) as launcher:
      start, spent = time.time(), 0.0
      while launcher.poll() is None:
        workers = _workers(launcher.pid)
        spent = max(spent, sum(map(_seconds_or_0, workers)))
        if (kill_after is not None and spent >= kill_after
            and len(workers) == self._count
            or time.time() - start > LONGEST_S):
          os.kill(self._choice(workers), signal.SIGKILL)
          kill_after = None
        time.sleep(0.02)
    return launcher.returncode, spent


def _workers(launcher):
  """The processes that a launcher has started, less its shells."""
  listed = pathlib.Path(
      f'/proc/{launcher}/task/{launcher}/children').read_text().split()
  return [int(process) for process in listed
          if b'jaxret.main' in _command(process)]


def _command(process):
  try:
    return pathlib.Path(f'/proc/{process}/cmdline').read_bytes()
  except OSError:
    return b''


def _seconds_or_0(process):
  try:
    return seconds_of(process)
  except OSError:
    return 0.0


def arguments_of(system, directory):
  """Of `jaxret run`, or with the verb; directory: that of the run."""
  if system in VERBS:
    return _asked(system, directory, directory.parent / 'answers')
  config, flags = finished_runs.command(system, directory / 'shapes')
  return [f'--config={config}', f'--workdir={directory / "run"}', *flags]


def _asked(verb, directory, answers):
  """Arguments of a verb: about the clips that `answers` was trained on."""
  videos = map(str, sorted((answers / 'shapes').rglob('*.mp4')))
  texts = ['red', 'green', 'blue']
  lines = [{'video': video, 'question': 'What colour is it?', 'choices': texts}
           if verb == 'answer' else
           {'prefix': {'video': video, 'text': 'It is'}, 'suffix': texts}
           for video in videos]
  path = directory / 'lines.jsonl'
  path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
  return [verb, f'--model={answers / "run"}', str(path)]


def numbers_of(system, directory):
  """What must be the same; see finished_runs.numbers."""
  if system not in VERBS:
    return finished_runs.numbers(directory / 'run')
  return {'output': (directory / 'output').read_bytes(),
          **finished_runs.numbers(directory.parent / 'answers' / 'run')}


def campaign(kills, directory, systems=finished_runs.SYSTEMS, processes=1,
             seed=0, kills_a_run=4):
  """Yields {'system', 'kills': [CPU seconds], 'code', 'other', 'undisturbed'}.

  other: names of what is not that of the undisturbed run, [] where all is.
  """
  directory = pathlib.Path(directory).absolute()
  directory.mkdir(parents=True, exist_ok=True)
  draw = random.Random(seed)
  start = (OneProcess(directory) if processes == 1
           else Launched(directory, processes, draw.choice))
  wholes, done = {}, 0
  for number, system in enumerate(itertools.cycle(systems)):
    if done >= kills:
      return
    for needed in ('answers', system) if system in VERBS else (system,):
      if needed not in wholes:
        wholes[needed] = _undisturbed(start, needed, directory / needed)
    seconds, wanted = wholes[system]
    place = directory / 'killed'
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    arguments, log = arguments_of(system, place), place / 'log'
    killed = []
    for _ in range(min(kills_a_run, kills - done)):
      code, spent = start(arguments, log, draw.uniform(0.02, 0.6) * seconds)
      if code == 0:
        break  # it was nearly done
      killed.append(round(spent, 1))
    code, _ = start(arguments, log)
    other = ([f'exit code {code}'] if code else finished_runs.differences(
        numbers_of(system, place), wanted))
    if other:
      shutil.copytree(place, directory / f'other-{number}')
    done += len(killed)
    yield {'system': system, 'kills': killed, 'code': code, 'other': other,
           'undisturbed': round(seconds, 1)}


def _undisturbed(start, system, place):
  """(CPU seconds, its numbers) of a run, whose programs are compiled before.

  Several CPU processes compile anew each time, see process_settings.
  """
  for _ in range(2 if isinstance(start, OneProcess) else 1):
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    code, seconds = start(arguments_of(system, place), place / 'log')
    assert code == 0, (place / 'log').read_text()[-3000:]
  return seconds, numbers_of(system, place)


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('kills', type=int)
  parser.add_argument('directory')
  parser.add_argument('--systems', nargs='+', default=finished_runs.SYSTEMS,
                      choices=(*finished_runs.SYSTEMS, *VERBS))
  parser.add_argument('--processes', type=int, default=1)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--kills_a_run', type=int, default=4)
  total, other = 0, 0
  for found in campaign(**vars(parser.parse_args())):
    total += len(found['kills'])
    other += bool(found['other'])
    print(json.dumps(found), flush=True)
  print(f'{total} kills; runs that ended otherwise: {other}')
  return int(other > 0)


if __name__ == '__main__':
  sys.exit(main())
