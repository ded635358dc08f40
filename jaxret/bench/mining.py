"""How long mining takes beside the bare matmul of its size.

  python -m jaxret.bench.mining [--candidates=1000000] [--queries=10000]
      [--width=256] [--k=50] [--offset=45] [--rounds=1] [--check=20]

Random vectors, the candidates in a file that is read block by block. Mined
is as mine.py does it from embeddings on: the search, the sets C1 and C2 and a
draw. Both are run in alternation in one process; progress goes to standard
error, the last thing on standard output is one JSON object. Some queries,
spread over all, are sorted in full with NumPy and compared. `extra_rss_bytes`
is how much the peak of the memory grew while mining.
"""
import json
import pathlib
import resource
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from jaxret import host
from jaxret.bench import machine, search
from jaxret.scoring import mining, similarity

_ROWS_AT_ONCE = 1 << 16

_COUNTS = flags.FlagValues()
for _name, _default, _help in (
    ('candidates', 1_000_000, 'Rows of the pool.'),
    ('queries', 10_000, 'Rows to mine for.'),
    ('width', 256, 'Numbers per row.'),
    ('k', 50, 'Candidates that are looked at.'),
    ('offset', 45, "k': those of the right modality count after this rank."),
    ('rounds', 1, 'Timed runs of each, after one to warm up.'),
    ('check', 20, 'Queries compared with a full sort.')):
  flags.DEFINE_integer(_name, _default, _help, flag_values=_COUNTS)


def mine(queries, candidates, labels, k, offset):
  """(negatives, kinds, what the search found)."""
  modality, positive, positives = labels
  scores, ranked = similarity.search(queries, candidates, k)
  sets = mining.split(ranked, modality, positive, positives, offset)
  negative, kind = mining.draw(
      ranked, sets, positive, positives, modality, seed=0)
  return negative, kind, (scores, ranked)


def labels(n_queries, n_candidates):
  """(modality [C], positive [Q], positives of each query) at random."""
  rng = np.random.default_rng(2)
  positive = rng.integers(n_candidates, size=n_queries)
  return (rng.integers(3, size=n_candidates).astype(np.int8), positive,
          [np.array([p]) for p in positive])


def measure(directory, n_candidates, n_queries, width, k, offset, n_rounds,
            n_checked):
  """The numbers that are printed, as a dict."""
  queries = search.rows(n_queries, width, 0)
  pool = _Pool(pathlib.Path(directory) / 'pool', n_candidates, width)
  own = labels(n_queries, n_candidates)
  before = _peak()
  mined = mine(queries, pool, own, k, offset)  # warms up, too
  extra = _peak() - before  # later the matmul holds all candidates
  candidates = np.concatenate(list(pool))
  on_device = jnp.asarray(queries), jnp.asarray(candidates)
  search.matmul(*on_device)
  runs = {'mining': lambda: mine(queries, pool, own, k, offset),
          'matmul': lambda: search.matmul(*on_device)}
  timed = machine.in_turns(runs, n_rounds, warm_up=False)
  ours, bare = timed['mining'], timed['matmul']
  wrong, error = search.mismatches(queries, candidates, mined[2], n_checked)
  return {
      'device': jax.devices()[0].device_kind, 'devices': jax.device_count(),
      'candidates': n_candidates, 'queries': n_queries, 'width': width, 'k': k,
      'seconds': ours.seconds, 'baseline': 'jnp.matmul',
      'baseline_seconds': bare.seconds,
      'ratio': ours.seconds / bare.seconds,
      'cpu_ratio': ours.cpu_seconds / bare.cpu_seconds,
      'queries_per_s': n_queries / ours.seconds,
      'checked_queries': n_checked, 'wrong_queries': wrong,
      'max_abs_difference': error, 'kinds': dict(zip(
          mining.KINDS, np.bincount(mined[1], minlength=3).tolist())),
      'pool_bytes': candidates.nbytes, 'extra_rss_bytes': extra}


class _Pool:
  """Random unit vectors in a file; each iteration reads it in blocks."""

  def __init__(self, path, count, width):
    self._path, self._width = path, width
    with path.open('wb') as file:
      for start in range(0, count, _ROWS_AT_ONCE):
        size = min(_ROWS_AT_ONCE, count - start)
        search.rows(size, width, 1 + start).tofile(file)

  def __iter__(self):
    with self._path.open('rb') as file:
      while len(block := np.fromfile(
          file, np.float32, _ROWS_AT_ONCE * self._width)):
        yield block.reshape(-1, self._width)


def _peak():
  return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(argv):
  rest = _COUNTS(argv)
  if rest[1:]:
    raise app.UsageError(f'unexpected argument {rest[1]!r}')
  host.keep_freed_memory()  # as every run does
  with tempfile.TemporaryDirectory() as directory:
    print(json.dumps(measure(
        directory, _COUNTS.candidates, _COUNTS.queries, _COUNTS.width,
        _COUNTS.k, _COUNTS.offset, _COUNTS.rounds, _COUNTS.check)))


if __name__ == '__main__':
  main(sys.argv)
