"""BEIR: text retrieval, one pool per data set, instructions on queries only.

A folder per data set as its authors publish it: corpus.jsonl with _id, title
and text, queries.jsonl with _id and text, qrels/<split>.tsv with a header. An
instructions.json beside the folders, {data set: instruction}, says what the
queries of each are told.
"""
import json

from jaxret.data import entries, types
from jaxret.data.entries import wrong_line
from jaxret.data.llava import prompts as mm_embed_prompts
from jaxret.data.sets import mixed

# The fifteen of MTEB's English retrieval average.
NAMES = (
    'arguana', 'climate-fever', 'cqadupstack', 'dbpedia-entity', 'fever',
    'fiqa', 'hotpotqa', 'msmarco', 'nfcorpus', 'nq', 'quora', 'scidocs',
    'scifact', 'webis-touche2020', 'trec-covid')
# Their mean is one number of the fifteen.
CQADUPSTACK = (
    'android', 'english', 'gaming', 'gis', 'mathematica', 'physics',
    'programmers', 'stats', 'tex', 'unix', 'webmasters', 'wordpress')
# Queries are documents themselves, and no answers to themselves; elsewhere an
# id that a query shares with a document says nothing.
IDENTICAL_IDS = ('arguana', 'quora')
DEPTH = 10  # of nDCG
WANTED = 'it holds one folder per data set, with corpus.jsonl, queries.jsonl ' \
    'and qrels/, and instructions.json'


def benchmark(config, root):
  """The data sets `config.eval.tasks` of a split, () = all fifteen."""
  return read(root, config.eval.split, config.eval.tasks)


def read(root, split='test', names=()):
  """The mixed.Benchmark of some data sets, by default all fifteen.

  The tasks of CQADupStack are 'cqadupstack/android', ...; MS MARCO's split
  'test' is 'dev'. Errors: ValueError that names file and line.
  """
  root = entries.root_of(root, 'BEIR', WANTED)
  pools, tasks = {}, []
  for name in names or NAMES:
    said = _instruction(root, name)
    parts = [f'{name}/{part}' for part in CQADUPSTACK
             ] if name == 'cqadupstack' else [name]
    for part in parts:
      of_split = 'dev' if (name, split) == ('msmarco', 'test') else split
      pools[part] = _corpus(root, part)
      tasks.append(_task(
          root, part, of_split, said, pools[part], name in IDENTICAL_IDS))
  return mixed.Benchmark('beir', pools, tuple(tasks), False, 'ndcg')


def training_set(root, name, split='train'):
  """The mixed.TrainingSet of one data set."""
  root = entries.root_of(root, 'text retrieval sets', WANTED)
  said, pool = _instruction(root, name), _corpus(root, name)
  task = _task(root, name, split, said, pool, False)
  return mixed.TrainingSet(
      tuple(mixed.Query(query, {'text': (said,)}, tuple(relevant))
            for query, relevant in zip(task.queries, task.relevant)),
      pool, (name,) * len(pool))


def _instruction(root, name):
  path = entries.present(root, 'instructions.json', WANTED)
  said = entries.read_json(path)
  if not isinstance(said, dict) or not isinstance(said.get(name), str):
    raise ValueError(f'{path} has no instruction for {name!r}: add '
                     f'"{name}": "what its queries ask for", or "" for none')
  return said[name]


def _corpus(root, name):
  found = {}
  for path, line, key, entry in _entries(root, name, 'corpus.jsonl'):
    text = f'{entry.get("title") or ""} {_text(path, line, entry)}'.strip()
    mm_embed_prompts.check_text(text, f'{path}, line {line}, {key}')
    if key in found:
      raise wrong_line(path, line, f'the _id {key} again', 'each once')
    found[key] = types.Item(key, text)
  return tuple(found.values())


def _task(root, name, split, said, pool, drops_itself):
  known = mixed.places(pool)
  relevant = _qrels(root, name, split, known)
  queries = []
  for path, line, key, entry in _entries(root, name, 'queries.jsonl'):
    if relevant.get(key):
      text = _text(path, line, entry)
      mm_embed_prompts.check_text(text, f'{path}, line {line}, {key}')
      queries.append(types.Item(key, text))
  missing = set(relevant) - {query.id for query in queries}
  if missing:
    raise ValueError(f'{root / name}: got relevance of the query '
                     f'{min(missing)}, wanted one that is in queries.jsonl')
  return mixed.Task(
      name, tuple(queries), (said,) * len(queries),
      tuple(relevant[query.id] for query in queries), name, 'text', DEPTH,
      excluded=tuple((query.id,) if query.id in known else ()
                     for query in queries) if drops_itself else None)


def _qrels(root, name, split, known):
  """{query: {document: grade}}; grades of 0 do not count."""
  path = entries.present(root, f'{name}/qrels/{split}.tsv', WANTED)
  found = {}
  rows = path.read_text(encoding='utf-8').splitlines()
  for line, row in enumerate(rows[1:], 2):
    columns = row.split('\t')
    if len(columns) != 3 or not columns[2].lstrip('-').isdigit():
      raise wrong_line(path, line, repr(row), 'query-id, corpus-id and score, '
                       'with tabs between')
    query, document, grade = columns
    if int(grade) > 0:
      if document not in known:
        raise wrong_line(path, line, f'the document {document}',
                         'one that is in corpus.jsonl')
      found.setdefault(query, {})[document] = int(grade)
  if not found:
    raise ValueError(f'{path}: no relevant document at all; want some')
  return found


def _entries(root, name, file):
  """Yields (path, line, _id, entry)."""
  path = entries.present(root, f'{name}/{file}', WANTED)
  for line, entry in entries.json_lines(path):
    if not isinstance(entry.get('_id'), str):
      raise wrong_line(path, line, json.dumps(entry)[:60],
                       "an object with '_id'")
    yield path, line, entry['_id'], entry


def _text(path, line, entry):
  if not isinstance(entry.get('text'), str):
    raise wrong_line(path, line, json.dumps(entry)[:60],
                     "an object with 'text'")
  return entry['text']
