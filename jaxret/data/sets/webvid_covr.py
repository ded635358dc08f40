"""WebVid-CoVR: a clip and a change of it, asking for the changed clip."""
import numpy as np

from jaxret.data import entries, types

N_FRAMES = 16
RECALL_AT = 1, 5, 10, 50
WANTED = (
    'wanted webvid8m-covr_test.csv '
    '(https://huggingface.co/datasets/lucas-ventura/WebVid-CoVR) and the '
    'videos that it names, in videos/')


def tasks(root, names):
  """The test split: queries of video and text, a pool of videos.

  A CSV with the columns pth1 (the reference clip), pth2 (the target) and edit
  among others; a path is folder/id without its ending. The pool is the
  targets; a query's own reference, where the pool holds it, is no answer: the
  authors (lucas-ventura/CoVR, src/data/webvid_covr.py and
  src/test/blip/webvid_covr.py) set its score to -10. A row whose reference is
  its target could not be answered, and is left out; its target stays.
  """
  path = entries.present(root, 'webvid8m-covr_test.csv', WANTED)
  content = entries.read_csv(path, ('pth1', 'pth2', 'edit'))
  pool = {}
  for row in content:
    if row['pth2'] and row['pth2'].strip():
      pool.setdefault(row['pth2'], len(pool))
  def read(i, row):
    reference, target, edit = (entries.field(path, i, row, key)
                               for key in ('pth1', 'pth2', 'edit'))
    if reference == target:
      raise entries.wrong(path, i, f'{reference!r} as pth1 and as pth2',
                          'two clips')
    return i, reference, target, edit
  rows, left_out = entries.usable(path, content, read)
  queries, relevant, excluded, named = [], [], [], set()
  for i, reference, target, edit in rows:
    name = f'{reference}>{target}'
    name = f'{name}#{i + 1}' if name in named else name  # another change
    named.add(name)
    queries.append(types.Item(name, edit, video=_file(root, reference)))
    relevant.append(np.array([pool[target]], np.int32))
    excluded.append(np.array([pool[reference]] if reference in pool else [],
                             np.int32))
  candidates = tuple(
      types.Item(name, video=_file(root, name)) for name in pool)
  return [types.Task('video_text_to_video', tuple(queries), candidates,
                     tuple(relevant), excluded=tuple(excluded),
                     left_out=left_out)]


def _file(root, name):
  return entries.find(root, f'{name}.mp4', ('videos', '8M/train', ''))
