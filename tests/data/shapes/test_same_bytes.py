"""A corpus and what is made of it are the same bytes in other processes.

Two of them, with other numbers of threads and other hashes of strings, which
decide the order of sets.
"""
import hashlib
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

SIZES = {'train': 12, 'validation': 4, 'test': 4}
ROOT = pathlib.Path(__file__).resolve().parents[3]


def make(directory, n_threads):
  """Everything that is made of a seed, in a directory."""
  from jaxret.data import features, text
  from jaxret.data.sets import shapes as sets_shapes
  from jaxret.data.shapes import languages, mixed, parallel, questions
  from jaxret.data.shapes import world as shapes
  chosen = {'sizes': SIZES, 'seed': 3, 'images': SIZES, 'renderings': 2}
  root = shapes.build(
      directory / 'corpus', **chosen, progress=False, n_threads=n_threads)
  questions.build(directory / 'questions', {'train': 4, 'test': 2}, seed=3,
                  progress=False, n_threads=n_threads)
  split = sets_shapes.load(types.SimpleNamespace(root=root, **chosen), 'train')
  texts = [item.text for item in split.texts]
  for language in languages.LANGUAGES:
    found = parallel.load(root, 'train', language, seed=3, per_image=2)
    texts += [item.text for item in (*found.texts, *found.translations)]
  names = [item.id for found in mixed.training_sets(root, 3, 160).values()
           for item in found.pool]
  (directory / 'texts').write_text('\n'.join(texts + names))
  # More than a thousand captions are counted by several threads.
  text.train_tokenizer(texts * 20, 700, directory / 'tokenizer')
  features.write_videos(directory / 'videos', split, progress=False)
  values = np.random.default_rng(3).standard_normal(
      (len(split.videos), 3, 2, 8)).astype(np.float16)
  features.write_features(
      directory / 'features', [item.id for item in split.videos],
      values.__getitem__, {'of': 'test'}, progress=False)


def contents(directory):
  """{file: digest of its bytes, or of the records in it}."""
  from jaxret.data import records
  found = {}
  for file in sorted(directory.rglob('*')):
    # A container also holds when it was made, and its size.
    if file.is_file() and '/records/' not in str(file):
      found[str(file.relative_to(directory))] = hashlib.sha256(
          file.read_bytes()).hexdigest()
  for name in ('videos', 'features'):
    found[f'{name}/records'] = hashlib.sha256(b''.join(
        key.encode() + b'=' + value for example in records.read(
            directory / name)
        for key, value in sorted(example.items()))).hexdigest()
  return found


@pytest.mark.slow
def test_two_processes_with_other_threads_make_the_same_bytes(tmp_path):
  found = []
  for n_threads in (1, 5):
    directory = tmp_path / str(n_threads)
    subprocess.run(
        [sys.executable, '-m', 'tests.data.shapes.test_same_bytes', directory,
         str(n_threads)], check=True, cwd=ROOT, env={
             **os.environ, 'PYTHONHASHSEED': str(n_threads),
             'RAYON_NUM_THREADS': str(n_threads),
             'OMP_NUM_THREADS': str(n_threads)})
    found.append(contents(directory))
  first, again = found
  assert list(first) == list(again)
  assert not [name for name in first if first[name] != again[name]]
  kinds = {name.rpartition('.')[2] for name in first}
  assert {'mp4', 'png', 'json', 'texts', 'videos/records',
          'features/records'} <= kinds
  assert 'tokenizer/tokenizer.json' in first


if __name__ == '__main__':
  make(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
