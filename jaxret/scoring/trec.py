"""Rankings and relevance as TREC files, which other tools evaluate."""
import pathlib
import urllib.parse

import numpy as np


def write_run(path, scores, query_ids, candidate_ids, depth, tag):
  """Writes each query's best `depth` candidates: `query Q0 id rank score tag`.

  Ids are percent-encoded where they hold white space, which separates fields,
  or what is not ASCII; urllib.parse.unquote gives them back. An empty id, which
  would be no field, is written as %.

  Args:
    scores: [Q, C], an array or a by_rows.Matrix; a candidate whose score is
      not finite is left out.
  """
  queries, candidates = _encoded(query_ids), _encoded(candidate_ids)
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open('w') as file:
    for query, row in zip(queries, scores):
      file.writelines(
          f'{query} Q0 {candidates[c]} {rank} {float(row[c])!r} {tag}\n'
          for rank, c in enumerate(_best(row, depth), 1))


def write_hits(path, hits, tag):
  """The same of (query id, candidate id, rank, score), in their order."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open('w') as file:
    for query, candidate, rank, score in hits:
      query, candidate = _encoded((query, candidate))
      file.write(f'{query} Q0 {candidate} {rank} {float(score)!r} {tag}\n')


def read_run(path):
  """{query id: {candidate id: score}} of a run, ids as they were given.

  Raises ValueError, naming the line, for what is no run.
  """
  found = {}
  with pathlib.Path(path).open() as file:
    for number, line in enumerate(file, 1):
      try:
        query, _, candidate, _, score, _ = line.split()
        found.setdefault(_decoded(query), {})[
            _decoded(candidate)] = float(score)
      except ValueError as error:
        raise ValueError(f'{path}, line {number}: want `query Q0 candidate '
                         f'rank score tag` ({error})') from error
  return found


def _decoded(name):
  return '' if name == '%' else urllib.parse.unquote(
      name, errors='surrogatepass')


def _best(row, depth):
  """The first `depth` of a stable sort, best first; what is sorted is few."""
  found = np.flatnonzero(np.isfinite(row))
  if 0 < depth < len(found):
    last = np.partition(row[found], -depth)[-depth]
    found = found[row[found] >= last]
  return found[np.argsort(-row[found], kind='stable')][:depth]


def write_relevance(path, relevant, query_ids, candidate_ids):
  """Writes qrels: `query 0 id 1` for every relevant candidate.

  relevant: of each query, an int array of candidates.
  """
  queries, candidates = _encoded(query_ids), _encoded(candidate_ids)
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(''.join(
      f'{query} 0 {candidates[c]} 1\n'
      for query, answers in zip(queries, relevant) for c in answers))


def _encoded(ids):
  return [urllib.parse.quote(
      str(name), safe='/:;,.+-_~()[]{}#@!$&*=|\'"<>?', errors='surrogatepass')
          or '%' for name in ids]
