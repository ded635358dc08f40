"""How long an evaluation takes once all pairs have been scored, and its memory.

  python -m jaxret.bench.evaluation [--items=5000] [--texts=0] [--strength=800]
      [--depth=0] [--temperatures=0] [--check=20] [--directory=DIR]

Two matrices of random scores, float32 [items, texts] and back (--texts=0: as
many), are written to a new directory inside DIR, which is removed at the end,
and mapped as a run maps those that it has scored. The score of an answer is
`strength` hundredths of a standard deviation higher. Then the parts of BLiM's
evaluation are timed, both directions each: the choice of weights, the ranks
and summaries of all rows, hubness, the curve over alpha, the paired
differences, TREC files of some depth, and the rows that see all queries at
once under so many temperatures. Of some queries the rank is counted again in
plain NumPy.

`extra_anonymous_bytes` is how much memory that no file stands behind a part
took at its peak: mapped matrices may be dropped from memory, it may not (Linux
alone tells; elsewhere it is null). The last thing on standard output is one
JSON object.
"""
import argparse
import contextlib
import functools
import json
import os
import pathlib
import tempfile
import threading
import time

import numpy as np

from jaxret import comparisons, metrics, process_settings
from jaxret.bench import machine
from jaxret.data import types
from jaxret.methods import blim
from jaxret.methods.blim import evaluator, tables
from jaxret.scoring import all_queries, trec
from jaxret.scoring.likelihood import cpn

_ROWS_AT_ONCE = 256
_N_LENGTHS = 8  # of texts, on which the prior of a video depends
_INTERVAL_S = 0.05


def measure(directory, n_videos, n_texts, strength, depth, n_temperatures,
            n_checked):
  """The numbers that are printed, as a dict."""
  directory = pathlib.Path(directory)
  split = _split(n_videos, n_texts)
  found = evaluator.directions(_likelihoods(directory, split, strength))
  parts, results = {}, {}
  def timed(part, run):
    machine.log(f'{part} ...')
    with _peak() as peak:
      start, cpu_start = time.perf_counter(), time.process_time()
      results[part] = run()
      parts[part] = {'seconds': time.perf_counter() - start,
                     'cpu_seconds': time.process_time() - cpu_start}
    parts[part]['extra_anonymous_bytes'] = peak.get('bytes')
    return results[part]
  answers = evaluator.relevant(split)
  chosen = timed('choose', lambda: evaluator.choose_weights(found, split))
  table = timed('rows', lambda: tables.tabulate(found, split, chosen))
  timed('hubness', lambda: tables.hubness(found, table.matrices))
  timed('sweep', lambda: [cpn.sweep(found[name], answers[name])
                          for name in found])
  timed('differences', lambda: [comparisons.compare(ranks, blim.PAIRS)
                                for ranks in table.ranks.values()])
  if depth:
    timed('runs', functools.partial(
        _write_runs, directory, split, table.matrices, depth))
  if n_temperatures:
    timed('all_queries', functools.partial(
        _all_queries, table.matrices, answers, n_temperatures))
  return {
      'videos': n_videos, 'texts': n_texts, 'cores': os.cpu_count(),
      'matrix_bytes': 4 * n_videos * n_texts, 'rows': sum(
          map(len, table.ranks.values())), 'parts': parts,
      'seconds': sum(part['seconds'] for part in parts.values()),
      'extra_anonymous_bytes': max(
          (part['extra_anonymous_bytes'] for part in parts.values()
           if part['extra_anonymous_bytes'] is not None), default=None),
      'weights': {name: rows['blim'][:2] for name, rows in chosen.items()},
      'recall_at_1': {name: rows['blim']['recall_at_1']
                      for name, rows in table.summaries.items()},
      'checked_queries': n_checked, 'wrong_queries': _wrong(
          found, chosen, answers, table.ranks, n_checked)}


def _split(n_videos, n_texts):
  """Each text describes a video, each video has a text, as far as they go."""
  return types.Split(
      'random', 'test', tuple(types.Item(f'v{i}') for i in range(n_videos)),
      tuple(types.Item(f't{i}', text='a') for i in range(n_texts)),
      (np.arange(n_texts) % n_videos).astype(np.int32))


def _likelihoods(directory, split, strength):
  rng = np.random.default_rng(0)
  n_videos, n_texts = len(split.videos), len(split.texts)
  answers = evaluator.relevant(split)
  by_length = rng.standard_normal((_N_LENGTHS, n_videos), np.float32)
  length = rng.integers(_N_LENGTHS, size=n_texts)
  return evaluator.Likelihoods(
      _matrix(directory / 'text_given_video.npy', rng, n_texts,
              answers['video_to_text'], strength),
      rng.standard_normal(n_texts, np.float32),
      _matrix(directory / 'video_given_text.npy', rng, n_videos,
              answers['text_to_video'], strength),
      evaluator.prior_of_length(by_length, length))


def _matrix(path, rng, n_candidates, relevant, strength):
  """A memory map of random scores, [Q, C]."""
  made = np.lib.format.open_memmap(
      path, 'w+', np.float32, (len(relevant), n_candidates))
  for start in range(0, len(relevant), _ROWS_AT_ONCE):
    own = relevant[start:start + _ROWS_AT_ONCE]
    block = rng.standard_normal((len(own), n_candidates), np.float32) - 30
    for row, columns in zip(block, own):
      row[columns] += np.float32(strength)
    made[start:start + len(own)] = block
  made.flush()
  return np.load(path, mmap_mode='r')


def _write_runs(directory, split, matrices, depth):
  for direction, rows in matrices.items():
    task = getattr(split, direction)()
    ids = [[item.id for item in side]
           for side in (task.queries, task.candidates)]
    for row, scores in rows.items():
      trec.write_run(directory / f'{direction}.{row}.trec', scores, *ids, depth,
                     'random')


def _all_queries(matrices, answers, n_temperatures):
  """Ranks of every row and method under some temperatures."""
  for direction, rows in matrices.items():
    for row in tables.NORMALIZED_ROWS:
      for method in all_queries.METHODS:
        for temperature in all_queries.TEMPERATURES[:n_temperatures]:
          metrics.ranks(all_queries.normalized(method, rows[row], temperature),
                        answers[direction])


def _wrong(found, chosen, answers, ranks, n_checked):
  """Queries, spread over all, whose rank of BLiM's row is another one."""
  wrong = 0
  for name, direction in found.items():
    n_queries = len(answers[name])
    for q in np.unique(np.linspace(0, n_queries - 1, n_checked).astype(int)):
      scores = cpn.bidirectional(
          cpn.of_queries(direction, [q]), chosen[name]['blim'])[0]
      others = np.delete(scores, answers[name][q])
      rank = 1 + sum(others >= scores[answers[name][q]].max())
      wrong += int(ranks[name]['blim'][q] != rank)
  return wrong


@contextlib.contextmanager
def _peak():
  """Yields a dict that gets 'bytes', how much more there was at the peak."""
  found, before, stop = {}, _anonymous(), threading.Event()
  if before is None:
    yield found
    return
  found['bytes'] = 0
  def watch():
    while not stop.wait(_INTERVAL_S):
      found['bytes'] = max(found['bytes'], _anonymous() - before)
  watcher = threading.Thread(target=watch, daemon=True)
  watcher.start()
  try:
    yield found
  finally:
    stop.set()
    watcher.join()


def _anonymous():
  """Bytes in memory that no file stands behind; None where none can tell.

  Counted page by page: the sums that the kernel keeps (RssAnon) may miss tens
  of MiB on a machine with many cores, as each core has a share not yet added.
  """
  try:
    lines = pathlib.Path('/proc/self/smaps_rollup').read_text().splitlines()
  except OSError:
    return None
  sizes = [line.split()[1] for line in lines if line.startswith('Anonymous:')]
  return 1024 * int(sizes[0]) if sizes else None


def main(argv=None):
  parser = argparse.ArgumentParser('jaxret.bench.evaluation')
  for flag, default, meaning in (
      ('items', 5000, 'videos'), ('texts', 0, '0 = as many'),
      ('strength', 800, 'of the answers, in hundredths'),
      ('depth', 0, 'of TREC files, 0 = none'),
      ('temperatures', 0, 'of rows that see all queries, at most 7'),
      ('check', 20, 'queries whose rank is counted again')):
    parser.add_argument(
        f'--{flag}', type=machine.positive if default else int, default=default,
        help=f'{meaning} ({default})')
  parser.add_argument('--directory', help='for the matrices, a new one inside '
                      '(where temporary files go)')
  o = parser.parse_args(argv)
  process_settings.keep_freed_memory()  # as a run does
  with tempfile.TemporaryDirectory(dir=o.directory) as directory:
    print(json.dumps(measure(
        directory, o.items, o.texts or o.items, o.strength / 100, o.depth,
        o.temperatures, o.check)))


if __name__ == '__main__':
  main()
