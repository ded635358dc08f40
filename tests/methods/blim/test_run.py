"""Whole runs: from files to a report, again from what the workdir holds."""
import json
import os
import subprocess
import sys
import wave

import numpy as np
import pytest
from PIL import Image

from jaxret import checkpoint, sharding
from jaxret.data import features, sets
from jaxret.methods import blim
from jaxret.models import adapter_import
from jaxret.models.videochat import files as videochat
from tests import tiny_runs

# Whole runs: left to `make test-slow`.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_device')]

ROWS = ('candidate_likelihood', 'query_likelihood', 'cpn', 'bidirectional',
        'blim')
WEIGHTED = ROWS[2:]
ALL_QUERIES = ['blim_dual_softmax', 'blim_qb_norm',
               'candidate_likelihood_dual_softmax',
               'candidate_likelihood_qb_norm']
HUBNESS = {'skewness_at_1', 'skewness_at_10', 'never_first',
           'most_often_first'}
SUMMARY = {'recall_at_1', 'recall_at_5', 'recall_at_10', 'median_rank',
           'mean_rank', 'mrr', 'recall_at_1_ci95'}


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """(workdir, flags, results) of the default config at tiny size."""
  root = tmp_path_factory.mktemp('trained')
  flags = tiny_runs.shapes_flags(root / 'shapes')
  assert tiny_runs.run('', root / 'run', *flags) == 0
  return root / 'run', flags, tiny_runs.results(root / 'run')


def losses(workdir):
  return [json.loads(line)['loss']
          for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def files(directory):
  """{path: (time of the last change, size)}."""
  return {path: (path.stat().st_mtime_ns, path.stat().st_size)
          for path in directory.rglob('*') if path.is_file()}


def matrix(workdir, name):
  return np.load(workdir / 'scores' / 'test' / f'{name}.npy')


def test_run_leaves_what_was_promised(trained):
  workdir, _, results = trained
  for name in ('config.json', 'metrics.jsonl', 'checkpoints/2', 'results.txt',
               'scores/validation', 'scores/test', 'report.html'):
    assert (workdir / name).exists(), name
  assert np.isfinite(losses(workdir)).all()
  assert np.isfinite(losses(workdir / 'tower')).all()
  assert results['dataset'] == 'shapes' and results['split'] == 'test'
  assert results['sizes'] == {'videos': 6, 'texts': 6}
  assert results['left_out'] == 0 and 'note' not in results
  assert results['invariant_scores'] is False
  rows = {*ROWS, *ALL_QUERIES, *(
      f'{row}_{suffix}' for row in WEIGHTED for suffix in ('paper', 'oracle'))}
  assert results['all_queries_at_once'] == ALL_QUERIES
  for direction in ('text_to_video', 'video_to_text'):
    assert results[direction].keys() == rows
    assert all(row.keys() == SUMMARY for row in results[direction].values())
    weights = results['weights'][direction]
    assert weights['blim']['chosen_on'] == 'validation'
    assert weights['blim_paper']['chosen_on'] == 'paper'
    assert weights['blim_oracle']['chosen_on'] == 'test'
    assert weights['blim_qb_norm'].keys() == {
        'chosen_on', 'alpha', 'query_weight', 'temperature'}
    assert weights['candidate_likelihood_qb_norm'].keys() == {
        'chosen_on', 'temperature'}
    assert results['hubness'][direction].keys() == set(ROWS)
    assert all(hubs.keys() == HUBNESS
               for hubs in results['hubness'][direction].values())
    tiny_runs.check_differences(results, direction, blim.PAIRS)
  assert matrix(workdir, 'text_given_video').shape == (6, 6)


def test_rerun_repeats_nothing_and_says_the_same(trained):
  workdir, flags, results = trained
  kept = {directory: files(workdir / directory) for directory in (
      'checkpoints', 'tower/checkpoints', 'features', 'scores', 'videos',
      'media')}
  lines = losses(workdir)
  for task in ('train_and_evaluate', 'evaluate'):
    (workdir / 'results.json').unlink()
    assert tiny_runs.run('', workdir, *flags, f'--config.task={task}') == 0
    assert tiny_runs.results(workdir) == results
    assert losses(workdir) == lines
    for directory, before in kept.items():
      assert files(workdir / directory) == before, directory


def test_two_processes_do_what_one_does(trained, tmp_path):
  """Training, extraction and scoring over one mesh of two processes."""
  workdir, flags, _ = trained
  environment = {
      **os.environ, 'PYTHON': sys.executable, 'XLA_FLAGS': os.environ[
          'XLA_FLAGS'].replace('device_count=8', 'device_count=1')}
  done = subprocess.run(
      [tiny_runs.ROOT / 'launch' / 'local.sh', '2',
       f'--config={tiny_runs.ROOT}/configs/blim.py', f'--workdir={tmp_path}',
       *flags, "--config.eval.splits=('test',)"],
      cwd=tiny_runs.ROOT, env=environment, capture_output=True, text=True,
      timeout=600)
  assert done.returncode == 0, done.stderr[-2000:]
  assert "2 cpu, mesh {'data': 2, 'fsdp': 1, 'tensor': 1}" in done.stderr
  assert done.stdout.count('chance R@1') == 1
  for directory in ('tower', '.'):
    np.testing.assert_allclose(
        losses(tmp_path / directory), losses(workdir / directory), rtol=1e-5)
  for name in ('text_given_video', 'video_given_text', 'text_prior',
               'video_prior'):
    np.testing.assert_allclose(
        matrix(tmp_path, name), matrix(workdir, name), rtol=1e-5, atol=1e-5)
  assert tiny_runs.results(tmp_path)['sizes'] == {'videos': 6, 'texts': 6}


def first_ranked(scores, keep, answers):
  """Ranks by a double loop: what is not kept comes last, ties count."""
  ranks = []
  for row, kept, answer in zip(scores, keep, answers):
    row = [score if k else -100.0 for score, k in zip(row, kept)]
    ranks.append(sum(score >= row[answer] for score in row))
  return np.array(ranks)


def test_cascade_scores_what_the_first_stage_keeps(trained, tmp_path):
  """In a fresh workdir, by matrices in the layout of the converter."""
  workdir, flags, _ = trained
  random = np.random.default_rng(0)
  first_stage = {'text_to_video': random.normal(size=(6, 6)),
                 'video_to_text': random.normal(size=(6, 6))}
  np.savez(tmp_path / 'test.npz', **first_stage)
  assert tiny_runs.run(
      '', tmp_path / 'run', *flags, '--config.task=evaluate',
      f'--config.init_from={workdir}', "--config.eval.splits=('test',)",
      f'--config.eval.first_stage={tmp_path}/{{split}}.npz',
      '--config.eval.topk=2') == 0
  results = tiny_runs.results(tmp_path / 'run')
  either = np.zeros((6, 6), bool)  # [V, T]
  for direction, name in (('text_to_video', 'video_given_text'),
                          ('video_to_text', 'text_given_video')):
    order = np.argsort(-first_stage[direction], 1)
    keep = np.zeros((6, 6), bool)
    for query in range(6):
      keep[query, order[query, :2]] = True
    either |= keep if direction == 'video_to_text' else keep.T
    ranks = first_ranked(matrix(workdir, name), keep, range(6))
    row = results[direction]['candidate_likelihood']
    assert row['mean_rank'] == pytest.approx(ranks.mean())
    assert row['recall_at_1'] == pytest.approx(100 * np.mean(ranks == 1))
    assert {'first_stage', 'ensemble', 'blim'} <= results[direction].keys()
    assert results['weights'][direction]['blim']['chosen_on'] == 'paper'
    assert 'blim_paper' not in results[direction]
  scored = matrix(tmp_path / 'run', 'text_given_video')
  np.testing.assert_array_equal(np.isfinite(scored), either)
  np.testing.assert_allclose(
      scored[either], matrix(workdir, 'text_given_video')[either], atol=1e-5)


def test_cascade_over_the_tower_reads_the_scores_that_are_there(trained):
  workdir, flags, full = trained
  before = files(workdir / 'scores')
  assert tiny_runs.run('', workdir, *flags, '--config.task=evaluate',
                       '--config.eval.first_stage=tower',
                       '--config.eval.topk=6') == 0
  results = tiny_runs.results(workdir)
  assert files(workdir / 'scores') == before
  for direction in ('text_to_video', 'video_to_text'):
    # Rows that need all pairs are not those of a cascade.
    assert results[direction].items() >= {
        row: numbers for row, numbers in full[direction].items()
        if row not in ALL_QUERIES}.items()
    assert not results[direction].keys() & set(ALL_QUERIES)
    assert 'ensemble_oracle' in results[direction]


def test_zero_shot_uses_captions_given_videos_alone(trained, tmp_path):
  workdir, flags, full = trained
  assert tiny_runs.run(
      '', tmp_path, *flags, '--config.task=evaluate',
      f'--config.init_from={workdir}', '--config.eval.zero_shot=True',
      "--config.eval.splits=('test',)", '--config.eval.invariant=True',
      '--config.eval.zero_shot_alpha=(0.0,0.7)') == 0
  results = tiny_runs.results(tmp_path)
  assert results['invariant_scores'] is True
  assert 'tiles</dt><dd>fixed' in (tmp_path / 'report.html').read_text()
  assert results['text_to_video'].keys() == {
      'query_likelihood', 'blim', 'blim_oracle'}
  assert results['video_to_text'].keys() == {
      'candidate_likelihood', 'cpn', 'blim', 'cpn_oracle', 'blim_oracle'}
  for direction, there in (('text_to_video', {'query_likelihood', 'blim'}),
                           ('video_to_text', {'candidate_likelihood', 'cpn',
                                              'blim'})):
    tiny_runs.check_differences(results, direction, [
        pair for pair in blim.PAIRS if there.issuperset(pair)])
  for direction, row in (('text_to_video', 'query_likelihood'),
                         ('video_to_text', 'candidate_likelihood')):
    assert results[direction][row] == full[direction][row]
  assert results['weights']['video_to_text']['cpn'] == {
      'chosen_on': 'paper', 'alpha': 0.7}
  assert not (tmp_path / 'scores' / 'test' / 'video_given_text.npy').exists()


@pytest.fixture
def folder(tmp_path):
  """Six files, three of them good, with captions in every form."""
  root = tmp_path / 'clips'
  (root / 'videos').mkdir(parents=True)
  for name, n_frames in (('moving.mp4', 12), ('single.mp4', 1)):
    (root / 'videos' / name).write_bytes(tiny_runs.video_bytes(1, n_frames))
  (root / 'broken.mp4').write_bytes(tiny_runs.video_bytes(2)[:200])
  with wave.open(str(root / 'sound.mp4'), 'wb') as sound:
    sound.setparams((1, 2, 8000, 0, 'NONE', ''))
    sound.writeframes(bytes(800))
  Image.new('RGB', (40, 30), 'red').save(root / 'still.png')
  (root / 'captions.json').write_text(json.dumps([
      {'video': 'moving.mp4', 'caption': ['noise that moves', 'grey noise']},
      {'video': 'broken.mp4', 'caption': 'nothing'},
      {'video': 'single.mp4', 'caption': 'a single frame of noise'},
      {'video': 'sound.mp4', 'caption': 'a sound'},
      {'image': 'still.png', 'caption': 'all is red'},
      {'video': 'lost.mp4', 'caption': 'no such file'},
      {'video': 'moving.mp4', 'caption': 'the first one again'}]))
  return root


@pytest.mark.parametrize('store_videos', [False, True])
def test_bad_files_are_listed_and_the_run_goes_on(
    trained, folder, tmp_path, capsys, store_videos):
  workdir, _, _ = trained
  flags = tiny_runs.folder_flags(folder, **{
      'init_from': workdir, 'data.store_videos': store_videos,
      'eval.zero_shot': True})
  out = tmp_path / 'run'
  assert tiny_runs.run('folder', out, *flags, '--config.task=extract') == 0
  skipped = [json.loads(line) for line in
             (out / 'skipped.jsonl').read_text().splitlines()]
  for split in ('train', 'test'):
    reasons = {record['id']: record['reason'] for record in skipped
               if record['split'] == split}
    assert reasons.keys() == {'broken.mp4', 'sound.mp4', 'lost.mp4'}
    assert reasons['sound.mp4'] == 'no video stream'
    assert 'no' in reasons['lost.mp4'] and reasons['broken.mp4']
    manifest = json.loads(
        (out / 'features' / split / 'manifest.json').read_text())
    assert manifest['ids'] == ['moving.mp4', 'single.mp4', 'still.png']
  assert not (out / 'results.json').exists()
  if store_videos:
    return
  kept = files(out / 'features')
  assert tiny_runs.run('folder', out, *flags, '--config.task=evaluate') == 0
  assert files(out / 'features') == kept
  results = tiny_runs.results(out)
  assert results['sizes'] == {'videos': 3, 'texts': 5}
  assert results['left_out'] == 3
  assert 'left out: 3 items' in capsys.readouterr().out
  assert 'note' not in results  # the weights have seen shapes world alone
  # A video with three captions is found by its best ranked one.
  scores = matrix(out, 'text_given_video')
  answers = [0, 0, 1, 2, 0]
  order = np.argsort(answers, kind='stable')
  assert scores.shape == (3, 5) and list(order) == [0, 1, 4, 2, 3]
  captions_of = [[0, 1, 4], [2], [3]]
  ranks = [min(sum(s >= row[c] for s in row) for c in mine)
           for row, mine in zip(scores, captions_of)]
  assert results['video_to_text']['candidate_likelihood'][
      'mean_rank'] == pytest.approx(np.mean(ranks))


@pytest.fixture(scope='module')
def msrvtt(tmp_path_factory):
  """(root, features): the authors' JSON files, imported features, no video."""
  root = tmp_path_factory.mktemp('msrvtt')
  entries = [{'video': f'video{i}.mp4', 'caption': f'{i} of some kind'}
             for i in range(20)]
  for split, some in (('train', entries[:14] + entries[:3]),
                      ('test', entries[14:])):
    (root / f'msrvtt_ret_{split}.json').write_text(json.dumps(some))
  random = np.random.default_rng(0)
  # Video 13 has none: it is left out of training.
  ids = [f'video{i}' for i in range(20) if i != 13]
  features.write_features(
      root / 'features', ids, lambda indices: random.normal(
          size=(len(indices), *tiny_runs.FEATURE_SHAPE)),
      {'source': 'converted .pth files'}, progress=False)
  return root


@pytest.fixture(scope='module')
def released(tmp_path_factory):
  """A tiny model under the released names, for imported features."""
  directory = tmp_path_factory.mktemp('released') / 'model'
  tiny_runs.write_released_model(
      directory, ['some of some kind'], tiny_runs.FEATURE_SHAPE[2])
  return directory


@pytest.fixture(scope='module')
def lora_run(msrvtt, released, tmp_path_factory):
  """(workdir, flags) of `configs/blim.py:msrvtt` with LoRA at rank 2."""
  flags = tiny_runs.flags({
      'data.root': msrvtt, 'data.features': msrvtt / 'features',
      'model.pretrained': released, 'model.lora.rank': 2,
      'model.tokens_per_clip': 4, 'model.visual_width': 8,
      'eval.splits': "('test',)", 'model.remat': 'none',
      'model.lora.dropout': 0.0, 'train.batch_size': 8,
      'train.accumulation_steps': 1, 'train.epochs': 3.0,
      'eval.max_padding': 10.0})
  workdir = tmp_path_factory.mktemp('lora') / 'run'
  assert tiny_runs.run('msrvtt', workdir, *flags) == 0
  return workdir, flags


def test_lora_trains_on_imported_features(lora_run):
  workdir, _ = lora_run
  results = tiny_runs.results(workdir)
  assert results['sizes'] == {'videos': 6, 'texts': 6}
  assert results['left_out'] == 1
  assert 'video13' in (workdir / 'skipped.jsonl').read_text()
  assert np.isfinite(losses(workdir)).all()
  with checkpoint.Checkpoints(workdir / 'checkpoints', None, True) as saved:
    tree = saved._manager.restore(saved.latest_step())
  paths = sharding.flatten(tree['trainable'])
  # Two linears of two projectors, q, k, v, o and the head: two factors each.
  assert len(paths) == 2 * 9 + 1
  assert all(path.startswith('lora/') or path == 'params/visual_head/kernel'
             for path in paths)
  assert len(sharding.flatten(tree['optimizer'])) < 3 * len(paths)
  adapter = adapter_import.import_peft(workdir / 'adapter')
  assert adapter.scale == 32 / 2
  exported = sharding.flatten({'lora': adapter.lora})
  for path, array in exported.items():
    np.testing.assert_array_equal(array, paths[path])
  assert any(np.abs(array).max() > 0 for path, array in exported.items()
             if path.endswith('/b'))


def test_each_split_is_read_once(lora_run, msrvtt, tmp_path, monkeypatch):
  """Its captions say as well what the rows of a first stage are."""
  read, load = [], sets.load
  def counted(config, split):
    read.append(split)
    return load(config, split)
  monkeypatch.setattr(sets, 'load', counted)
  np.savez(tmp_path / 'test.npz', text_to_video=np.zeros((6, 6)),
           video_to_text=np.zeros((6, 6)))
  _, flags = lora_run
  assert tiny_runs.run(
      'msrvtt', tmp_path / 'run', *flags, '--config.task=extract',
      f'--config.eval.first_stage={tmp_path}/{{split}}.npz') == 0
  assert sorted(read) == ['test', 'train']


def test_lora_is_restored_on_its_pretrained_base(lora_run, tmp_path):
  """Scores of a later evaluation, all computed anew, are those of the run."""
  workdir, flags = lora_run
  results = tiny_runs.results(workdir)
  for name in ('config.json', 'checkpoints'):
    (tmp_path / name).symlink_to(workdir / name)
  assert tiny_runs.run('msrvtt', tmp_path, *flags,
                       '--config.task=evaluate') == 0
  assert tiny_runs.results(tmp_path) == {**results, 'left_out': 0}
  np.testing.assert_array_equal(matrix(tmp_path, 'video_given_text'),
                                matrix(workdir, 'video_given_text'))


def test_released_model_scores_own_clips_zero_shot(
    folder, tmp_path, monkeypatch):
  """`folder_7b`: frames through the checkpoint's tower, no training."""
  for name, value in tiny_runs.TINY_TOWER.items():
    monkeypatch.setattr(videochat, name, value)
  tiny_runs.write_released_model(
      tmp_path / 'model', ['some captions of clips'], 16)
  flags = tiny_runs.flags({
      'data.root': folder, 'model.pretrained': tmp_path / 'model',
      'model.tokens_per_clip': 4, 'vision.tokens_per_clip': 4,
      'vision.image_px': 32, 'eval.max_padding': 10.0})
  out = tmp_path / 'run'
  assert tiny_runs.run('folder_7b', out, *flags) == 0
  results = tiny_runs.results(out)
  assert results['sizes'] == {'videos': 3, 'texts': 5}
  assert results['left_out'] == 3 and 'note' not in results
  stored = features.FeatureStore(out / 'features' / 'test', [])
  assert stored.shape == (4, 4, 16)
  assert 'query_likelihood' in results['text_to_video']
  assert 'candidate_likelihood' not in results['text_to_video']
