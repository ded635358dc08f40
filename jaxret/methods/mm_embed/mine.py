"""Writes the hard negatives that a trained retriever finds for its queries.

For every source <directory>/<source>.jsonl with a line per training query:
  {"query": "9:3", "positive": "9:17", "negative": "2:5", "rank": 4, "kind":
   "wrong_modality"}
of several negatives lists of them and of kinds, and "scores" of a teacher, of
the positive and of each negative, if one was asked;
<source>.ranked.npy, the indices in the pool of the first k candidates of each,
and <source>.statistics.json, how many queries have which kind; a kind is one
of embeddings.mining.KINDS, the rank is the positive's (k + 1 = beyond the
top k).
"""
import json
import pathlib

import numpy as np
import tqdm
from absl import logging

from jaxret import files, own_files
from jaxret.data.sets import mixed
from jaxret.scoring import store as scores_lib
from jaxret.scoring.embeddings import mining, searches
from jaxret.scoring.embeddings import store as embeddings

_REMEDY = 'remove its directory, and mine again'
ASKED = 64  # queries whose scores of a teacher are kept at a time


def mine(name, training_set, seed, encoder, directory, options, mesh=None,
         teacher=None, block_items=1024, shared=None):
  """Mines one source; what is finished is not done again.

  training_set: a mixed.TrainingSet. seed: of what is drawn. encoder: a
  retrieval.Encoder; None as a prompt means a candidate. options: k, offset
  (k'), negatives of a query, the strategy that they are drawn by, and
  part_queries, that are searched for and stored at a time. mesh: of this
  process's devices. teacher: a methods.mm_embed.teacher.Teacher whose scores
  are written, or None. shared: where embeddings and searches are that other
  strategies need, too; None = the directory.
  Returns the statistics, or None on other processes than the first.
  Errors: ValueError where the directory holds what was mined otherwise.
  """
  directory = pathlib.Path(directory)
  mined_with = {**encoder.fingerprint, 'k': options.k, 'offset': options.offset,
            'seed': seed, 'queries': len(training_set.queries),
            'candidates': len(training_set.pool),
            'negatives': options.get('negatives', 1),
            'strategy': _strategy(options),
            'teacher': teacher and teacher.fingerprint}
  shared = pathlib.Path(shared or directory)
  done = directory / f'{name}.statistics.json'
  if done.is_file():
    _check_parts(directory, name)
    return _checked(done, json.loads(json.dumps(mined_with)))
  store = embeddings.Embeddings(shared / 'embeddings', encoder.fingerprint)
  positive = mixed.chosen_positives(training_set, seed)
  pool = store.rows(training_set.pool, None, encoder.encode, block_items)
  queries = _queries(store, training_set, encoder.encode, block_items)
  if pool is None:
    return None
  negative, kind, rank, top = _negatives(
      training_set, pool, queries.index, positive, shared, options, seed, mesh)
  files.save_atomically(directory / f'{name}.ranked.npy',
                        lambda file: np.save(file, top))
  chosen = np.concatenate([positive[:, None], negative], 1)
  usable = (pool.index[chosen] >= 0).all(1) & (queries.index >= 0)
  scores = teacher and _taught(
      training_set, chosen, usable, teacher, directory / f'{name}.teacher')
  _write(directory / f'{name}.jsonl', training_set, chosen, kind, rank, scores)
  found = {**mining.statistics(kind, rank, options.k), 'mined_with': mined_with,
           'crc32': {path.name: own_files.checksum(path.read_bytes())
                     for path in _parts(directory, name)}}
  files.write_atomically(done, json.dumps(found, indent=1))
  logging.info('mined %s: %s', name, {
      key: found[key] for key in ('queries', *mining.KINDS)})
  return found


def _strategy(options):
  # Configs of old work directories have no such field.
  return options.get('strategy', 'modality_aware')


def ranked(directory, name):
  """The first k candidates of each query that `mine` looked at, [Q, k].

  Indices in the pool; -1 = none.
  """
  file = pathlib.Path(directory) / f'{name}.ranked.npy'
  if not file.is_file():
    raise ValueError(f'no {file}: mine {name} first')
  _check_parts(directory, name)
  return own_files.read_array(file, np.int32, (None, None), _REMEDY)


def read(directories, name, training_set):
  """The mixed.Negatives of a source, from the first directory that has it."""
  files = [pathlib.Path(directory).expanduser() / f'{name}.jsonl'
           for directory in directories]
  for file in files:
    if file.is_file():
      _check_parts(file.parent, name)
      return mixed.read_negatives(file, training_set)
  raise ValueError(f'no {" and no ".join(map(str, files))}: run task=mine '
                   'first, or name another directory in `negatives`')


def _parts(directory, name):
  """The files of a source besides its statistics, which are written last."""
  return [pathlib.Path(directory) / f'{name}{ending}'
          for ending in ('.jsonl', '.ranked.npy')]


def _check_parts(directory, name):
  """Raises ValueError for a part that is not as its statistics say."""
  done = pathlib.Path(directory) / f'{name}.statistics.json'
  if not done.is_file():  # of another tool, or not yet finished
    return
  sums = own_files.read_object(done, _REMEDY).get('crc32', {})
  for path in _parts(directory, name):
    if path.name in sums and path.is_file() and (
        own_files.checksum(path.read_bytes()) != sums[path.name]):
      raise ValueError(f'{path} is damaged: it does not have the checksum in '
                       f'{done.name}; {_REMEDY}')


def tables(directory):
  """What was mined, for the report: [{'title', 'rows'}], or [].

  Also by other strategies than the run's own, in directories of their names.
  """
  found = {str(path.relative_to(directory)).partition('.')[0]:
           own_files.read_object(path, _REMEDY)
           for path in [*sorted(pathlib.Path(directory).glob(
               '*.statistics.json')), *sorted(pathlib.Path(directory).glob(
                   '*/*.statistics.json'))]}
  columns = ('queries', *mining.KINDS, 'positive_first', 'positive_beyond_top')
  return [{'title': 'mined negatives: how many queries have which kind, and '
                    'where their positives were',
           'rows': [('source', *(name.replace('_', ' ') for name in columns)),
                    *((name.replace('_', ' '), *(str(own[c]) for c in columns))
                      for name, own in found.items())]}] if found else []


def _queries(store, training_set, encode, block_items):
  """Rows of the queries; each with the instruction for its first positive."""
  index = mixed.places(training_set.pool)
  kinds = [mixed.modality(training_set.pool[index[query.positives[0]]])
           for query in training_set.queries]
  return store.rows_by_prompt(
      [query.item for query in training_set.queries],
      [query.instructions[kind][0]
       for query, kind in zip(training_set.queries, kinds)],
      encode, block_items)


def _negatives(training_set, pool, queries, positive, directory, options, seed,
               mesh):
  """(negative, kind, rank of the positive, top k), of all queries.

  Negatives and kinds are [Q, N].
  """
  index = mixed.places(training_set.pool)
  modality = mixed.codes(training_set.pool)
  labels = np.unique(training_set.labels, return_inverse=True)[1]
  labels[pool.index < 0] = -1  # what cannot be read is not drawn at random
  found = []
  for first in range(0, len(queries), options.part_queries):
    part = slice(first, first + options.part_queries)
    positives = [np.array([index[name] for name in (
        *query.positives, *query.excluded)])
                 for query in training_set.queries[part]]
    top = _top(pool, queries[part], directory, options.k, mesh)
    sets = mining.split(
        top, modality, positive[part], positives, options.offset,
        _strategy(options))
    found.append((*mining.draw_several(
        top, sets, positive[part], positives, labels, seed, first,
        options.get('negatives', 1), _strategy(options) != 'any_modality'),
                  sets.positive_rank, top))
  return [np.concatenate(parts) for parts in zip(*found)]


def _top(pool, queries, directory, k, mesh):
  """The first k candidates of each query; none where it has no embedding."""
  top = np.full((len(queries), k), -1, np.int32)
  embedded = np.flatnonzero(queries >= 0)
  top[embedded] = searches.search(
      directory / 'searches', pool, queries[embedded], k, mesh)[1]
  return top


def _taught(training_set, chosen, usable, teacher, directory):
  """The teacher's scores of the places `chosen` [Q, 1 + N] of the pool.

  0 of queries that are not usable, some item of which cannot be read: no pair
  of theirs is trained on. What is finished is not asked again.
  """
  scores = scores_lib.Store(directory, {
      **teacher.fingerprint, 'candidates': searches.digest(chosen)}
                            ).matrix('scores', chosen.shape)
  for first in tqdm.trange(0, len(chosen), ASKED, desc='asking the teacher',
                           unit='block'):
    rows = np.arange(first, min(first + ASKED, len(chosen)))
    if not np.isnan(scores[rows]).any():
      continue
    found, asked = np.zeros((len(rows), chosen.shape[1])), usable[rows]
    if asked.any():
      found[asked] = teacher.ask(
          [training_set.queries[q].item for q in rows[asked]],
          [[training_set.pool[place] for place in chosen[q]]
           for q in rows[asked]])
    scores[first:first + ASKED] = found
    scores.flush()
  return np.array(scores)


def _write(path, training_set, chosen, kind, rank, scores):
  """chosen: places of the positive and the negatives; scores: or None."""
  def alone(values):
    return values if len(values) > 1 else values[0]
  def save(file):
    for q, query in enumerate(training_set.queries):
      positive, *negatives = (training_set.pool[place].id
                              for place in chosen[q])
      file.write(json.dumps({
          'query': query.item.id, 'positive': positive,
          'negative': alone(negatives), 'rank': int(rank[q]),
          'kind': alone([mining.KINDS[one] for one in kind[q]]),
          **({} if scores is None else {'scores': scores[q].tolist()})
          }).encode() + b'\n')
  files.save_atomically(path, save)


def _checked(path, mined_with):
  """The statistics of an earlier run; ValueError where it was another."""
  found = own_files.read_object(path, _REMEDY)
  # Statistics of older runs have no such fields.
  old = {'negatives': 1, 'strategy': 'modality_aware', 'teacher': None,
         **found['mined_with']}
  for name in mined_with:
    if old.get(name) != mined_with[name]:
      raise ValueError(
          f'{path.parent} holds negatives mined otherwise: {name} was '
          f'{old.get(name)!r}, is {mined_with[name]!r}; remove it, or use '
          'another workdir')
  return found
