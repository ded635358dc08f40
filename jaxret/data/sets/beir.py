"""BEIR: text retrieval, one pool per data set, instructions on queries only.

A folder per data set as its authors publish it: corpus.jsonl with _id, title
and text, queries.jsonl with _id and text, qrels/<split>.tsv. An
instructions.json beside the folders, {data set: instruction}, says what the
queries of each are told.

The published files do not all fit each other. They are read as BEIR's own
loader and trec_eval read them, so that numbers can be compared, and each thing
that is lost by that is listed (types.LeftOut):
  a document that qrels name and the corpus lacks counts as relevant and is
    never found, as in trec_eval (five of ArguAna's 1,406 queries);
  a query that qrels name and queries.jsonl lacks is not asked and is in no
    mean; one that has no relevant document counts with nothing found;
  of an id that is there twice the last text counts, and the last grade.
A text that holds <image>, the placeholder of a picture, is read as words.
"""
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
  pools, tasks, lost = {}, [], {}
  for name in names or NAMES:
    said = _instruction(root, name)
    parts = [f'{name}/{part}' for part in CQADUPSTACK
             ] if name == 'cqadupstack' else [name]
    for part in parts:
      of_split = 'dev' if (name, split) == ('msmarco', 'test') else split
      pools[part] = _corpus(root, part, lost)
      tasks.append(_task(
          root, part, of_split, said, pools[part], name in IDENTICAL_IDS, lost))
  return mixed.Benchmark('beir', pools, tuple(tasks), False, 'ndcg',
                         _listed(lost))


def training_set(root, name, split='train'):
  """The mixed.TrainingSet of one data set; its queries have an answer each."""
  root, lost = entries.root_of(root, 'text retrieval sets', WANTED), {}
  said, pool = _instruction(root, name), _corpus(root, name, lost)
  task, known = _task(root, name, split, said, pool, False, lost), (
      mixed.places(pool))
  answers = [tuple(document for document in relevant if document in known)
             for relevant in task.relevant]
  return mixed.TrainingSet(
      tuple(mixed.Query(query, {'text': (said,)}, own)
            for query, own in zip(task.queries, answers) if own),
      pool, (name,) * len(pool), _listed(lost))


def _listed(lost):
  return tuple(types.LeftOut(*one) for one in lost.items())


def _instruction(root, name):
  path = entries.present(root, 'instructions.json', WANTED)
  said = entries.read_json(path)
  if not isinstance(said, dict) or not isinstance(said.get(name), str):
    raise ValueError(f'{path} has no instruction for {name!r}: add '
                     f'"{name}": "what its queries ask for", or "" for none')
  return said[name]


def _corpus(root, name, lost):
  """The documents; lost: {id: reason}, which grows."""
  return _texts(root, name, 'corpus', lost, _document)


def _task(root, name, split, said, pool, drops_itself, lost):
  known, (path, judged) = mixed.places(pool), _qrels(root, name, split, lost)
  queries = _texts(root, name, 'queries', lost, _question, judged)
  there = {query.id for query in queries}
  for query, (line, _) in judged.items():
    if query not in there:
      lost.setdefault(f'{name}/queries/{query}', str(wrong_line(
          path, line, f'relevance of the query {query}',
          'one that is in queries.jsonl')))
  relevant, line_of = {}, {}
  for query in queries:
    graded = judged[query.id][1]
    relevant[query.id] = {document: grade for document, (_, grade)
                          in graded.items() if grade > 0}
    line_of |= {document: graded[document][0]
                for document in relevant[query.id] if document not in known}
  for document, line in line_of.items():
    lost.setdefault(f'{name}/corpus/{document}', str(wrong_line(
        path, line, f'the document {document}', 'one that is in corpus.jsonl')))
  if not any(document in known for own in relevant.values()
             for document in own):
    raise ValueError(next(reversed(lost.values()), None) or (
        f'{path}: no relevant document at all; want some'))
  return mixed.Task(
      name, tuple(queries), (said,) * len(queries), tuple(relevant.values()),
      name, 'text', DEPTH,
      excluded=tuple((query.id,) if query.id in known else ()
                     for query in queries) if drops_itself else None)


def _qrels(root, name, split, lost):
  """(path, {query: (its line, {document: (line, grade)})}).

  Three columns with tabs between, below a header or without one, or the four
  of trec_eval.
  """
  path, found = entries.present(root, f'{name}/qrels/{split}.tsv', WANTED), {}
  for line, row in entries.lines(path):
    columns = row.split('\t')
    if len(columns) == 1 and len(row.split()) == 4:
      columns = row.split()
    if len(columns) == 4:
      del columns[1]
    grade = entries.whole_number(columns[-1])
    if not row.strip() or line == 1 and grade is None:
      continue
    if len(columns) != 3 or grade is None:
      raise wrong_line(path, line, repr(row), 'query-id, corpus-id and score, '
                       'a whole number, with tabs between')
    query, document = columns[:2]
    graded = found.setdefault(query, (line, {}))[1]
    if graded.get(document, (0, grade))[1] != grade:
      lost[f'{name}/qrels/{query}/{document}'] = (
          f'{path}, line {line}: another grade of the document {document}; '
          f'that on line {graded[document][0]} does not count')
    graded[document] = line, grade
  if not any(grade > 0 for _, graded in found.values()
             for _, grade in graded.values()):
    raise ValueError(f'{path}: no relevant document at all; want some')
  return path, found


def _texts(root, name, kind, lost, text_of, wanted=None):
  """The Items of a file; wanted: of these ids alone, None = all."""
  file = f'{name}/{kind}.jsonl'  # packed, as the hub has it, or not
  packed = not (root / file).exists() and (root / f'{file}.gz').exists()
  path = entries.present(root, f'{file}.gz' if packed else file, WANTED)
  found, reason = {}, None
  for line, entry in entries.json_lines(path):
    key = entry.get('_id')
    if not isinstance(key, str | int):
      raise wrong_line(path, line, f'{str(entry)[:60]}',
                       "an object with '_id'")
    key = str(key)
    if types.is_broken(key):
      raise wrong_line(path, line, f'_id {key!r}', 'one of whole characters')
    if wanted is not None and key not in wanted:
      continue
    where = f'{path}, line {line}, {key}'
    try:
      item = types.Item(key, mm_embed_prompts.readable(
          text_of(entry), where, lost, f'{name}/{kind}/{key}'))
    except ValueError as error:
      reason = str(error) if str(error).startswith(where) else (
          f'{where}: {error}')
      lost[f'{name}/{kind}/{key}'] = reason
      continue
    if key in found:
      lost[f'{name}/{kind}/{key}'] = (
          f'{where}: the _id is there again; its text before does not count')
    found[key] = item
  if reason and not found:
    raise ValueError(reason)
  return tuple(found.values())


def _document(entry):
  """Title and text, either of which may be lacking."""
  if 'text' not in entry and 'title' not in entry:
    raise ValueError(f'got the fields {", ".join(entry)}, wanted title or text')
  return f'{_words(entry, "title")} {_words(entry, "text")}'.strip()


def _question(entry):
  text = _words(entry, 'text')
  if not text.strip():
    raise ValueError('got no text of the query')
  return text


def _words(entry, key):
  """The text of a field, '' where it has none."""
  value = entry.get(key)
  if value is None or value != value:  # NaN, as pandas writes it
    return ''
  if not isinstance(value, str):
    raise ValueError(f'got {key} {entries.kind(value)}, wanted a text')
  return value
