"""Whole runs of MM-Embed: stages, mining, reranking, results, and again."""
import json

import pytest

from tests import tiny_mbeir, tiny_mm_embed, tiny_runs

# Whole runs, or other programs beside ours: left to `make test-slow`.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_device')]

TASKS = {'text_to_image', 'image_to_text', 'image_text_to_image',
         'text_to_text', 'image_to_image'}
ROWS = ['start', 'random', 'hard', 'mm_embed']


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """(workdir, flags, results) of the default config at tiny size."""
  root = tmp_path_factory.mktemp('trained')
  flags = tiny_mm_embed.flags(
      {'data.root': root / 'shapes', **tiny_mm_embed.FIELDS})
  assert tiny_mm_embed.run('', root / 'run', *flags) == 0
  return root / 'run', flags, tiny_runs.results(root / 'run')


def files(workdir):
  return {path: path.stat().st_mtime_ns for name in ('embeddings', 'searches',
                                                     'mined', 'reranked')
          for path in (workdir / name).rglob('*.n*') if path.is_file()}


def test_run_leaves_what_was_promised(trained):
  workdir, _, results = trained
  for name in ('config.json', 'tokenizer', 'random/checkpoints/2',
               'hard/checkpoints/2', 'checkpoints/2', 'reranker/checkpoints/2',
               'mined/texts.jsonl', 'results.txt', 'report.html'):
    assert (workdir / name).exists(), name
  assert set(results['tasks']) == TASKS | {f'{task}_local' for task in TASKS}
  assert results['main_row'] in results['text_to_image']
  for task in TASKS:
    reranked = ['reranked'] * (task == 'image_text_to_image')
    assert list(results[task]) == ROWS + reranked
    assert results['tasks'][task]['candidates'] > (
        results['tasks'][f'{task}_local']['candidates'])
  page = (workdir / 'report.html').read_text()
  for words in ('in the union of all pools', 'wrong modality', 'reranked',
                'mined negatives'):
    assert words in page


def test_the_weight_of_the_reranker_is_chosen_on_validation(trained):
  workdir, _, results = trained
  found = results['reranking']
  assert (found['on'], found['halves']) == ('validation', False)
  for where, choices in found['tasks']['image_text_to_image'].items():
    name = 'image_text_to_image' + '_local' * (where == 'local')
    best = max(choices[0]['by_weight'], key=lambda one: one['mrr'])
    assert choices[0]['weight'] in (0, best['weight'])
    if not choices[0]['weight']:
      assert results[name]['reranked'] == results[name]['mm_embed']
  assert 'chosen on validation' in (workdir / 'report.html').read_text()


def test_stages_start_where_they_should(trained):
  workdir, _, _ = trained
  configs = {name: json.loads((workdir / name / 'config.json').read_text())
             for name in ('start', 'random', 'hard', '.')}
  assert [c['starts_from'] for c in configs.values()] == [
      '', 'start', 'start', 'hard']
  assert [c['negatives'] for c in configs.values()] == [
      '', '', 'random', 'random']
  for name in ('model', 'data', 'seed', 'optim'):
    assert configs['random'][name] == configs['hard'][name]


def test_negatives_are_no_positives_and_of_the_pool(trained):
  workdir, _, _ = trained
  found = json.loads(
      (workdir / 'mined/image_to_image.statistics.json').read_text())
  rows = [json.loads(row) for row in
          (workdir / 'mined/image_to_image.jsonl').read_text().splitlines()]
  assert found['queries'] == len(rows) == 48
  def scene(name):
    return name.partition('-')[0].partition('.')[0]
  # Every drawing of the same shapes is an answer; what tells of them is none.
  assert all(scene(row['positive']) == scene(row['query']) for row in rows)
  assert not any(scene(row['negative']) == scene(row['query'])
                 for row in rows if row['negative'].endswith('.png'))


def test_rerun_computes_nothing_again(trained):
  workdir, flags, results = trained
  before = files(workdir)
  assert tiny_mm_embed.run('', workdir, *flags) == 0
  assert files(workdir) == before and before
  assert tiny_runs.results(workdir) == results
  assert tiny_mm_embed.run(
      '', workdir, *flags, '--config.task=evaluate') == 0
  assert files(workdir) == before
  assert tiny_runs.results(workdir) == results


@pytest.fixture
def mbeir(tmp_path, trained):
  """A folder in M-BEIR's layout with real pictures."""
  root = tiny_mbeir.write(tmp_path / 'mbeir')
  pictures = sorted((trained[0].parent / 'shapes/images').glob('*.png'))
  for path, picture in zip(sorted(root.rglob('*.jpg')), pictures):
    path.write_bytes(picture.read_bytes())
  return root


def test_published_weights_on_mbeir(mbeir, tmp_path):
  weights = tiny_runs.ROOT / 'tests/golden/mm_embed/model'
  assert tiny_mm_embed.run('mbeir', tmp_path / 'run', *tiny_mm_embed.flags({
      'model.pretrained': weights, 'data.root': mbeir, 'eval.batch_size': 4,
      'eval.tasks': (tiny_mbeir.TASK, tiny_mbeir.SECOND)})) == 0
  results = tiny_runs.results(tmp_path / 'run')
  assert results[tiny_mbeir.TASK]['mm_embed']['recall_at_10'] == 100


def evaluate_mbeir(trained, root, *more):
  workdir, flags, _ = trained
  return tiny_mm_embed.run('', workdir, *flags, *tiny_mm_embed.flags({
      'task': 'evaluate', 'eval.benchmarks': ('mbeir',), 'eval.root': root,
      'eval.tasks': (tiny_mbeir.TASK, tiny_mbeir.SECOND)}), *more)


def test_evaluate_on_mbeir(trained, mbeir):
  assert evaluate_mbeir(trained, mbeir) == 0
  results = tiny_runs.results(trained[0])
  assert results['dataset'] == 'mbeir'
  assert results['tasks'][tiny_mbeir.TASK]['candidates'] == 6
  assert set(results['reported']) == {'union', 'local'}


def test_kinds_of_negatives_are_rows_of_one_run(trained, tmp_path):
  fields = {name: value for name, value in tiny_mm_embed.FIELDS.items()
            if not name.startswith('hard.')}
  assert tiny_mm_embed.run('negatives', tmp_path / 'run', *tiny_mm_embed.flags({
      'data.root': trained[0].parent / 'shapes', **fields})) == 0
  results = tiny_runs.results(tmp_path / 'run')
  kinds = ['any_modality', 'right_modality', 'random_mined']
  assert list(results['text_to_image']) == ['start', 'random', *kinds,
                                            'mm_embed']
  mined = tmp_path / 'run/mined'
  found = {name: (mined / name / 'image_text_to_image.jsonl').read_text()
           for name in ('', 'any_modality', 'right_modality', 'random')}
  assert len(set(found.values())) == 4
  assert not list(mined.glob('*/embeddings'))  # what all need is there once
  assert '"kind": "wrong_modality"' not in found['right_modality']
