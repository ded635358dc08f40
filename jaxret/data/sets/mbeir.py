"""M-BEIR: sixteen tasks of ten data sets, pools of text, images and both.

TIGER-Lab/M-BEIR as its authors publish it (UniIR, arXiv 2311.17136); a folder
of one's own in the same layout is read likewise:
  query/{split}/mbeir_{task}_{split}.jsonl, cand_pool/local/mbeir_{task}
  [_{split}]_cand_pool.jsonl, qrels/{split}/mbeir_{task}_{split}_qrels.txt and
  instructions/query_instructions.tsv, where {task} is mscoco_task0, ...; images
  in mbeir_images/, or in mbeir_images.tar.gz.part-00 and so on.

What does not fit is left out, as far as UniIR's evaluation would count it so,
and listed (types.LeftOut): a query that is asked of no candidate of the pool,
or that the qrels lack; what the qrels say of a query that is not there. A
candidate that qrels name and no pool has counts as relevant and is never found.
A text that holds <image>, the placeholder of a picture, is read as words.
"""
import functools
import os
import re

from jaxret.data import entries, types
from jaxret.data.containers import archives
from jaxret.data.entries import wrong_line
from jaxret.data.llava import prompts as mm_embed_prompts
from jaxret.data.sets import beir, mixed

# Their file names without mbeir_, in the order of the paper's table.
TASKS = (
    'visualnews_task0', 'mscoco_task0', 'fashion200k_task0', 'webqa_task1',
    'edis_task2', 'webqa_task2', 'visualnews_task3', 'mscoco_task3',
    'fashion200k_task3', 'nights_task4', 'oven_task6', 'infoseek_task6',
    'fashioniq_task7', 'cirr_task7', 'oven_task8', 'infoseek_task8')
# Hit rate is reported at 10 for these, at 5 for all others.
AT_10 = ('fashion200k', 'fashioniq')
FIRST_COMPOSED = 6  # task_id from which queries are of image and text
TRAIN_QUERIES = 'query/union_train/mbeir_union_up_train.jsonl'
TRAIN_POOL = 'cand_pool/global/mbeir_union_train_cand_pool.jsonl'
INSTRUCTIONS = 'instructions/query_instructions.tsv'
IMAGES = 'mbeir_images'
PACKED = f'{IMAGES}.tar.gz', f'{IMAGES}.tar'  # whole, or their parts
WANTED = 'it is laid out like TIGER-Lab/M-BEIR: query/, cand_pool/, qrels/, ' \
    'instructions/ and mbeir_images/'
# In front of ids of what is left out: qids and dids are often the same.
_ASKED, _CANDIDATE = 'query/', 'cand_pool/'
_TASK = re.compile(r'(.+)_task(\d+)')


def training_sets(config, names):
  """The source mbeir of `data.root`, and those of `data.text_sets`.

  The latter are texts in BEIR's layout, each in its folder of
  `data.text_root`. data.tidy: texts as UniIR tidies them.
  """
  section, found = config.data, {}
  names = names or ('mbeir', *section.text_sets)
  if 'mbeir' in names:
    found['mbeir'] = training_set(section.root, section.tidy)
  for name in section.text_sets:
    if name in names:
      found[name] = beir.training_set(section.text_root, name)
  return found


def benchmark(config, root):
  """The tasks `config.eval.tasks` of a split, () = all."""
  return read(root, config.eval.split, config.eval.tasks, config.data.tidy)


def read(root, split='test', names=(), clean=False, images=True):
  """The mixed.Benchmark of some tasks, by default all sixteen.

  clean: texts and instructions as UniIR tidies them, see `tidy`. images:
  whether to check that all images are there.
  Errors: ValueError that names file and line.
  """
  root = entries.root_of(root, 'M-BEIR', WANTED)
  instructions = Instructions(root, clean)
  there = _Images(root) if images else None
  names, pools, lost = tuple(names) or TASKS, {}, {}
  for name in names:
    pools[name] = tuple(candidates(
        _local_pool(root, name, split), clean, there, lost))
  known = {item.id: mixed.modality(item)
           for pool in pools.values() for item in pool}
  return mixed.Benchmark('mbeir', pools, tuple(
      _task(root, name, split, known, instructions, clean, there, lost)
      for name in names), left_out=_listed(lost))


def training_set(root, clean=False, images=True):
  """The mixed.TrainingSet of the union of all training queries and pools.

  The authors have shuffled the queries and repeat those of small sets.
  """
  root = entries.root_of(root, 'M-BEIR', WANTED)
  instructions = Instructions(root, clean)
  there, lost = _Images(root) if images else None, {}
  pool = tuple(candidates(
      entries.present(root, TRAIN_POOL, WANTED), clean, there, lost))
  known = {item.id: mixed.modality(item) for item in pool}
  path, found = entries.present(root, TRAIN_QUERIES, WANTED), []
  for line, item, entry in _queries(path, clean, there, lost):
    positives = _positives(path, line, entry)
    answers = [answer for answer in positives if answer in known]
    for answer in positives:
      if answer not in known:
        lost.setdefault(_CANDIDATE + answer, str(wrong_line(
            path, line, f'the positive {answer}', 'one that is in '
            f'{TRAIN_POOL}')))
    if not answers:
      lost[_ASKED + item.id] = lost[_CANDIDATE + positives[0]]
      continue
    found.append(mixed.Query(item, {
        kind: instructions(path, line, item, kind)
        for kind in dict.fromkeys(known[answer] for answer in answers)},
                             tuple(answers)))
  return mixed.TrainingSet(tuple(found), pool, tuple(
      f'{item.id.partition(":")[0]} {mixed.modality(item)}' for item in pool),
                           left_out=_listed(lost))


def _listed(lost):
  return tuple(types.LeftOut(*one) for one in lost.items())


def candidates(path, clean=False, images=None, lost=None):
  """Yields the Items of a pool; their ids are the dids.

  lost: {id: reason} of those whose text cannot be read as it stands, or not at
  all; it grows.
  """
  lost = {} if lost is None else lost
  for line, entry in entries.json_lines(path):
    item = _item(path, line, entry, ('did', 'txt', 'img_path', 'modality'),
                 clean, images, lost)
    if item is not None:
      yield item


def _queries(path, clean, images, lost):
  """Yields (line, Item, entry) of the queries that can be read."""
  for line, entry in entries.json_lines(path):
    item = _item(path, line, entry, (
        'qid', 'query_txt', 'query_img_path', 'query_modality'), clean, images,
                 lost)
    if item is not None:
      yield line, item, entry


def _item(path, line, entry, keys, clean, images, lost):
  """The Item of an entry whose id, text, image and modality have these keys.

  None where its text cannot be read, which `lost` then says.
  """
  name, text, image, modality = (entry.get(key) for key in keys)
  if not isinstance(name, str) or not re.fullmatch(r'\d+:\d+', name):
    raise wrong_line(path, line, f'{keys[0]} {name!r}',
                     "data set and number, as '9:17'")
  if modality not in mixed.MODALITIES:
    raise wrong_line(path, line, f'{keys[3]} {modality!r}',
                     'one of ' + ', '.join(map(repr, mixed.MODALITIES)))
  # An empty text beside an image is still that item's text.
  text = (text or '') if 'text' in modality else None
  if text is not None:
    if not isinstance(text, str):
      raise wrong_line(path, line, f'{keys[1]} {entries.kind(text)}', 'a text')
    text = tidy(text) if clean else text
    where = f'{path}, line {line}, {name}'
    key = (_CANDIDATE if keys[0] == 'did' else _ASKED) + name
    try:
      text = mm_embed_prompts.readable(text, where, lost, key)
    except ValueError as error:
      lost[key] = str(error)
      return None
  if 'image' not in modality:
    return types.Item(name, text)
  if not image or not isinstance(image, str):
    raise wrong_line(path, line, f'{name} of modality {modality!r} without '
                     f'{keys[2]}', 'the path of its image')
  if images is not None and not images.there(image):
    raise wrong_line(path, line, f'the image {image}, which is not in '
                     f'{images.root}', 'a file there: fetch all parts of '
                     'mbeir_images')
  root = images.root if images is not None else ''
  return types.Item(name, text, entries.below(root, image))


def _task(root, name, split, known, instructions, clean, images, lost):
  dataset, number = _parts(name)
  path = entries.present(
      root, f'query/{split}/mbeir_{name}_{split}.jsonl', WANTED)
  found, modality = {}, ''
  for line, item, entry in _queries(path, clean, images, lost):
    if item.id in found:
      raise wrong_line(path, line, f'the qid {item.id} again', 'each once')
    try:
      modality = _answers_modality(path, line, item, entry, known)
    except ValueError as error:
      lost[_ASKED + item.id] = str(error)
      continue
    found[item.id] = item, instructions(path, line, item, modality)[0]
  answers = _read_qrels(root, name, split, found, known, lost)
  for query in found:
    if query not in answers:
      lost[_ASKED + query] = (f'{path}: the query {query} has no relevant '
                              'candidate in the qrels; want one at least')
  if not answers:
    raise ValueError(next(iter(lost.values()), f'{path} has no query'))
  queries, told = zip(*(found[query] for query in found if query in answers))
  return mixed.Task(
      name, queries, told, tuple(answers[item.id] for item in queries), name,
      modality, 10 if dataset in AT_10 else 5,
      is_composed=number >= FIRST_COMPOSED)


def _answers_modality(path, line, item, entry, known):
  """What the query asks for: the modality of its first own positive.

  Positives of OVEN and INFOSEEK are also in each other's pools; as in UniIR
  only those of the query's own data set say what is asked.
  """
  own = [answer for answer in _positives(path, line, entry)
         if answer.partition(':')[0] == item.id.partition(':')[0]]
  found = next((known[answer] for answer in own if answer in known), None)
  if found is None:
    raise wrong_line(path, line, f'{item.id} with the positives {own} of its '
                     'own data set', 'one at least that is in the pool')
  return found


def _positives(path, line, entry):
  found = entry.get('pos_cand_list')
  if not found or not isinstance(found, list) or not all(
      isinstance(name, str) for name in found):
    raise wrong_line(path, line, f'pos_cand_list {found!r}', 'a list of dids')
  return found


def _read_qrels(root, name, split, asked, known, lost):
  """{qid: {did: relevance}} from five columns; 0 is not relevant."""
  path = entries.present(
      root, f'qrels/{split}/mbeir_{name}_{split}_qrels.txt', WANTED)
  elsewhere = functools.cache(lambda: _other_ids(root, split, known))
  answers = {}
  for line, row in entries.lines(path):
    columns = row.split()
    if not columns:
      continue
    relevance = entries.whole_number(columns[3]) if len(columns) == 5 else None
    if relevance is None:
      raise wrong_line(path, line, repr(row), 'qid 0 did relevance task_id')
    query, _, candidate, _, _ = columns
    if query not in asked:
      lost.setdefault(_ASKED + query, str(wrong_line(
          path, line, f'the query {query}', 'one of the query file')))
    elif relevance > 0:
      if candidate not in known and candidate not in elsewhere():
        lost.setdefault(_CANDIDATE + candidate, str(wrong_line(
            path, line, f'the candidate {candidate}',
            'one that is in a pool')))
      answers.setdefault(query, {})[candidate] = relevance
  return answers


def _other_ids(root, split, known):
  """The dids of all local pools of a split that were not read."""
  found = set()
  for path in sorted((root / 'cand_pool' / 'local').glob('*.jsonl')):
    found.update(entry.get('did') for _, entry in entries.json_lines(path))
  return found - set(known)


def _parts(name):
  """('mscoco', 0) of 'mscoco_task0'."""
  found = _TASK.fullmatch(name)
  if not found:
    raise ValueError(f'M-BEIR has no task {name!r}; want a name such as '
                     f'{TASKS[0]}, of {", ".join(TASKS)}')
  return found[1], int(found[2])


def _local_pool(root, name, split):
  """The pool's path; MSCOCO's names the split."""
  _parts(name)
  with_split = f'cand_pool/local/mbeir_{name}_{split}_cand_pool.jsonl'
  if (root / with_split).is_file():
    return root / with_split
  return entries.present(
      root, f'cand_pool/local/mbeir_{name}_cand_pool.jsonl', WANTED)


class Instructions:
  """What a query may be told: (path, line, item, modality wanted) -> texts.

  The tsv has a header and, by position, the query's modality, the answer's,
  the data set's name and number, and up to four instructions.
  """

  def __init__(self, root, clean=False):
    self.path = entries.present(root, INSTRUCTIONS, WANTED)
    self._found = {}
    for line, row in entries.lines(self.path):
      if line == 1:
        continue
      columns = row.strip().split('\t')
      if len(columns) < 4:
        raise wrong_line(self.path, line, f'{len(columns)} columns',
                         'query_modality, cand_modality, dataset_name, '
                         'dataset_id and instructions, with tabs between')
      said = tuple(tidy(told) if clean else told
                   for told in columns[4:] if told)
      self._found[columns[3], columns[0], columns[1]] = said

  def __call__(self, path, line, item, wanted):
    dataset, has = item.id.partition(':')[0], mixed.modality(item)
    said = self._found.get((dataset, has, wanted))
    if not said:
      raise wrong_line(path, line, f'{item.id} of modality {has!r}, which asks '
                       f'for {wanted!r}', 'an instruction for that pair and '
                       f'data set {dataset} in {self.path}')
    return said


class _Images:
  """Which images are there, each directory listed once.

  root: the directory that their paths are in, or where they were not unpacked
  the archive of all of them, which is published in parts.
  """

  def __init__(self, root):
    packed = [str(root / name) for name in PACKED
              if archives.parts(root / name)]
    self._packed = bool(packed) and not (root / IMAGES).is_dir()
    self.root = packed[0] if self._packed else str(root)
    self._listed = functools.cache(self._list)

  def there(self, name):
    if self._packed:
      return archives.has(self.root, name)
    directory, _, file = os.path.join(self.root, name).rpartition('/')
    return file in self._listed(directory)

  def _list(self, directory):
    return frozenset(os.listdir(directory) if os.path.isdir(directory) else ())


def tidy(text):
  """A text as UniIR tidies it.

  Without carriage returns, space and double quotes around it, with a capital
  first letter and a mark at the end.
  """
  text = text.replace('\r', '').strip().strip('"')
  if not text:
    return text
  end = '' if text[-1] in '.?!' else '.'
  return text[0].upper() + text[1:] + end
