"""MMEB: 36 data sets, each query with a candidate list of its own."""
import numpy as np

from jaxret.data import entries, types
from jaxret.data.tabular import found as found_lib

GROUPS = {
    'classification': (
        'ImageNet-1K', 'N24News', 'HatefulMemes', 'VOC2007', 'SUN397',
        'Place365', 'ImageNet-A', 'ImageNet-R', 'ObjectNet', 'Country211'),
    'VQA': (
        'OK-VQA', 'A-OKVQA', 'DocVQA', 'InfographicsVQA', 'ChartQA',
        'Visual7W', 'ScienceQA', 'VizWiz', 'GQA', 'TextVQA'),
    'retrieval': (
        'VisDial', 'CIRR', 'VisualNews_t2i', 'VisualNews_i2t', 'MSCOCO_t2i',
        'MSCOCO_i2t', 'NIGHTS', 'WebQA', 'FashionIQ', 'Wiki-SS-NQ', 'OVEN',
        'EDIS'),
    'grounding': (
        'MSCOCO', 'RefCOCO', 'RefCOCO-Matching', 'Visual7W-Pointing'),
}
DATASETS = tuple(name for names in GROUPS.values() for name in names)
WANTED = (
    'wanted one folder per data set with test-*.parquet, and images.zip beside '
    'them, or unpacked there or in eval_images/ '
    '(https://huggingface.co/datasets/TIGER-Lab/MMEB-eval)')
COLUMNS = ('qry_text', 'qry_img_path', 'tgt_text', 'tgt_img_path')
# Of the second edition besides: what is said in front of these texts.
INSTRUCTIONS = ('qry_inst', 'tgt_inst')
_THEIR_MARK, _MARK = '<|image_1|>', '<|IMAGE|>'
# Whose queries are of text alone, and whose candidates are.
_OF_TEXT = ('VisDial', 'VisualNews_t2i', 'MSCOCO_t2i', 'WebQA', 'Wiki-SS-NQ',
            'EDIS')
_TO_TEXT = (*GROUPS['classification'], *GROUPS['VQA'], 'VisualNews_i2t',
            'MSCOCO_i2t')
# Whose instructions stand on one line, below the image and without spaces.
_ON_A_LINE = (*GROUPS['VQA'], *GROUPS['grounding'], 'CIRR', 'NIGHTS', 'OVEN',
              'FashionIQ')


def tasks(root, names=None):
  """One task per data set; `names` of those that must be there, default all.

  TIGER-Lab/MMEB-eval: DATASET/test-*.parquet with the columns COLUMNS; of each
  row the last two are lists of one length, of which entry 0 is the answer. An
  empty path means no image, an empty text no text; <|image_1|> stands where
  the image goes. Equal pairs of text and path are one candidate, as in the
  authors' code (TIGER-AI-Lab/VLM2Vec, branch v1, src/dataset.py and eval.py).
  Files of the second edition (ziyjiang/MMEB_Test_Instruct, image tasks of
  TIGER-Lab/MMEB-V2) have INSTRUCTIONS in columns of their own; they become the
  texts of the first edition, see `_first_edition`.
  A row that cannot be used is left out, as is a candidate that is no answer.
  """
  unknown = [name for name in names or () if name not in DATASETS]
  if unknown:
    raise ValueError(f'mmeb has no task {unknown[0]!r}; choose from '
                     f'{", ".join(DATASETS)}')
  media = found_lib.Names(
      root, ('eval_images', 'images', 'image-tasks', ''))
  found = []
  for name in DATASETS:
    if names is not None and name not in names:
      continue
    folder = entries.present(root, name, WANTED)
    files = sorted(folder.glob('test-*.parquet'))
    if not files:
      raise ValueError(f'{folder} has no test-*.parquet; {WANTED}')
    found.append(_task(media, name, files))
  return found


def _task(media, name, files):
  queries, relevant, lists, left_out = [], [], [], []
  pool, bad = {}, {}  # {(text, path): place}, {(text, path): why}
  candidates = []
  for path in files:
    def read(i, row, path=path):
      row = _first_edition(name, row, path, i)
      texts, images = (entries.field(path, i, row, c, list)
                       for c in COLUMNS[2:])
      if not all(isinstance(one, str | None) for one in (
          *texts, *images, row['qry_text'], row['qry_img_path'])):
        raise entries.wrong(path, i, 'texts and paths of another type',
                            'strings')
      if len(texts) != len(images):
        raise entries.wrong(path, i, f'{len(texts)} texts and {len(images)} '
                            'paths', 'as many of both')
      query = _item(media, path, i, f'{name}:{len(queries)}',
                    row['qry_text'], row['qry_img_path'])
      own = {}
      for pair in zip(texts, images):
        place = _place(media, path, i, name, pair, pool, candidates, bad)
        if place is None and not own:
          raise ValueError(bad[pair])  # the answer
        own[place] = None
      own.pop(None, None)
      queries.append(query)
      relevant.append(np.array([next(iter(own))], np.int32))
      lists.append(np.array(list(own), np.int32))
      return query
    rows = entries.read_parquet(path, COLUMNS, INSTRUCTIONS)
    left_out += entries.usable(path, rows, read)[1]
  left_out += [types.LeftOut(f'{name}:candidate {pair[1] or pair[0]}', reason)
               for pair, reason in bad.items()]
  return types.Task(name, tuple(queries), tuple(candidates), tuple(relevant),
                    tuple(lists), left_out=tuple(left_out))


def _place(media, path, i, name, pair, pool, candidates, bad):
  """Where a candidate stands in the pool, None where it cannot be read."""
  if pair not in pool and pair not in bad:
    try:
      item = _item(media, path, i, f'{name}:candidate {len(candidates)}', *pair)
    except ValueError as error:
      bad[pair] = str(error)
    else:
      pool[pair] = len(candidates)
      candidates.append(item)
  return pool.get(pair)


def _first_edition(name, row, path, i):
  """A row of either edition as the first one has it.

  The authors build the same texts from the second (src/data/eval_dataset/
  image_*.py, "to stay consistent with v1 eval"): the image, the instruction,
  the text, a newline.
  """
  if 'qry_inst' not in row:
    return row
  said = {key: row.get(key) or '' for key in INSTRUCTIONS}
  query, texts = row['qry_text'] or '', row['tgt_text']
  if not isinstance(texts, list) or not texts:
    raise entries.wrong(path, i, f"'tgt_text' {entries.kind(texts)}",
                        'a list of texts')
  if name in _OF_TEXT:
    asked = f'{said["qry_inst"]} {query}\n' + '\n' * (name == 'VisDial')
  else:
    asked = _with_image(name, said['qry_inst'], query) + '\n'
  if name in _TO_TEXT:
    return {**row, 'qry_text': asked, 'tgt_img_path': [''] * len(texts)}
  images = row['tgt_img_path']
  inst = said['tgt_inst'].replace(_THEIR_MARK, '')
  if (texts[0] or '').strip():
    made = [_joined(f'{inst} {text or ""}') + '\n' for text in texts]
  else:
    made = [_joined(inst) + '\n' * (name in _OF_TEXT)] * len(images or ())
  return {**row, 'qry_text': asked, 'tgt_text': made}


def _with_image(name, instruction, text):
  instruction = instruction.replace(_THEIR_MARK, '')
  if name in _ON_A_LINE:
    instruction = f'\n{instruction.strip()}'
  return _joined(instruction, text)


def _joined(instruction, text=''):
  """The mark of an image, an instruction and perhaps a text behind it."""
  whole = f'{_THEIR_MARK} {instruction}' + (f' {text}' if text else '')
  return whole.replace(' \n', '\n')


def _item(media, path, i, name, text, image):
  text = (text or '').replace(_THEIR_MARK, _MARK)
  if not text.strip() and not image:
    raise entries.wrong(path, i, 'neither text nor image', 'one at least')
  if text.count(_MARK) > bool(image):
    raise entries.wrong(path, i, f'{text.count(_MARK)} marks {_THEIR_MARK} for '
                        f'{int(bool(image))} images', 'one for each')
  where = image and media.find(image, path)
  return types.Item(name, text if text.strip() else None, where or None)
