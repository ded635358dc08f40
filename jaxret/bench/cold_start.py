"""What a new process takes to the first vector, and where it goes.

  python -m jaxret.bench.cold_start --model=DIR [--rounds=3] [--text='a dog']
      [--slowest=12]

Each round starts two processes that embed one text: one that finds no compiled
program, and one that finds those of the first. Seconds of the clock and of the
CPU (all threads) of: the process as a whole, imports, opening the model, the
first vector, the second one; medians over the rounds. On a machine that others
use, too, the seconds of the CPU say more. `programs`: how many were compiled or
read; `imports`: the modules that take longest by themselves, of one more
process. Progress goes to standard error, the last thing on standard output is
one JSON object.
"""
import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from jaxret.bench import machine

_CODE = """
import json, sys, time
marks = [(time.perf_counter(), time.process_time())]
def mark():
  marks.append((time.perf_counter(), time.process_time()))
import jax
found = []
jax.monitoring.register_event_listener(
    lambda name, **_: found.append(name.rpartition('/')[2]))
import jaxret
from jaxret import embedder
jaxret.load
mark()
model = jaxret.load(sys.argv[1])
mark()
for _ in range(2):
  model.encode(sys.argv[2], show_progress=False)
  mark()
print(json.dumps({'marks': marks, 'hits': found.count('cache_hits'),
                  'programs': found.count('compile_requests_use_cache')}))
"""
PARTS = 'imports', 'open', 'first_vector', 'second_vector'


def process(model, text, cache, *flags):
  """What one process takes, and what it says on standard error."""
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  start = time.perf_counter()
  done = subprocess.run(
      [sys.executable, *flags, '-c', _CODE, model, text], text=True,
      capture_output=True, env=os.environ | {
          'JAX_COMPILATION_CACHE_DIR': cache,
          'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'})
  seconds = time.perf_counter() - start
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  if done.returncode:
    raise ValueError(f'{model}: {done.stderr.strip().splitlines()[-1]}')
  said = json.loads(done.stdout.splitlines()[-1])
  taken = {'all': (seconds, sum(getattr(after, name) - getattr(before, name)
                                for name in ('ru_utime', 'ru_stime')))}
  for name, one, next_one in zip(PARTS, said['marks'], said['marks'][1:]):
    taken[name] = tuple(b - a for a, b in zip(one, next_one))
  return taken, said, done.stderr


def slowest(said, count):
  """{module: seconds by itself} of what -X importtime says."""
  found = {match[2]: int(match[1]) / 1e6 for match in re.finditer(
      r'import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)', said)}
  return {name: round(found[name], 3) for name in sorted(
      found, key=found.get, reverse=True)[:count]}


def measure(model, text, rounds, n_slowest):
  """The whole of it, for JSON."""
  taken, programs = {'cold': [], 'warm': []}, {}
  for number in range(rounds):
    with tempfile.TemporaryDirectory() as cache:
      for kind, of in taken.items():
        found, said, _ = process(model, text, cache)
        of.append(found)
        programs[kind] = {name: said[name] for name in ('programs', 'hits')}
        machine.log(f'round {number + 1}, {kind}: {found["all"][0]:.1f} s, '
                    f'{found["all"][1]:.1f} s of CPU')
      imports = slowest(
          process(model, text, cache, '-X', 'importtime')[2], n_slowest) if (
              number == rounds - 1) else {}
  result = {kind: {name: {
      what: round(statistics.median(one[name][place] for one in of), 3)
      for place, what in enumerate(('seconds', 'cpu_seconds'))}
                   for name in ('all', *PARTS)} | programs[kind]
            for kind, of in taken.items()}
  return {'model': model, 'rounds': rounds, **result, 'imports': imports}


def main(argv=None):
  parser = argparse.ArgumentParser('jaxret.bench.cold_start')
  parser.add_argument('--model', required=True, help='see jaxret.load')
  parser.add_argument('--text', default='a dog', help='that is embedded')
  for flag, default, meaning in (
      ('rounds', 3, 'of a cold and a warm process each'),
      ('slowest', 12, 'modules that are listed')):
    parser.add_argument(f'--{flag}', type=machine.positive, default=default,
                        help=f'{meaning} ({default})')
  options = parser.parse_args(argv)
  print(json.dumps(measure(options.model, options.text, options.rounds,
                           options.slowest)))


if __name__ == '__main__':
  main()
