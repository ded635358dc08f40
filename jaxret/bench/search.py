"""How long an exact search takes beside the bare matmul of its size.

  python -m jaxret.bench.search [--candidates=1000000] [--queries=1000]
      [--width=256] [--k=10] [--block_rows=0] [--rounds=3] [--check=20]
      [--single=0]

Both are run in alternation in one process; progress goes to standard error,
the last thing on standard output is one JSON object. Some queries, spread over
all, are sorted in full with NumPy and compared. On a machine that others use
too, `cpu_ratio` (of the process's CPU time) says more than `ratio`.

--single=20 also searches for so many queries one by one, as a page of search
does, among candidates that stay on the devices; and, where faiss is installed,
with its flat index: seconds of a query, `single_ratio` to those of faiss.
"""
import json
import resource
import sys

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jaxret.bench import machine
from jaxret.scoring.embeddings import similarity

_MATMUL_CELLS = 1 << 28  # scores of one bare matmul; 1 GiB, which glibc keeps

_COUNTS = (
    ('candidates', 1_000_000, 'rows that are searched'),
    ('queries', 1_000, 'rows to search for'),
    ('width', 256, 'numbers per row'),
    ('k', 10, 'candidates to return'),
    ('block_rows', 0, 'candidates in memory at a time; 0 = as search chooses'),
    ('rounds', 3, 'timed runs of each, after one to warm up'),
    ('check', 20, 'queries compared with a full sort'),
    ('single', 0, 'queries searched for one by one'))


def rows(count, width, seed):
  """Random unit vectors, float32 [count, width]."""
  generator = np.random.default_rng(seed)
  drawn = generator.standard_normal((count, width), np.float32)
  return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def matmul(queries, candidates, show_progress=False):
  """The bare product, in groups of queries whose scores fit in memory."""
  size = matmul_rows(len(candidates))
  for start in tqdm(range(0, len(queries), size), 'matmul', file=sys.stderr,
                    disable=not show_progress):
    jax.block_until_ready(_product(queries[start:start + size], candidates))


def matmul_rows(n_candidates):
  """How many queries a group of `matmul` has, its last one aside."""
  return max(1, _MATMUL_CELLS // n_candidates)


@jax.jit
def _product(a, b):
  return jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)


def mismatches(queries, candidates, found, count):
  """How many of `count` queries differ from a full sort -> (rows, error).

  A row differs where an index does, unless its score ties within rounding.
  error: largest difference of a score.
  """
  scores, indices = found
  n_wrong, error = 0, 0.0
  for q in np.linspace(0, len(queries) - 1, count).astype(int):
    exact = candidates @ queries[q]
    order = np.argsort(-exact, kind='stable')[:indices.shape[1]]
    error = max(error, float(np.abs(exact[order] - scores[q]).max()))
    differs = order != indices[q]
    n_wrong += bool(np.any(np.abs(exact[order] - exact[indices[q]])[differs]
                           > 1e-6))
  return n_wrong, error


def single(queries, candidates, k, n_rounds):
  """Numbers of searches one by one, each query's own; {} without queries."""
  if not len(queries):
    return {}
  placed = similarity.Placed(candidates)
  runs = {'ours': lambda: [placed.search(q[None], k) for q in queries]}
  flat = _faiss_index(candidates)
  if flat is not None:
    runs['faiss'] = lambda: [flat.search(q[None], k) for q in queries]
  timed, n = machine.in_turns(runs, n_rounds), len(queries)
  found = {'single_queries': n, 'single_seconds': timed['ours'].seconds / n,
           'single_cpu_seconds': timed['ours'].cpu_seconds / n}
  if flat is None:
    return found
  theirs = timed['faiss']
  return found | {
      'single_baseline': 'faiss.IndexFlatIP',
      'single_baseline_seconds': theirs.seconds / n,
      'single_ratio': timed['ours'].seconds / theirs.seconds,
      'single_cpu_ratio': timed['ours'].cpu_seconds / theirs.cpu_seconds,
      'single_differ': sum(int((ours[1] != other[1]).any()) for ours, other in
                           zip(timed['ours'].result, theirs.result))}


def _faiss_index(candidates):
  """faiss' exact index of inner products; None where it is not installed."""
  try:
    import faiss
  except ImportError:
    machine.log('faiss is not installed: no baseline of single queries')
    return None
  index = faiss.IndexFlatIP(candidates.shape[1])
  index.add(candidates)
  return index


def measure(n_candidates, n_queries, width, k, block_rows, n_rounds, n_checked,
            n_single=0):
  """The numbers that are printed, as a dict."""
  queries, candidates = rows(n_queries, width, 0), rows(n_candidates, width, 1)
  on_device = jnp.asarray(queries), jnp.asarray(candidates)
  timed = {
      'search': lambda: similarity.search(
          queries, candidates, k, block_rows=block_rows or None),
      'matmul': lambda: matmul(*on_device)}
  timed = machine.in_turns(timed, n_rounds)
  ours, bare = timed['search'], timed['matmul']
  n_wrong, error = mismatches(queries, candidates, ours.result, n_checked)
  return {
      'device': jax.devices()[0].device_kind, 'devices': jax.device_count(),
      'candidates': n_candidates, 'queries': n_queries, 'width': width, 'k': k,
      'seconds': ours.seconds, 'all_seconds': ours.all_seconds,
      'baseline': 'jnp.matmul', 'baseline_seconds': bare.seconds,
      'all_baseline_seconds': bare.all_seconds,
      'ratio': ours.seconds / bare.seconds,
      'cpu_seconds': ours.cpu_seconds,
      'baseline_cpu_seconds': bare.cpu_seconds,
      'cpu_ratio': ours.cpu_seconds / bare.cpu_seconds,
      'queries_per_s': n_queries / ours.seconds,
      'checked_queries': n_checked, 'wrong_queries': n_wrong,
      'max_abs_difference': error,
      'peak_rss_bytes': 1024 * resource.getrusage(
          resource.RUSAGE_SELF).ru_maxrss,
      **single(queries[:n_single], candidates, k, n_rounds)}


def main(argv=None):
  o = machine.counts(argv, 'search', _COUNTS)
  print(json.dumps(measure(
      o.candidates, o.queries, o.width, o.k,
      o.block_rows, o.rounds, o.check, o.single)))


if __name__ == '__main__':
  main()
