"""Retrieval sets as mteb keeps them on the hub: corpus, queries and qrels.

Three tables, each of its own subset: `corpus` and `queries` with id, text,
perhaps title, image, video and modality; `qrels` (or `default`) with query-id,
corpus-id and score, a grade. A language or the like stands in front of their
names, as `en-corpus`: data.subsets says which, as ('en',). Perhaps
`instruction`, what each query is told, and `top_ranked`, the candidates that
each is compared with in place of all (query-id, corpus-ids).

They are read as mteb's own loader reads them (mteb/abstasks, RetrievalDataset-
Loader): of a split that is not there the only one is taken; a title stands in
front of its text; a query that the qrels lack is not asked. An answer that the
corpus lacks is never found, and counts in nDCG; a query without another one is
asked by MM-Embed alone, and listed.
"""
from typing import NamedTuple

import numpy as np

from jaxret.data import entries, types
from jaxret.data.sets import mixed
from jaxret.data.tabular import found, parts, rows, tables

DEPTH = 10  # of nDCG
WANTED = (
    'wanted the tables corpus, queries and qrels of a set of mteb, as '
    'hf://mteb/NAME, a snapshot of it, or a folder with a subfolder for each')
IDS = 'id', '_id'
MEDIA = 'image', 'video'


class Layout(NamedTuple):
  """What the tables say. graded: {query: {document: grade}}, 0 as well.

  instructions: {query: what it is told}, of those that are told anything.
  lists: {query: the documents it is compared with}, None = all.
  """
  name: str
  corpus: tuple[types.Item, ...]
  queries: tuple[types.Item, ...]
  graded: dict[str, dict[str, int]]
  instructions: dict[str, str]
  left_out: tuple[types.LeftOut, ...]
  files: tuple[str, ...]
  lists: dict[str, tuple[str, ...]] | None = None


def tasks_of_split(section, split):
  """One task, whose relevant candidates have grades.

  Errors: ValueError where queries are told different things.
  """
  read_ = read(section.root, tuple(getattr(section, 'subsets', ())), split)
  told = {read_.instructions.get(query.id, '') for query in read_.queries}
  if len(told) > 1:
    raise ValueError(f'{section.root}: its queries are told {len(told)} '
                     'different things, wanted one: evaluate it by a method '
                     'that takes an instruction for each query (mm_embed)')
  place = {item.id: i for i, item in enumerate(read_.corpus)}
  lost, queries, relevant, grades = list(read_.left_out), [], [], []
  lists = None if read_.lists is None else []
  for query in read_.queries:
    own = {one: grade for one, grade in read_.graded[query.id].items()
           if grade > 0}
    among = place if lists is None else read_.lists.get(query.id, ())
    there = [one for one in own if one in place and one in among]
    if there:
      queries.append(query)
      if lists is not None:
        lists.append(np.array([place[one] for one in among], np.int32))
      relevant.append(np.array([place[one] for one in there], np.int32))
      grades.append(np.array([own[one] for one in dict.fromkeys(
          (*there, *own))], np.int32))
    else:
      lost.append(types.LeftOut(f'queries/{query.id}', 'no relevant document '
                                'of it is in the '
                                + ('corpus' if lists is None else 'list of '
                                   'what it is compared with')))
  if not queries:
    raise ValueError(f'{section.root}: no query has a relevant document in the '
                     'corpus')
  return [types.Task(
      read_.name, tuple(queries), read_.corpus, tuple(relevant),
      lists and tuple(lists), query_prompt=next(iter(told)) or None,
      grades=tuple(grades), left_out=tuple(lost), files=read_.files)]


def benchmark(config, root):
  """The same as one pool, searched with an instruction for each query."""
  section = config.data
  read_ = read(root, tuple(getattr(section, 'subsets', ())), config.eval.split)
  if read_.lists is not None:
    raise ValueError(f'{root} has top_ranked, lists that are ranked anew; '
                     f'{config.method} searches a pool: evaluate it with '
                     'configs/embedders.py or configs/unite.py')
  seen = [item.id for item in (*read_.corpus, *read_.queries)
          if item.video is not None]
  if seen:
    raise ValueError(f'{root}: {seen[0]} is a video; {config.method} sees '
                     'texts and images')
  task = mixed.Task(
      read_.name, read_.queries,
      tuple(read_.instructions.get(query.id, '') for query in read_.queries),
      tuple({one: grade for one, grade in read_.graded[query.id].items()
             if grade > 0} for query in read_.queries),
      read_.name, mixed.modality(read_.corpus[0]), DEPTH)
  return mixed.Benchmark('mteb', {read_.name: read_.corpus}, (task,), False,
                         'ndcg', read_.left_out)


def read(root, subsets=(), split='test'):
  """The Layout of a split.

  subsets: what stands in front of the tables' names, one at most.
  Errors: ValueError that names table, row and column.
  """
  path = entries.root_of(root, 'mteb', WANTED)
  if len(subsets) > 1:
    raise ValueError(f'data.subsets is {subsets}; mteb has one pool for each: '
                     'give one')
  prefix = f'{subsets[0]}-' if subsets else ''
  there = parts.parts(path)
  names = {part.subset for part in there}
  def files(*wanted):
    return _files(root, there, [prefix + name for name in wanted], split)
  names_, lost = found.Names(path), {}
  of = {'corpus': files('corpus'), 'queries': files('queries', 'query'),
        'qrels': files('qrels', 'default')}
  corpus = _items(of['corpus'], names_, 'corpus', lost)
  graded = _graded(of['qrels'])
  queries = _items(of['queries'], names_, 'queries', lost, graded)
  if not corpus or not queries:
    raise ValueError(next(iter(lost.values()), None) or (
        f'{root}: no query of the qrels is in queries'))
  said = _told(files('instruction') if f'{prefix}instruction' in names
               else of['queries'])
  known, lists = {item.id for item in corpus}, None
  if f'{prefix}top_ranked' in names:
    of['top_ranked'] = files('top_ranked')
    lists = _lists(of['top_ranked'], known, lost)
  for query in queries:
    for document, grade in graded[query.id].items():
      if grade > 0 and document not in known:
        lost.setdefault(f'corpus/{document}', f'{of["qrels"][0]}: the document '
                        f'{document} of the query {query.id} is not in the '
                        'corpus')
  return Layout(
      path.resolve().name if not subsets else subsets[0], corpus, queries,
      graded, said, tuple(types.LeftOut(*one) for one in lost.items()),
      tuple(str(file) for own in of.values() for file in own), lists)


def _files(root, there, names, split):
  """The files of the first subset that is there: of the split, or its only."""
  for name in names:
    own = [part for part in there if part.subset == name]
    exact = [part for part in own if part.split == split] or [
        part for part in own if parts.split_of(part.split) == split]
    if exact or len(own) == 1:
      return (exact or own)[0].files
    if own:
      raise ValueError(f'{root}: {name} has the splits '
                       f'{", ".join(part.split for part in own)}, wanted '
                       f'{split}')
  raise ValueError(f'{root} has no {names[0]}, but '
                   f'{", ".join(sorted({one.subset for one in there}))}; '
                   f'{WANTED}, and data.subsets where a word stands in front')


def _items(files, names, kind, lost, wanted=None):
  """The Items of tables; wanted: of these ids alone, None = all."""
  made = {}
  for table in map(tables.opened, files):
    column = next((name for name in IDS if name in table.names), None)
    if column is None:
      raise ValueError(f'{table.path} has the columns '
                       f'{", ".join(table.names)}; wanted id')
    values = {name: (table.media if table.kinds[name] == 'medium'
                     else table.values)(name)
              for name in ('title', 'text', 'modality', *MEDIA)
              if name in table.names}
    for i, key in enumerate(table.values(column)):
      if wanted is not None and str(key) not in wanted:
        continue
      try:
        if str(key) in made:
          raise ValueError(f'{table.where(i, column)}: got the id {key} again, '
                           'wanted each once')
        made[str(key)] = _item(table, i, str(key), {
            name: own[i] for name, own in values.items()}, names)
      except ValueError as error:
        lost[f'{kind}/{key}'] = str(error)
  return tuple(made.values())


def _item(table, i, key, row, names):
  modality = row.get('modality') or 'text,image,video'
  text = ' '.join(one.strip() for one in (row.get('title'), row.get('text'))
                  if isinstance(one, str) and one.strip())
  media = {name: rows.place(table, i, name, row[name], names)[0]
           for name in MEDIA if name in modality and row.get(name)}
  text = text if 'text' in modality and text else None
  if text is None and not media:
    raise ValueError(f'{table.path}, row {i}: got neither a text nor a medium, '
                     'wanted one at least')
  return types.Item(key, text, **media)


def _graded(files):
  """{query: {document: grade}}."""
  made = {}
  for table in map(tables.opened, files):
    wanted = 'query-id', 'corpus-id', 'score'
    if missing := [name for name in wanted if name not in table.names]:
      raise ValueError(f'{table.path} has the columns '
                       f'{", ".join(table.names)}; wanted {missing[0]}')
    for i, (query, document, score) in enumerate(zip(
        *map(table.values, wanted))):
      grade = None if score is None else entries.whole_number(score)
      if grade is None:
        raise ValueError(f'{table.where(i, "score")}: got {score!r:.40}, '
                         'wanted a whole number')
      made.setdefault(str(query), {})[str(document)] = grade
  return made


def _lists(files, known, lost):
  """{query: documents} of top_ranked, those alone that the corpus has."""
  made = {}
  for table in map(tables.opened, files):
    wanted = 'query-id', 'corpus-ids'
    if missing := [name for name in wanted if name not in table.names]:
      raise ValueError(f'{table.path} has the columns '
                       f'{", ".join(table.names)}; wanted {missing[0]}')
    for i, (query, own) in enumerate(zip(*map(table.values, wanted))):
      if not isinstance(own, list) or len(set(map(str, own))) < len(own):
        raise ValueError(f'{table.where(i, "corpus-ids")}: got {own!r:.60}, '
                         'wanted a list of documents, each once')
      own = list(map(str, own))
      for document in own:
        if document not in known:
          lost.setdefault(f'corpus/{document}', f'{table.where(i, wanted[1])}: '
                          f'the document {document} is not in the corpus')
      made[str(query)] = tuple(one for one in own if one in known)
  return made


def _told(files):
  """{query: instruction} of tables that have such a column."""
  made = {}
  for table in map(tables.opened, files):
    column = next((name for name in ('query-id', *IDS)
                   if name in table.names), None)
    if 'instruction' in table.names and column:
      made |= {str(key): said for key, said in zip(
          table.values(column), table.values('instruction'))
               if isinstance(said, str) and said}
  return made
