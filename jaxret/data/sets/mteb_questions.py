"""Multiple-choice questions about videos, as mteb/* on the hub holds them.

One layout of parquet files for many sets: NExT-QA, EgoSchema_subset (500
questions about three minutes each), Video-MME_short, and the others of mteb's
VideoCentricQA tasks that have candidates. The columns are those that mteb
itself reads (mteb/tasks/multichoice/eng, commit a905523): `question`, a text;
`candidates`, a list of texts; `answer`, the text of the right one; `video`, as
the library datasets stores it, {'bytes', 'path'}. What we could not verify, for
want of the files: how the files are named beyond `<split>-*.parquet`, under
data/ or not; whether a set has columns besides, which are not read.
"""
import dataclasses
import hashlib
import os
import pathlib

from jaxret import files
from jaxret.data import entries, types
from jaxret.data import questions as questions_lib
from jaxret.data.sets import shapes

WANTED = (
    'wanted <split>-*.parquet in it or in data/, with the columns question, '
    'candidates, answer and video (https://huggingface.co/datasets/mteb/'
    'NExT-QA, mteb/EgoSchema_subset or mteb/Video-MME_short)')
COLUMNS = ('question', 'candidates', 'answer')
_ROWS_AT_ONCE = 4  # whose videos are in memory


def questions(section, split):
  """The Questions of a split of the files in `section.root`.

  Videos go to a cache once, each under the digest of its bytes: questions
  about one video are about one item. Their kind is the name of the directory.
  A row that cannot be used is left out: without a text, with an answer that is
  no candidate or candidates that are there twice, without bytes and a file.
  Errors: ValueError for a directory or columns that are not there, and for
  files of which no row can be used.
  """
  root = entries.root_of(section.root, 'mteb_questions', WANTED)
  paths = [path for folder in (root, root / 'data')
           for path in sorted(folder.glob(f'{split}-*.parquet'))]
  if not paths:
    raise ValueError(f'data.root {root} has no {split}-*.parquet; {WANTED}')
  items, found, left_out = {}, [], []
  for path in paths:
    def read(i, row, path=path):
      return _question(path, i, row, items, root)
    used, unused = entries.usable(
        path, entries.parquet_rows(path, (*COLUMNS, 'video'), _ROWS_AT_ONCE),
        read)
    found += used
    left_out += unused
  return questions_lib.Questions(
      root.name, split, tuple(items.values()), tuple(found),
      left_out=tuple(left_out))


def _question(path, i, row, items, root):
  """The Question of a row; its item joins {path of the video: Item}."""
  text = entries.field(path, i, row, 'question')
  choices = entries.field(path, i, row, 'candidates', list)
  answer = entries.field(path, i, row, 'answer')
  if choices.count(answer) != 1:
    raise entries.wrong(
        path, i, f'the answer {answer!r:.60}, {choices.count(answer)} times '
        'among the candidates', 'one of them')
  try:
    question = questions_lib.Question(
        f'{path.name}:{i + 1}', 0, text, tuple(choices), choices.index(answer),
        root.name)
  except ValueError as error:
    raise ValueError(f'{path}, entry {i + 1}: {error}') from None
  video = _video(path, i, entries.field(path, i, row, 'video', dict), root)
  items.setdefault(video, types.Item(pathlib.Path(video).name, video=video))
  return dataclasses.replace(question, item=list(items).index(video))


def _video(path, i, video, root):
  """Where the video of a row lies: its bytes are written there, once."""
  data, name = video.get('bytes'), video.get('path') or ''
  if isinstance(data, bytes) and data:
    file = _cache() / (hashlib.sha256(data).hexdigest()[:32]
                       + (pathlib.PurePath(name).suffix or '.mp4'))
    if not file.is_file() or file.stat().st_size != len(data):
      file.parent.mkdir(parents=True, exist_ok=True)
      files.write_atomically(file, data)
    return str(file)
  if not isinstance(name, str) or not name:
    raise entries.wrong(path, i, 'a video without bytes and path',
                        'one of them')
  file = entries.find(root, name, ('', 'videos', 'data'))
  if not os.path.isfile(file):
    raise entries.wrong(path, i, f'the video {name!r:.60}, which is no file',
                        f'its bytes, or a file under {root}')
  return file


def _cache():
  return shapes.cache_dir() / 'mteb_questions'
