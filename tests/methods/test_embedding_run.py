"""Whole runs of UNITE: both stages, the comparison, results, and again."""
import json

import numpy as np
import pytest
from PIL import Image

import jaxret
from jaxret import train
from tests import tiny_embedding, tiny_runs

# Whole runs, or other programs beside ours: left to `make test-slow`.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_device')]

TASKS = {'text_to_video', 'video_to_text', 'text_to_image', 'image_to_text',
         'text_to_text', 'image_text_to_image', 'video_text_to_video'}
ROWS = ['stage1', 'plain', 'unite']


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """(workdir, flags, results) of the default config at tiny size.

  It is stopped after the first step of the last training and started again.
  """
  root = tmp_path_factory.mktemp('trained')
  flags = tiny_embedding.shapes_flags(root / 'shapes')
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(train.Interruption, 'requested', lambda self, step: (
        step == 1 and (root / 'run' / 'plain' / 'checkpoints' / '2').exists()))
    assert tiny_embedding.run('', root / 'run', *flags) == 130
  assert not (root / 'run' / 'results.json').exists()
  assert tiny_embedding.run('', root / 'run', *flags) == 0
  return root / 'run', flags, tiny_runs.results(root / 'run')


def steps(workdir):
  return [json.loads(line)['step']
          for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def test_run_leaves_what_was_promised(trained):
  workdir, _, results = trained
  for name in ('config.json', 'tokenizer', 'stage1/checkpoints/2',
               'plain/checkpoints/2', 'checkpoints/2', 'results.txt',
               'report.html', 'embeddings'):
    assert (workdir / name).exists(), name
  assert set(results['tasks']) == TASKS and results['main_row'] == 'unite'
  for task in TASKS:
    assert list(results[task]) == ROWS
    assert 0 < results['tasks'][task]['chance'] < 10
    tiny_runs.check_differences(results, task, [('unite', 'plain')])
  assert results['left_out'] == 0
  assert results['means']['unite']['composed']['tasks'] == 2
  page = (workdir / 'report.html').read_text()
  for words in ('after stage 1', 'without the mask of MAMCL'):
    assert words in page


def test_stages_differ_in_their_loss_alone(trained):
  workdir, _, _ = trained
  configs = [json.loads((workdir / name / 'config.json').read_text())
             for name in ('stage1', 'plain', '.')]
  assert [config['loss']['modality_mask'] for config in configs] == [
      False, False, True]
  for name in ('optim', 'train', 'pairs', 'model', 'data'):
    assert configs[1][name] == configs[2][name]


def test_rerun_trains_nothing_and_says_the_same(trained):
  workdir, flags, results = trained
  before = steps(workdir), steps(workdir / 'stage1')
  for task in ('train_and_evaluate', 'evaluate'):
    (workdir / 'results.json').unlink()
    assert tiny_embedding.run(
        '', workdir, *flags, f'--config.task={task}') == 0
    assert tiny_runs.results(workdir) == results
    assert (steps(workdir), steps(workdir / 'stage1')) == before


def test_workdirs_are_loaded_as_models(trained):
  workdir, _, _ = trained
  texts = ['a red circle', {'image': np.zeros((64, 64, 3), np.uint8)}]
  whole, first = (jaxret.load(path).encode(texts, show_progress=False)
                  for path in (workdir, workdir / 'stage1'))
  assert whole.shape == first.shape == (2, 16)
  assert np.abs(whole - first).max() > 1e-4


def own_folder(root, captions):
  root.mkdir()
  for i in range(9):
    pixels = np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(root / f'{i}.png')
  (root / '9.png').write_bytes(b'broken')
  (root / 'captions.json').write_text(json.dumps(captions))
  return root


def test_own_media_are_embedded_and_broken_ones_left_out(
    trained, tmp_path, capsys):
  """With the weights of another run."""
  root = own_folder(tmp_path / 'own', [
      {'image': f'{i}.png', 'caption': f'number {i}'} for i in range(10)])
  assert tiny_embedding.run(
      'folder', tmp_path / 'run', *tiny_embedding.folder_flags(root),
      '--config.task=evaluate', f'--config.init_from={trained[0]}') == 0
  results = tiny_runs.results(tmp_path / 'run')
  assert results['left_out'] == 1 and 'note' not in results
  assert results['text_to_video']['unite']['recall_at_1'] >= 0
  assert results['tasks']['text_to_video']['queries'] == 9
  line, = (tmp_path / 'run' / 'skipped.jsonl').read_text().splitlines()
  assert json.loads(line)['id'] == '9.png'
