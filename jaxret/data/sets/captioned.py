"""Media and their captions as retrieval tasks, in both directions.

Where a medium has several captions, any of them answers it.
"""
import dataclasses

import numpy as np

from jaxret.data import entries, types
from jaxret.data.tabular import parts
from jaxret.data.tabular import rows as tabular


def both_ways(kind, rows, prefix='', left_out=()):
  """Two tasks from rows (id, path, captions) of media of one kind.

  kind: 'image' or 'video'. A medium may have several rows. left_out:
  types.LeftOut of what is no row.
  """
  media, texts, index, medium_of = [], [], {}, []
  for name, path, captions in rows:
    if name not in index:
      index[name] = len(media)
      media.append(types.Item(name, **{kind: path}))
    for caption in captions:
      texts.append(types.Item(f'{name}#{len(texts)}', text=caption))
      medium_of.append(index[name])
  split = types.Split('', 'test', tuple(media), tuple(texts),
                      np.array(medium_of, np.int32), left_out=tuple(left_out))
  to_medium, to_text = split.text_to_video(), split.video_to_text()
  return [dataclasses.replace(to_medium, name=f'{prefix}text_to_{kind}'),
          dataclasses.replace(to_text, name=f'{prefix}{kind}_to_text')]


def of_tables(kind, root, name, joined=False):
  """The same of the split test of tables, where a file is not there.

  name: of the file of the authors' own layout. joined: whether the captions of
  a row are sentences of one. Returns None where the file is there, or no table
  is: see tabular.
  """
  if (root / name).exists() or not parts.parts(root):
    return None
  rows = tabular.read(root, None, 'test')
  rows = tabular.paragraphs(rows) if joined else rows
  if not rows:
    raise ValueError(f'{root} has neither {name} nor a split test')
  return [dataclasses.replace(task, files=rows.files) for task in both_ways(
      kind, [(row.id, row.path, row.captions) for row in rows],
      left_out=rows.left_out)]


def karpathy(root, wanted, name, folders):
  """The splits of Karpathy and Fei-Fei (CVPR 2015), caption_datasets.zip.

  {"images": [{"filename", "filepath" (COCO alone), "split": "train", "restval",
  "val" or "test", "sentences": [{"raw": caption, ...}, ...], ...}]}

  wanted: what files are expected, for messages. name: of the file. folders:
  where images are looked for. Returns both tasks of the test images.
  """
  path = entries.present(root, name, wanted)
  content = entries.read_json(path)
  images = content.get('images') if isinstance(content, dict) else content
  def read(i, entry):
    if entries.field(path, i, entry, 'split') != 'test':
      return None
    file = entries.field(path, i, entry, 'filename')
    folder = entry.get('filepath', '')
    sentences = entries.listed(
        path, entries.field(path, i, entry, 'sentences', list))
    captions, bad = entries.usable(path, sentences, lambda _, sentence: (
        entries.field(path, i, sentence, 'raw').strip()))
    where = f'{folder}/{file}' if folder else file
    return (file, entries.find(root, where, folders), captions), bad
  found, left_out = entries.usable(path, entries.listed(path, images), read)
  # Of an image, some of whose sentences are bad, that image and caption.
  left_out += tuple(one._replace(id=f'{file}#{one.id.rpartition(":")[2]}')
                    for (file, _, _), bad in found for one in bad)
  return both_ways('image', some(path, [row for row, _ in found],
                                 'entry of the split test'), '', left_out)


def some(path, rows, what):
  """`rows`; ValueError where a file has none."""
  if not rows:
    raise ValueError(f'{path} has no {what}')
  return rows
