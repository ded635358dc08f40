"""What runs have in common: what their weights were trained on."""
import json

import pytest
from ml_collections import ConfigDict

from jaxret import run as run_lib
from jaxret.data.sets import splits as sources


def folder(root):
  """Two clips and their captions; their names are those of every folder."""
  root.mkdir()
  for i in range(2):
    (root / f'{i}.mp4').write_bytes(b'x')
  (root / 'captions.json').write_text(json.dumps([
      {'video': f'{i}.mp4', 'caption': 'a clip'} for i in range(2)]))
  return root


def run(workdir, root, init_from='', trained=True):
  """The config of a run on a folder, which has left it in its workdir."""
  config = ConfigDict({'init_from': str(init_from), 'data': {
      'name': 'folder' if root else 'shapes', 'root': str(root),
      'train_on_all': True}})
  (workdir / 'checkpoints' if trained else workdir).mkdir(parents=True)
  (workdir / 'config.json').write_text(json.dumps(config.to_dict()))
  return config


def note(config, workdir):
  return sources.note(run_lib.trained_on(config, workdir),
                      sources.load(config.data, 'test'))


def test_clips_that_were_trained_on_are_told(tmp_path):
  own = folder(tmp_path / 'own')
  config = run(tmp_path / 'run', own)
  assert 'the same clips' in note(config, tmp_path / 'run')
  config = run(tmp_path / 'later', own, tmp_path / 'run', trained=False)
  assert 'the same clips' in note(config, tmp_path / 'later')
  other = folder(tmp_path / 'other')
  run(tmp_path / 'between', other, tmp_path / 'run')
  config = run(tmp_path / 'last', own, tmp_path / 'between', trained=False)
  assert 'the same clips' in note(config, tmp_path / 'last')


@pytest.mark.parametrize('seen', ['shapes', 'other', 'gone', 'nothing'])
def test_weights_that_never_saw_the_clips_are_not_told_off(tmp_path, seen):
  """Nothing is trained here: the weights come from another run, or files."""
  first = ''
  if seen != 'nothing':
    first = tmp_path / 'first'
    run(first, '' if seen == 'shapes' else tmp_path / seen)
  folder(tmp_path / 'other')
  config = run(tmp_path / 'run', folder(tmp_path / 'own'), first, trained=False)
  assert note(config, tmp_path / 'run') == ''


def test_splits_of_one_folder_are_kept_apart(tmp_path):
  root = folder(tmp_path / 'own')
  (root / 'captions.json').write_text(json.dumps([
      {'video': f'{i}.mp4', 'caption': 'a clip', 'split': split}
      for i, split in enumerate(('train', 'test'))]))
  assert note(run(tmp_path / 'run', root), tmp_path / 'run') == ''
