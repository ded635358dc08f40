"""TFDS data sets of plain bytes, without TensorFlow.

One data set is a directory: TFDS in array_record files under records/, and a
manifest.json that says what it was made from.
"""
import contextlib
import io
import json
import pathlib
import shutil
import tempfile

import numpy as np

from jaxret import files, own_files

_VERSION = '1.0.0'
_SPLIT = 'items'  # TFDS reserves 'all'
_MANIFEST = 'manifest.json'


def exists(out_dir):
  """Whether the data set in `out_dir` is complete."""
  folder = pathlib.Path(out_dir, 'records', _VERSION)
  return (folder / 'dataset_info.json').is_file()


def write(out_dir, keys, examples):
  """Writes the data set in the order given; it appears when it is whole.

  examples: iterable of dicts key -> bytes. An interrupted run leaves nothing
  that counts, and the next one starts over.
  """
  import tensorflow_datasets as tfds  # slow to import
  out_dir = pathlib.Path(out_dir)
  for unfinished in out_dir.glob('records/incomplete.*'):
    shutil.rmtree(unfinished)
  # What is left of a data set whose index was lost; TFDS would keep it.
  shutil.rmtree(out_dir / 'records' / _VERSION, ignore_errors=True)
  tfds.disable_progress_bar()

  class Records(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Every field is a scalar of bytes, stored as it is."""
    VERSION = tfds.core.Version(_VERSION)

    def _info(self):
      features = {key: tfds.features.Tensor(shape=(), dtype=np.object_)
                  for key in keys}
      return tfds.core.DatasetInfo(
          builder=self, features=tfds.features.FeaturesDict(features),
          disable_shuffling=True)

    def _split_generators(self, dl_manager):
      return {_SPLIT: self._generate_examples()}

    def _generate_examples(self):
      yield from enumerate(examples)

  builder = Records(data_dir=out_dir, file_format='array_record')
  with (tempfile.TemporaryDirectory() as downloads,
        contextlib.redirect_stdout(io.StringIO())):  # it prints a banner
    builder.download_and_prepare(download_dir=downloads)


def read(out_dir):
  """Random access, safe for threads: len(), [i] -> dict key -> bytes."""
  import tensorflow_datasets as tfds
  folder = pathlib.Path(out_dir, 'records', _VERSION)
  with _named(folder):
    builder = tfds.builder_from_directory(str(folder))
    return _Source(folder, builder.as_data_source(split=_SPLIT))


class _Source:
  """Records that say which directory they are of where one is damaged."""

  def __init__(self, folder, records):
    self._folder, self._records = folder, records

  def __len__(self):
    return len(self._records)

  def __iter__(self):
    return (self[index] for index in range(len(self)))

  def __getitem__(self, index):
    with _named(self._folder):
      found = self._records[index]
      # Of a file that is cut array_record gives None.
      if not all(isinstance(value, bytes) for value in found.values()):
        raise ValueError(f'record {index} is not there')
      return found


@contextlib.contextmanager
def _named(folder):
  """The exceptions of protobuf, TFDS and array_record as one of one line."""
  try:
    yield
  except IndexError:
    raise
  except Exception as error:  # RuntimeError, ParseError, TypeError among others
    reason = str(error).strip().split('\n')[0]
    raise ValueError(
        f'{folder} is damaged ({type(error).__name__}: {reason}); remove '
        f'{folder.parents[1]}, and it is made again') from error


def read_manifest(out_dir):
  """The manifest as a dict; ValueError when `out_dir` holds no data set."""
  path = pathlib.Path(out_dir, _MANIFEST)
  if not path.is_file():
    raise ValueError(
        f'{out_dir} holds no stored videos or features (no {_MANIFEST}); '
        'store them there first or correct the directory')
  return own_files.read_object(
      path, 'remove its directory, and it is made again')


def claim(out_dir, manifest):
  """Writes the manifest, or checks that the one there says the same.

  Errors: ValueError naming the first field that differs.
  """
  path = pathlib.Path(out_dir, _MANIFEST)
  manifest = json.loads(json.dumps(manifest))  # tuples become lists
  if not path.is_file():
    files.write_atomically(path, json.dumps(manifest, indent=1).encode())
    return
  found, wanted = _flat(read_manifest(out_dir)), _flat(manifest)
  for key in {**wanted, **found}:
    old, new = found.get(key), wanted.get(key)
    if old != new:
      raise ValueError(
          f'{out_dir} was made with {_difference(key, old, new)}; remove it or '
          'choose another directory')


def _difference(key, old, new):
  if isinstance(old, list) and isinstance(new, list):
    i = next((i for i, (a, b) in enumerate(zip(old, new)) if a != b),
             min(len(old), len(new)))
    there, now = (repr(v[i]) if i < len(v) else 'none' for v in (old, new))
    return (f'other {key}: {len(old)} there, {len(new)} now, first difference '
            f'at {i}: {there} there, {now} now')
  return f'{key} {old!r}, now it is {new!r}'


def _flat(tree, prefix=''):
  flat = {}
  for key, value in tree.items():
    name = f'{prefix}{key}'
    flat |= _flat(value, f'{name}.') if isinstance(value, dict) else {
        name: value}
  return flat
