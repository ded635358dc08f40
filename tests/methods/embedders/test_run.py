"""configs/embedders.py: a published embedder, evaluated on own media."""
import hashlib
import json
import pathlib

import jax
import numpy as np
import PIL.Image
import pytest

from jaxret import loading, main, sharding
from tests import tables, tiny_runs, tiny_unite

ROOT = pathlib.Path(__file__).resolve().parents[3]
CONFIG = ROOT / 'configs' / 'embedders.py'
MODEL = ROOT / 'tests' / 'golden' / 'siglip2' / 'model'
CAPTIONS = ('a photo of a cat', 'two red balls', 'a dog', 'snow')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  root = tmp_path_factory.mktemp('own')
  for number in range(len(CAPTIONS)):
    PIL.Image.fromarray(tiny_unite.pixels(number, 20, 24)).save(
        root / f'{number}.png')
  (root / 'broken.png').write_bytes(b'no image')
  (root / 'captions.json').write_text(json.dumps([
      *({'image': f'{number}.png', 'caption': caption}
        for number, caption in enumerate(CAPTIONS)),
      {'image': 'broken.png', 'caption': 'nothing'}]))
  return root


def run(folder, workdir, *flags):
  return tiny_runs.run('', workdir, *tiny_runs.flags({
      'data.root': folder, 'model.pretrained': MODEL}), *flags, config=CONFIG)


def test_results_are_those_of_the_loaded_model(folder, tmp_path):
  assert run(folder, tmp_path / 'w') == 0
  found = tiny_runs.results(tmp_path / 'w')
  model = loading.load(MODEL, mesh=sharding.make_mesh(
      devices=jax.devices()[:1]))
  texts = model.encode([*CAPTIONS, 'nothing'], show_progress=False)
  images = model.encode([{'image': str(folder / f'{i}.png')}
                         for i in range(len(CAPTIONS))], show_progress=False)
  scores = texts @ images.T
  firsts = {'text_to_video': np.argmax(scores[:len(CAPTIONS)], 1),
            'video_to_text': np.argmax(scores, 0)}
  for task, best in firsts.items():
    wanted = 100 * np.mean(best == np.arange(len(CAPTIONS)))
    assert found[task]['embedders']['recall_at_1'] == pytest.approx(wanted)
  assert found['left_out'] == 1 and found['model'] == str(MODEL)
  assert (tmp_path / 'w' / 'report.html').is_file()
  # Nothing is embedded twice.
  before = sorted((tmp_path / 'w' / 'embeddings').rglob('*.npy'))
  stamps = [path.stat().st_mtime_ns for path in before]
  assert run(folder, tmp_path / 'w') == 0
  assert [path.stat().st_mtime_ns for path in before] == stamps
  assert tiny_runs.results(tmp_path / 'w') == found


def test_an_option_without_effect_is_refused(folder, tmp_path, capsys):
  assert run(folder, tmp_path, '--config.model.pooling=mean') == 1
  said = capsys.readouterr().err.strip().splitlines()[-1]
  assert 'pooling' in said and 'has no effect' in said


@pytest.mark.parametrize('flags, wanted', [
    (['--config.model.pretrained='], 'model.pretrained is empty'),
    (['--config.eval.benchmarks=()'], 'eval.benchmarks is empty'),
    (['--config.eval.truncate_dim=100000'], 'truncate_dim'),
])
def test_what_is_missing_is_said(folder, tmp_path, capsys, flags, wanted):
  assert run(folder, tmp_path, *flags) == 1
  assert wanted in capsys.readouterr().err.strip().splitlines()[-1]


def test_every_variant_evaluates_what_it_names():
  for variant in ('', 'shapes', 'flickr30k', 'didemo'):
    config = main.load_config(f'{CONFIG}:{variant}')
    assert config.eval.benchmarks == (variant or 'folder',)
    assert config.task == 'evaluate' and config.model.pretrained


def without_source(results):
  """Results, less what says where the data lie."""
  kept = {name: value for name, value in results['protocol'].items()
          if name not in ('source', 'files')}
  return {**results, 'protocol': kept}


def test_a_folder_and_a_parquet_of_it_give_the_same_results(folder, tmp_path):
  rows = json.loads((folder / 'captions.json').read_text())
  tables.parquet(
      tmp_path / 'hub' / 'data' / 'test-00000-of-00001.parquet',
      image=(tables.MEDIUM, [tables.medium(
          (folder / row['image']).read_bytes(), row['image'])
                             for row in rows]),
      caption=[row['caption'] for row in rows])
  assert run(folder, tmp_path / 'a') == 0
  assert run(tmp_path / 'hub', tmp_path / 'b') == 0
  one, other = (tiny_runs.results(tmp_path / name) for name in 'ab')
  assert without_source(one) == without_source(other)
  assert one['protocol']['files'][0]['name'] == 'captions.json'
  (file,) = other['protocol']['files']
  data = tmp_path / 'hub' / file['name']
  assert file['sha256'] == hashlib.sha256(data.read_bytes()).hexdigest()
  assert file['sha256'] in (tmp_path / 'b' / 'report.html').read_text()
  assert other['left_out'] == 1


def test_a_set_of_mteb_has_the_ndcg_of_its_grades(folder, tmp_path):
  root = tmp_path / 'set'
  tables.parquet(root / 'corpus' / 'test-0.parquet', id=list('abcd'),
                 image=(tables.MEDIUM, [tables.medium(
                     (folder / f'{i}.png').read_bytes()) for i in range(4)]))
  tables.parquet(root / 'queries' / 'test-0.parquet', id=['p', 'q'],
                 text=list(CAPTIONS[:2]))
  tables.parquet(root / 'qrels' / 'test-0.parquet', **{
      'query-id': ['p', 'p', 'q'], 'corpus-id': ['a', 'c', 'b'],
      'score': [2, 1, 1]})
  assert run(root, tmp_path / 'w', "--config.eval.benchmarks=('mteb',)") == 0
  found = tiny_runs.results(tmp_path / 'w')
  model = loading.load(MODEL, mesh=sharding.make_mesh(
      devices=jax.devices()[:1]))
  scores = model.encode(list(CAPTIONS[:2]), show_progress=False) @ model.encode(
      [{'image': str(folder / f'{i}.png')} for i in range(4)],
      show_progress=False).T
  grades = np.array([[2, 0, 1, 0], [0, 1, 0, 0]])
  order = np.argsort(-scores, 1)
  gains = np.take_along_axis(grades, order, 1) / np.log2(np.arange(2, 6))
  ideal = -np.sort(-grades, 1) / np.log2(np.arange(2, 6))
  assert found['set']['embedders']['ndcg_at_10'] == pytest.approx(
      100 * np.mean(gains.sum(1) / ideal.sum(1)))
  assert found['protocol']['rows']['set'] == {
      'queries': 2, 'candidates': 4, 'relevant': 3}
  assert 'nDCG@10' in (tmp_path / 'w' / 'report.html').read_text()
