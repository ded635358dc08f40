"""`jaxret.index`: embeds what is new in a folder, and keeps it to be searched.

  jaxret.index('clips', model='openai/clip-vit-base-patch32', out='clips.index')

A run adds what is new, embeds again what has changed, and forgets what is gone.
Killed at any moment, it goes on with the next file when it is called again.
"""
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxret import embedder, reading
from jaxret.data import sources
from jaxret.indexing import look, opening, places, store, walk, windows
from jaxret.progress import Counted

BLOCK_ROWS = 512  # that are embedded, then written, together


@dataclasses.dataclass
class Indexed:
  """What a run of `index` did, in files. rows: of the index as it is now;
  embedded: rows of this run. skipped: what is left out, and why."""
  added: int = 0
  changed: int = 0
  unchanged: int = 0
  gone: int = 0
  embedded: int = 0
  rows: int = 0
  skipped: list[walk.Skipped] = dataclasses.field(default_factory=list)

  def __str__(self) -> str:
    return (f'{self.rows:,} rows: {self.added:,} files added, '
            f'{self.changed:,} changed, {self.unchanged:,} as they were, '
            f'{self.gone:,} gone, {len(self.skipped):,} skipped')


def index(source: str | os.PathLike | Sequence[Any],
          model: str | os.PathLike | embedder.Embedder,
          out: str | os.PathLike, *, window: float | None = None,
          stride: float | None = None, precision: str | None = None,
          batch_size: int = 32, follow_links: bool | None = None,
          retry: bool = False, ann: bool = False, show_progress: bool = True,
          **options: Any) -> Indexed:
  """Indexes a folder of images, videos and texts, or what is new in it.

  Args:
    source: a folder, a list of files on disk, or a list; see walk.walk.
    model: what jaxret.load opens, or an Embedder.
    out: the directory of the index, or s3://, gs:// or az:// BUCKET/NAME; one
      run at a time.
    window: seconds of a video that are one row; default: as the index has it,
      10 in a new one. A shorter video is one row.
    stride: seconds from one window to the next; default: the window.
    precision: of the vectors, 'float32' (default) or 'float16', half as large.
    batch_size: rows of a batch, over all devices.
    follow_links: also links, and names in a list, that lead out of the folder.
    retry: also tries what could not be used before and is as it was.
    ann: also builds LanceDB's approximate index; always beyond store.MOST_EXACT
      rows.
    show_progress: files done and the time that is left, on standard error.
    **options: of jaxret.load.

  Returns:
    Indexed; what was left out is also in out/skipped.jsonl.

  Raises:
    ValueError: for a source or a model that is none, an index by another model
      or with other windows, or one that another run writes.
  """
  place = places.of(out)
  place.check()
  given = walk.walk(source, bool(follow_links))
  if not given.found and place.read(store.NAME) is None:
    first = ''.join(f' ({one.path}: {one.reason})' for one in given.skipped[:1])
    raise ValueError(f'{source}: nothing to index: got {len(given.skipped)} '
                     f'files, and no image, video or text among them{first}')
  with place.held() as check:
    made, opener = _agreed(place, given.root, model, options, window, stride,
                           precision, follow_links)
    run = _Run(store.Table(place, made, check), made, opener, batch_size)
    return run.update(given, retry, ann, show_progress)


def _agreed(out, root, model, options, window, stride, precision,
            follow_links):
  """(the Description of the index, its model's Opener); ValueError."""
  if out.read(store.NAME) is None:
    window = windows.LENGTH_S if window is None else float(window)
    stride = window if stride is None else float(stride)
    windows.check(window, stride)
    precision = precision or 'float32'
    if precision not in store.PRECISIONS:
      raise ValueError(f'precision is {precision!r}; want one of '
                       f'{", ".join(store.PRECISIONS)}')
    opener = opening.Opener(model, options)
    made = store.Description(
        opener.identity(), opener.opened, root, bool(follow_links), window,
        stride, precision)
    store.describe(out, made)
    return made, opener
  made = store.described(out)
  for name, got, had in (
      ('window', window, made.window_s), ('stride', stride, made.stride_s),
      ('precision', precision, made.precision),
      ('follow_links', follow_links, made.follow_links)):
    if got is not None and got != had:
      raise ValueError(f'{out} was made with {name} {had}, got {got}: leave it '
                       'out, or index into another directory')
  if made.root != root:
    raise ValueError(f'{out} is of the folder {made.root}, got {root}: index '
                     'it into another directory')
  return made, opening.of_index(out, made, model, options)


class _Run:
  """One run over a source."""

  def __init__(self, table, made, opener, batch_size):
    self.table, self.made, self.opener = table, made, opener
    self.batch_size = batch_size
    self.done = Indexed()

  def update(self, given, retry, ann, show_progress):
    """Makes the table what the source is; Indexed."""
    known = self._known()
    self.done.skipped = list(given.skipped)
    tried = {} if retry else {
        one.path: one for one in store.read_skipped(self.table.place)
        if one.size is not None}
    here = {one.path for one in given.found}
    gone = [path for path in known if path not in here]
    self.table.remove(known[path]['file'] for path in gone)
    self.done.gone = len(gone)
    todo = []
    for one in given.found:
      if _is_as_it_was(one, known.get(one.path)):
        self.done.unchanged += 1
        self._say_caption(one, known[one.path])
      elif _is_as_it_was(one, tried.get(one.path)):
        self.done.skipped.append(tried[one.path])
      else:
        todo.append(one)
    self._embed(todo, known, show_progress)
    self._finish(ann, bool(todo or gone))
    return self.done

  def _known(self):
    """{path: what the table says of the file}."""
    rows = self.table.files()
    self.next = max(rows['file'].to_pylist(), default=-1) + 1
    return {row['path']: row for row in rows.to_pylist()}

  def _say_caption(self, one, row):
    if one.caption != row['caption']:
      self.table.update(row['file'], caption=one.caption)
      self.said = True

  def _embed(self, todo, known, show_progress):
    block = []
    with Counted(len(todo), 'indexing', 'file', show_progress) as progress:
      for looked in self._looked(todo, known, progress):
        block.append(looked)
        if sum(len(one.rows) for one in block) >= BLOCK_ROWS:
          self._write(block, known, progress)
          block = []
      if block:
        self._write(block, known, progress)

  def _looked(self, todo, known, progress):
    """Yields the Looked of what is to be embedded."""
    def read(number):
      one = todo[number]
      sha256 = look.digest(one)
      before = known.get(one.path)
      if before and before['sha256'] == sha256:
        return None  # touched, and the same
      return look.look(one, sha256, self.made.window_s, self.made.stride_s)
    for number, result in reading.read_ahead(read, range(len(todo)), 64):
      one = todo[number]
      try:
        looked = result()
      except ValueError as error:
        self._skip(one, getattr(error, 'reason', str(error)), known)
        progress.count()
        continue
      if looked is None:
        self.table.update(known[one.path]['file'], mtime_ns=one.mtime_ns,
                          caption=one.caption)
        self.said = True
        self.done.unchanged += 1
        progress.count()
      else:
        yield looked

  said = False  # whether something was said anew of a file

  def _skip(self, one, reason, known):
    """What cannot be used any more is not found any more."""
    self.done.skipped.append(walk.Skipped(
        one.path, reason, one.size, one.mtime_ns))
    if one.path in known:
      self.table.remove([known.pop(one.path)['file']])

  def _write(self, block, known, progress):
    """Embeds the files of a block, and writes them as one."""
    items = [item for one in block for item in one.items]
    errors = []
    vectors = self.opener.model.encode(
        items, batch_size=self.batch_size, show_progress=False,
        on_error=lambda error: errors.append(str(error)))
    rows, kept, first = [], [], 0
    self.table.remove(known[one.found.path]['file'] for one in block
                      if one.found.path in known)
    for one in block:
      own = np.arange(first, first + len(one.rows))
      first += len(one.rows)
      good = own[np.isfinite(vectors[own]).all(1)]
      path, new = one.found.path, one.found.path not in known
      if len(good) < len(own):
        bad = items[next(i for i in own if i not in good)].id
        self.done.skipped.append(walk.Skipped(
            bad if len(good) else path, _reason(bad, errors),
            one.found.size, one.found.mtime_ns))
      known.pop(path, None)
      if len(good):
        rows += [one.rows[i - own[0]] | {'file': self.next} for i in good]
        kept += list(good)
        self.next += 1
        self.done.added += new
        self.done.changed += not new
    if rows:
      self.table.add(rows, vectors[kept])
      self.done.embedded += len(rows)
    progress.count(len(block))

  def _finish(self, ann, changed):
    n_rows = self.done.rows = len(self.table)
    if n_rows and (ann or n_rows > store.MOST_EXACT) and (
        not self.table.has_ann()):  # `finish` takes what is new into one
      self.table.build_ann(n_rows)
    stale = n_rows <= store.MOST_EXACT and not store.is_current(
        self.table.place)
    if changed or self.said or stale:
      self.table.finish()
    store.write_skipped(self.table.place, self.done.skipped)


def _is_as_it_was(one, before):
  """Whether a file has the size and time of change that were seen before.

  before: a row of the table, a walk.Skipped, or None.
  """
  if before is None:
    return False
  if isinstance(before, walk.Skipped):
    before = before._asdict()
  same = (before['size'], before['mtime_ns']) == (one.size, one.mtime_ns)
  return same and (one.file is not None or before.get('sha256') in (
      None, look.digest(one)))


def _reason(name, errors):
  """What was said of an item."""
  start = f'{sources.printable(name)}: '
  return next((error.removeprefix(start) for error in errors
               if error.startswith(start)), 'it cannot be embedded')
