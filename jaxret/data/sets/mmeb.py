"""MMEB: 36 data sets, each query with a candidate list of its own."""
import numpy as np

from jaxret.data import entries, types

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
    'wanted one folder per data set with test-*.parquet, and images.zip '
    'unpacked beside them or in eval_images/ '
    '(https://huggingface.co/datasets/TIGER-Lab/MMEB-eval)')
COLUMNS = ('qry_text', 'qry_img_path', 'tgt_text', 'tgt_img_path')
_THEIR_MARK, _MARK = '<|image_1|>', '<|IMAGE|>'


def tasks(root, names=None):
  """One task per data set; `names` of those that must be there, default all.

  TIGER-Lab/MMEB-eval: DATASET/test-*.parquet with the columns COLUMNS; of each
  row the last two are lists of one length, of which entry 0 is the answer. An
  empty path means no image, an empty text no text; <|image_1|> stands where
  the image goes. Equal pairs of text and path are one candidate, as in the
  authors' code (TIGER-AI-Lab/VLM2Vec, branch v1, src/dataset.py and eval.py).
  """
  unknown = [name for name in names or () if name not in DATASETS]
  if unknown:
    raise ValueError(f'mmeb has no task {unknown[0]!r}; choose from '
                     f'{", ".join(DATASETS)}')
  found = []
  for name in DATASETS:
    if names is not None and name not in names:
      continue
    folder = entries.present(root, name, WANTED)
    files = sorted(folder.glob('test-*.parquet'))
    if not files:
      raise ValueError(f'{folder} has no test-*.parquet; {WANTED}')
    found.append(_task(root, name, files))
  return found


def _task(root, name, files):
  queries, relevant, lists, pool, first = [], [], [], {}, []
  for path in files:
    for i, row in enumerate(entries.read_parquet(path, COLUMNS)):
      texts, images = (entries.field(path, i, row, c, list)
                       for c in COLUMNS[2:])
      if len(texts) != len(images):
        raise entries.wrong(path, i, f'{len(texts)} texts and {len(images)} '
                            'paths', 'as many of both')
      own = [pool.setdefault(pair, len(pool)) for pair in zip(texts, images)]
      first += [(path, i)] * (len(pool) - len(first))
      queries.append(_item(root, path, i, f'{name}:{len(queries)}',
                           row['qry_text'], row['qry_img_path']))
      relevant.append(np.array(own[:1], np.int32))
      lists.append(np.array(list(dict.fromkeys(own)), np.int32))
  candidates = tuple(
      _item(root, *first[c], f'{name}:candidate {c}', *pair)
      for c, pair in enumerate(pool))
  return types.Task(name, tuple(queries), candidates, tuple(relevant),
                    tuple(lists))


def _item(root, path, i, name, text, image):
  text = (text or '').replace(_THEIR_MARK, _MARK)
  if not text.strip() and not image:
    raise entries.wrong(path, i, 'neither text nor image', 'one at least')
  if text.count(_MARK) > bool(image):
    raise entries.wrong(path, i, f'{text.count(_MARK)} marks {_THEIR_MARK} for '
                        f'{int(bool(image))} images', 'one for each')
  where = entries.find(root, image, ('eval_images', 'images', '')) if (
      image) else None
  return types.Item(name, text if text.strip() else None, where)
