"""How long mining takes beside the bare matmul of its size.

  python -m jaxret.bench.mining [--candidates=1000000] [--queries=10000]
      [--width=256] [--k=50] [--offset=45] [--rounds=1] [--check=20]

Random vectors, the candidates in a file that is read block by block. Mined
is as mine.py does it from embeddings on: the search, the sets C1 and C2 and a
draw. Both are run in alternation in one process, after parts of them that
compile all there is; progress goes to standard error, the last thing on
standard output is one JSON object. Some queries, spread over all, are sorted
in full with NumPy and compared. `extra_rss_bytes` is how much the peak of the
memory grew while mining.
"""
import json
import pathlib
import resource
import statistics
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jaxret import process_settings
from jaxret.bench import machine, search
from jaxret.scoring.embeddings import mining, similarity

_ROWS_AT_ONCE = 1 << 16

_COUNTS = (
    ('candidates', 1_000_000, 'rows of the pool'),
    ('queries', 10_000, 'rows to mine for'),
    ('width', 256, 'numbers per row'),
    ('k', 50, 'candidates that are looked at'),
    ('offset', 45, "k': those of the right modality count after this rank"),
    ('rounds', 1, 'timed runs of each'),
    ('check', 20, 'queries compared with a full sort'))


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
  _warm_up(queries, pool, k)
  mined, extra, candidates = None, 0, None
  taken = {'mining': [], 'matmul': []}
  for _ in range(n_rounds):
    with machine.timed(taken['mining']):
      mined = mine(queries, pool, own, k, offset)
    if candidates is None:  # later the matmul holds all of them
      extra = _peak() - before
      candidates = np.concatenate(list(pool))
      on_device = jnp.asarray(queries), jnp.asarray(candidates)
      whole = search.matmul_rows(n_candidates)
      search.matmul(on_device[0][:whole + n_queries % whole], on_device[1])
    with machine.timed(taken['matmul']):
      search.matmul(*on_device, show_progress=True)
  wrong, error = search.mismatches(queries, candidates, mined[2], n_checked)
  (seconds, cpu), (bare, bare_cpu) = (
      map(statistics.median, zip(*each)) for each in taken.values())
  return {
      'device': jax.devices()[0].device_kind, 'devices': jax.device_count(),
      'candidates': n_candidates, 'queries': n_queries, 'width': width, 'k': k,
      'seconds': seconds, 'baseline': 'jnp.matmul',
      'baseline_seconds': bare,
      'ratio': seconds / bare,
      'cpu_ratio': cpu / bare_cpu,
      'queries_per_s': n_queries / seconds,
      'checked_queries': n_checked, 'wrong_queries': wrong,
      'max_abs_difference': error, 'kinds': dict(zip(
          mining.KINDS, np.bincount(mined[1], minlength=3).tolist())),
      'pool_bytes': candidates.nbytes, 'extra_rss_bytes': extra}


def _warm_up(queries, pool, k):
  """Compiles what mining needs: a search for as many as share a matrix."""
  n_tiles = -(-len(queries) // similarity.QUERY_ROWS)
  similarity.search(queries[:-(-len(queries) // n_tiles)], pool, k)


class _Pool:
  """Random unit vectors in a file; each iteration reads it in blocks."""

  def __init__(self, path, count, width):
    self._path, self._width, self._count = path, width, count
    with path.open('wb') as file:
      for start in tqdm(range(0, count, _ROWS_AT_ONCE), 'writing the pool',
                        file=sys.stderr):
        size = min(_ROWS_AT_ONCE, count - start)
        search.rows(size, width, 1 + start).tofile(file)

  def __iter__(self):
    with self._path.open('rb') as file:
      for _ in tqdm(range(0, self._count, _ROWS_AT_ONCE), 'reading the pool',
                    file=sys.stderr):
        block = np.fromfile(file, np.float32, _ROWS_AT_ONCE * self._width)
        yield block.reshape(-1, self._width)


def _peak():
  return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(argv=None):
  o = machine.counts(argv, 'mining', _COUNTS)
  process_settings.keep_freed_memory()  # as every run does
  with tempfile.TemporaryDirectory() as directory:
    print(json.dumps(measure(
        directory, o.candidates, o.queries, o.width,
        o.k, o.offset, o.rounds, o.check)))


if __name__ == '__main__':
  main()
