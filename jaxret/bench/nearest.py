"""The approximate index beside the exact search: time and recall of a query.

  python -m jaxret.bench.nearest [--rows=100000] [--width=256] [--queries=50]

Rows lie around 2,000 centres, as embeddings do. Both answer one query after the
other in one process; recall is the share of the exact ten best that the
approximate index gives. CPU seconds say more where others use the machine too.
The last thing on standard output is one JSON object.
"""
import argparse
import json
import pathlib
import tempfile
import time

import numpy as np

from jaxret.indexing import query, store
from jaxret.scoring.embeddings import similarity

CENTRES, K, BLOCK_ROWS = 2000, 10, 50_000


def drawn(n, width, seed):
  """float32 [n, width], unit vectors around the centres."""
  def normal(n, seed):
    return np.random.default_rng(seed).standard_normal((n, width), np.float32)
  nearest = np.random.default_rng(seed).integers(0, CENTRES, n)
  found = normal(CENTRES, 0)[nearest] + normal(n, seed + 1)
  return found / np.linalg.norm(found, axis=1, keepdims=True)


def timed(search, queries):
  """(what it finds of each, the median of wall and of CPU seconds)."""
  search(queries[0])
  found, spent = [], []
  for vector in queries:
    start = time.perf_counter(), time.process_time()
    found.append(set(search(vector)))
    spent.append((time.perf_counter() - start[0],
                  time.process_time() - start[1]))
  return found, *(round(float(x), 5) for x in np.median(spent, axis=0))


def measure(folder, n_rows, width, n_queries):
  """What is printed."""
  made = store.Description({'name': 'random', 'width': width, 'weights': ''},
                           None, '/', False, 10.0, 10.0, 'float32')
  store.describe(folder, made)
  table = store.Table(folder, made)
  vectors = drawn(n_rows, width, 1)
  for first in range(0, n_rows, BLOCK_ROWS):
    own = range(first, min(first + BLOCK_ROWS, n_rows))
    table.add([{'file': i, 'path': f'{i}.png', 'kind': 'image', 'size': 1,
                'mtime_ns': 1, 'sha256': ''} for i in own],
              vectors[own.start:own.stop])
  start = time.perf_counter(), time.process_time()
  table.build_ann(n_rows)
  built = time.perf_counter() - start[0], time.process_time() - start[1]
  placed, queries = similarity.Placed(vectors), drawn(n_queries, width, 3)
  right, exact_s, exact_cpu_s = timed(
      lambda vector: placed.search(vector[None], K)[1][0].tolist(), queries)
  found, ann_s, ann_cpu_s = timed(
      lambda vector: table.nearest(
          vector, K, None, query.ANN_PROBES,
          query.ANN_LOOKED_AT)['file'].to_pylist(), queries)
  return {'rows': n_rows, 'width': width, 'queries': n_queries,
          'build_s': round(built[0], 1), 'build_cpu_s': round(built[1], 1),
          'exact_s': exact_s, 'exact_cpu_s': exact_cpu_s, 'ann_s': ann_s,
          'ann_cpu_s': ann_cpu_s, 'recall_at_10': round(sum(
              len(a & b) for a, b in zip(right, found)) / K / n_queries, 4)}


def main(argv=None):
  parser = argparse.ArgumentParser('jaxret.bench.nearest')
  for name, default in (('rows', 100_000), ('width', 256), ('queries', 50)):
    parser.add_argument(f'--{name}', type=int, default=default)
  options = parser.parse_args(argv)
  with tempfile.TemporaryDirectory() as folder:
    print(json.dumps(measure(pathlib.Path(folder), options.rows, options.width,
                             options.queries)))


if __name__ == '__main__':
  main()
