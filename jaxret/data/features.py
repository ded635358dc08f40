"""Stored videos and stored features of a data set, read at random.

Features come from a pass of the vision tower that is too long to lose: it is
written in parts, a killed run goes on at the first part that is missing, and
the TFDS data set is built from the parts at the end.
"""
import functools
import io
import json
import os
import pathlib
import shutil

import numpy as np

from jaxret import files, own_files
from jaxret.data import containers, records, sources, types


class FeatureWriter:
  """Writes the features of the videos `ids`, part by part.

  fingerprint: a JSON-able dict of all that the features depend on (weights,
  config, data). A directory made from other ids or another fingerprint is
  refused with a ValueError that names the field.
  """

  def __init__(self, out_dir, ids, fingerprint, part_size=256):
    self.out_dir, self.ids = pathlib.Path(out_dir), list(ids)
    self.part_size = part_size
    if not self.ids:
      raise ValueError(f'{out_dir}: got no videos to store features of')
    repeated = _first_repeated(self.ids)
    if repeated is not None:
      raise ValueError(f'{out_dir}: two videos have the id {repeated!r}')
    records.claim(self.out_dir, {
        'content': 'features', 'fingerprint': fingerprint,
        'part_size': part_size, 'ids': self.ids})

  @property
  def n_parts(self):
    return -(-len(self.ids) // self.part_size)

  def indices(self, part):
    """Which videos a part holds, int64 [<= part_size]."""
    start = part * self.part_size
    return np.arange(start, min(start + self.part_size, len(self.ids)))

  def pending(self):
    """Numbers of the parts that are still to be written."""
    if records.exists(self.out_dir):
      return []
    return [p for p in range(self.n_parts) if not self._path(p).is_file()]

  def write(self, part, features):
    """Stores one part, [videos of the part, clips, tokens, width]."""
    ids = [self.ids[i] for i in self.indices(part)]
    features = np.asarray(features)
    if features.ndim != 4 or len(features) != len(ids):
      raise ValueError(
          f'features of part {part}: got shape {features.shape}, wanted '
          f'[{len(ids)}, clips, tokens, width]')
    with np.errstate(over='ignore'):
      features = features.astype(np.float16)
    finite = np.isfinite(features).all(axis=(1, 2, 3))
    if not finite.all():
      raise ValueError(
          f'features of video {ids[int(np.argmin(finite))]!r} are not finite '
          'in float16; check its frames and the weights')
    # With zip's checksum; what is built of the parts has its own.
    files.save_atomically(
        self._path(part), lambda file: np.savez(file, features=features))

  def run(self, extract, batch_size, process_index=0, process_count=1,
          progress=True):
    """Computes and writes the pending parts that fall to this process.

    extract: int64 [batch_size] -> features [batch_size, clips, tokens, width].
    It always sees `batch_size` indices: the last ones of a part are repeated
    and their results dropped.
    """
    from tqdm import tqdm
    mine = [p for p in self.pending() if p % process_count == process_index]
    n_videos = sum(len(self.indices(part)) for part in mine)
    with tqdm(desc='extracting', total=n_videos, unit='video',
              disable=not progress) as bar:
      for part in mine:
        indices, outputs = self.indices(part), []
        for start in range(0, len(indices), batch_size):
          batch = indices[start:start + batch_size]
          n_fill = batch_size - len(batch)
          outputs.append(np.asarray(extract(
              np.pad(batch, (0, n_fill), mode='edge')))[:len(batch)])
          bar.update(len(batch))
        self.write(part, np.concatenate(outputs))

  def finish(self):
    """Builds the data set from all parts, then removes them.

    Call it once, when every process has run. Does nothing the second time.
    """
    if not records.exists(self.out_dir):
      pending = self.pending()
      if pending:
        raise ValueError(_unfinished(self.out_dir, pending, self.n_parts))
      records.write(self.out_dir, ('id', 'features'), self._examples())
    shutil.rmtree(self.out_dir / 'parts', ignore_errors=True)

  def _examples(self):
    shape = None
    for part in range(self.n_parts):
      features = self._read(part)
      shape = shape or features.shape[1:]
      if features.shape[1:] != shape:
        raise ValueError(
            f'{self._path(part)}: got features of shape {features.shape[1:]}, '
            f'wanted {shape} as in part 0; remove {self.out_dir}')
      for i, feature in zip(self.indices(part), features):
        yield {'id': self.ids[i].encode(), 'features': _npy(feature)}

  def _read(self, part):
    path, size = self._path(part), len(self.indices(part))
    try:
      with np.load(path) as stored:
        features = stored['features']
      if features.ndim != 4 or len(features) != size:
        raise ValueError(f'shape {features.shape} for {size} videos')
    except Exception as error:  # a damaged zip raises almost any
      raise ValueError(f'{path} is damaged ({error}); {own_files.REMOVE}'
                       ) from error
    return features

  def _path(self, part):
    return self.out_dir / 'parts' / f'{part:05d}.npz'


def write_features(out_dir, ids, extract, fingerprint, batch_size=8,
                   part_size=256, progress=True):
  """FeatureWriter from start to end in one process."""
  writer = FeatureWriter(out_dir, ids, fingerprint, part_size)
  writer.run(extract, batch_size, progress=progress)
  writer.finish()


def missing_ids(out_dir, videos):
  """Ids of `videos` that have no stored features, in their order.

  The authors leave such videos out of training: `split.without(missing)`.
  """
  stored = set(_manifest(out_dir, 'features')['ids'])
  return [video.id for video in videos if video.id not in stored]


def stored_shape(out_dir):
  """(clips, tokens, width) of the stored features, the same for all videos."""
  return _feature(_open(out_dir, 'features', ())[1][0]).shape


class FeatureStore:
  """The stored features of `videos`, [i] -> float16 [clips, tokens, width].

  missing: 'error' refuses a video without features; 'zeros' gives zeros for
  it, as the authors' code does for test videos (released behaviour).
  """

  def __init__(self, out_dir, videos, missing='error'):
    if missing not in ('error', 'zeros'):
      raise ValueError(f"missing {missing!r}: wanted 'error' or 'zeros'")
    self._out_dir, self._ids = out_dir, [video.id for video in videos]
    self._rows, self._source = _open(
        out_dir, 'features', self._ids, allow_missing=missing == 'zeros')
    self.shape = stored_shape(out_dir)

  def __len__(self):
    return len(self._ids)

  def __getitem__(self, index):
    row = self._rows[index]
    if row is None:
      return np.zeros(self.shape, np.float16)
    return _feature(_checked(
        self._source[row], self._ids[index], self._out_dir))


def write_videos(out_dir, split, progress=True):
  """Stores the encoded media of a split with their captions.

  Returns the skipped records, dicts of id and reason: files that cannot be
  read. A directory that already holds this split is left as it is.
  Errors: ValueError when no file can be read or `out_dir` holds another split.
  """
  from tqdm import tqdm
  skipped = [{'id': video.id, 'reason': f'no file {video.video or video.image}'}
             for video in split.videos if not _readable(video)]
  kept = split.without([record['id'] for record in skipped])
  if not kept.videos:
    raise ValueError(
        f'{split.dataset} {split.name}: none of the {len(split.videos)} files '
        f'can be read, the first is {skipped[0]["reason"]}')
  records.claim(out_dir, {
      'content': 'videos', 'dataset': split.dataset, 'split': split.name,
      'ids': [video.id for video in kept.videos],
      'texts': [[text.id, text.text] for text in kept.texts],
      'text_video': kept.text_video.tolist()})
  if not records.exists(out_dir):
    videos = tqdm(kept.videos, 'storing', unit='video', disable=not progress)
    texts = kept.video_to_text().relevant
    records.write(out_dir, ('id', 'modality', 'media', 'captions'), (
        _video_example(video, [kept.texts[t].text for t in texts[i]])
        for i, video in enumerate(videos)))
  return skipped


def _video_example(video, captions):
  media = video.image if video.video is None else video.video
  if not isinstance(media, bytes):
    media = sources.located(media)
    media = pathlib.Path(media).read_bytes() if os.path.exists(media) else (
        containers.read(media))
  return {'id': video.id.encode(), 'media': media,
          'modality': b'image' if video.video is None else b'video',
          'captions': json.dumps(captions).encode()}


def _readable(video):
  media = video.image if video.video is None else video.video
  return isinstance(media, bytes) or (
      isinstance(media, (str, os.PathLike)) and (
          os.access(path := sources.located(media), os.R_OK)
          or sources.is_file(path)))


class VideoStore:
  """The stored media of `videos`, [i] -> Item with the encoded bytes."""

  def __init__(self, out_dir, videos):
    self._out_dir, self._ids = out_dir, [video.id for video in videos]
    self._rows, self._source = _open(out_dir, 'videos', self._ids)

  def __len__(self):
    return len(self._ids)

  def __getitem__(self, index):
    example = _checked(
        self._source[self._rows[index]], self._ids[index], self._out_dir)
    modality = example['modality'].decode()
    return types.Item(self._ids[index], **{modality: example['media']})


def _open(out_dir, content, ids, allow_missing=False):
  """(row of each id in the data source, or None; the data source)."""
  manifest = _manifest(out_dir, content)
  if not records.exists(out_dir):
    raise ValueError(
        f'{out_dir}: writing the {content} was not finished; run it again')
  row_of = {video_id: row for row, video_id in enumerate(manifest['ids'])}
  missing = [video_id for video_id in ids if video_id not in row_of]
  if missing and not allow_missing:
    raise ValueError(
        f'{out_dir} has no {content} of {missing[0]!r} ({len(missing)} of '
        f'{len(ids)} are missing); store them too or leave them out')
  return [row_of.get(video_id) for video_id in ids], records.read(out_dir)


def _manifest(out_dir, content):
  manifest = records.read_manifest(out_dir)
  if manifest.get('content') != content:
    raise ValueError(
        f'{out_dir} holds {manifest.get("content")}, wanted {content}')
  ids = manifest.get('ids')
  if not isinstance(ids, list) or not all(isinstance(i, str) for i in ids):
    raise ValueError(f'{out_dir}: its manifest.json has no list of ids; write '
                     'the data set again')
  return manifest


def _checked(example, video_id, out_dir):
  found = example['id'].decode()
  if found != video_id:
    raise ValueError(
        f'{out_dir}: the record of {video_id!r} belongs to {found!r}: '
        'manifest.json and records/ do not match; write the data set again')
  return example


def _feature(example):
  # Not np.load: it parses the header as Python, which several threads must not
  # do at once in CPython 3.11 (SystemError: AST constructor recursion depth).
  data = example['features']
  start = 10 + int.from_bytes(data[8:10], 'little')
  shape, dtype = _header(data[:start])
  return np.frombuffer(data, dtype, offset=start).reshape(shape)


@functools.lru_cache
def _header(data):
  """(shape, dtype) of an .npy header; all features of a data set share one.

  The constructor of a store asks first, in one thread.
  """
  with io.BytesIO(data) as file:
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
  return shape, dtype


def _npy(array):
  file = io.BytesIO()
  np.save(file, np.ascontiguousarray(array))
  return file.getvalue()


def _unfinished(out_dir, pending, n_parts):
  return (f'{out_dir}: {len(pending)} of {n_parts} parts are missing, the '
          f'first is {pending[0]}; run the extraction again, it goes on there')


def _first_repeated(ids):
  seen = set()
  for video_id in ids:
    if video_id in seen:
      return video_id
    seen.add(video_id)
  return None
