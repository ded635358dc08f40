"""Bad input is answered by one line, exit code 1, before any work is done."""
import json

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxret import checkpoint
from jaxret.data import features
from tests import tiny_runs


@pytest.fixture
def refused(tmp_path, capsys):
  """Runs what must be refused and returns the line that says why."""
  def run(config, fields, workdir=tmp_path / 'run'):
    assert tiny_runs.run(config, workdir, *tiny_runs.flags(fields)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith('jaxret: ')
    assert not any('Traceback' in line for line in lines)
    for name in ('features', 'scores', 'tower', 'checkpoints'):
      assert not (tmp_path / 'run' / name).exists()
    return lines[-1]
  return run


@pytest.fixture
def clips(tmp_path):
  """A folder of two clips, as `configs/blim.py:folder` reads it."""
  root = tmp_path / 'clips'
  root.mkdir()
  for i in range(2):
    (root / f'{i}.mp4').write_bytes(tiny_runs.video_bytes(i, 2))
  write_captions(root, [{'video': '0.mp4', 'caption': 'one'},
                        {'video': '1.mp4', 'caption': 'a bit longer'}])
  return root


def write_captions(root, entries):
  (root / 'captions.json').write_text(json.dumps(entries))


def tiny(root, **fields):
  return {'data.root': root, **tiny_runs.TINY, 'train.batch_size': 2,
          'tower.train.batch_size': 2, 'mesh.data': 1, 'mesh.tensor': 8,
          **fields}


def test_flags_and_variants(refused):
  assert refused('', {'train.batch_sise': 3}).endswith(
      "config has no key 'train.batch_sise'; did you mean 'train.batch_size'?")
  assert "has no variant 'msrvt'" in refused('msrvt', {})
  assert 'mesh' in refused('', {'mesh.data': 3})


@pytest.mark.parametrize('name, files, source', [
    ('didemo', 'didemo_ret_train.json, didemo_ret_test.json',
     'github.com/LisaAnne/LocalizingMoments'),
    ('activitynet', 'anet_ret_train.json, anet_ret_val_1.json',
     'activity-net.org'),
    ('lsmdc', 'lsmdc_ret_train.json, lsmdc_ret_test_1000.json',
     'describingmovies'),
    ('msrvtt', 'msrvtt_ret_train.json, msrvtt_ret_test.json', 'microsoft.com'),
])
def test_missing_benchmark_says_what_it_is_made_of(
    refused, tmp_path, name, files, source):
  lines = [refused(name, {'model.pretrained': tmp_path, 'data.root': root,
                          'data.features': ''})
           for root in ('', tmp_path / 'nowhere')]
  for line, what in zip(lines, ('is not set', 'is not a directory')):
    assert what in line and files in line and source in line
    assert 'github.com/mlvlab/BLiM' in line


def test_folder_and_captions(refused, clips, tmp_path):
  assert 'data.root is not set' in refused('folder', tiny(''))
  (tmp_path / 'empty').mkdir()
  line = refused('folder', tiny(tmp_path / 'empty'))
  assert f'{tmp_path / "empty"} is empty; wanted captions.json' in line
  write_captions(clips, [{'video': '0.mp4', 'text': 'one'}])
  line = refused('folder', tiny(clips))
  assert "captions.json, entry 1: got fields video, text, wanted 'cap" in line
  write_captions(clips, [{'video': '0.mp4', 'caption': 'one two three'}])
  line = refused('folder', tiny(clips, **{'data.max_caption_tokens': 2}))
  assert "caption '0.mp4#0' has " in line and 'wanted at most 2' in line
  write_captions(clips, [{'video': '0.mp4', 'caption': 'a<|im_end|>b'}])
  assert 'control token <|im_end|>' in refused('folder', tiny(clips))


def test_folder_without_a_file_that_decodes(refused, clips, tmp_path):
  for file in clips.glob('*.mp4'):
    file.write_bytes(b'no video')
  line = refused('folder', tiny(clips))
  assert 'none of the 2 files of folder train can be read' in line
  assert '0.mp4: not a readable video' in line
  assert len((tmp_path / 'run' / 'skipped.jsonl').read_text().split('\n')) == 3


def test_two_files_with_one_id(refused, tmp_path):
  for split in ('train', 'test'):
    (tmp_path / f'msrvtt_ret_{split}.json').write_text(json.dumps([
        {'video': 'a.mp4', 'caption': 'x'}, {'video': 'a.avi', 'caption': 'y'}
    ]))
  line = refused('msrvtt', {'data.root': tmp_path,
                            'data.validation_fraction': 0.0})
  assert 'a.mp4 and ' in line and "have the same id 'a'" in line


@pytest.mark.parametrize('fields, message', [
    ({'train.batch_size': 64, 'train.accumulation_steps': 4},
     '2 examples to train on do not fill 4 micro-batches over 1 devices'),
    ({'mesh.tensor': 1, 'mesh.fsdp': 8},
     'train.batch_size 2 does not split into 1 micro-batches over 8 devices'),
    ({'eval.topk': 4}, 'eval.first_stage is not set'),
    ({'eval.agreement': 0.9, 'eval.topk': 4, 'eval.first_stage': 'clip'},
     'eval.topk is 4 and eval.agreement 0.9'),
    ({'eval.first_stage': 'clip', 'eval.topk': 4, 'eval.zero_shot': True},
     'the head that predicts clips is untrained'),
    ({'eval.invariant': True, 'eval.mode': 'reference'},
     "eval.invariant=True has no tiles for eval.mode='reference'"),
    ({'eval.invariant': True, 'eval.topk': 4, 'eval.first_stage': 'clip'},
     'eval.invariant=True has no tiles for eval.topk'),
    ({'eval.first_stage': 'tower', 'before': '()'}, 'no tower is trained'),
    ({'eval.first_stage': 'no.npz'}, 'no.npz cannot be read'),
    ({'before': "('towr',)"}, "before names 'towr'"),
    ({'eval.splits': '()'}, 'eval.splits is empty'),
    ({'eval.splits': "('val',)"}, "split 'val' is unknown"),
    ({'model.visual_width': 8}, 'have shape (2, 2, 16), the model wants '
     '(2, 2, 8)'),
    ({'before': '()'}, 'no features and no vision tower'),
    ({'task': 'evaluate'}, 'holds no tokenizer: train there first'),
    ({'data.name': 'msrvt'}, "data.name 'msrvt' is unknown"),
    ({'method': 'blimm'}, "unknown method 'blimm'"),
    ({'init_from': 'nowhere'}, 'nowhere holds no tokenizer'),
])
def test_settings_that_do_not_go_together(refused, clips, fields, message):
  assert message in refused('folder', tiny(clips, **fields))


def test_first_stage_of_another_kind(refused, clips, tmp_path):
  fields = tiny(clips, **{'eval.first_stage': tmp_path / '{split}.npz'})
  np.savez(tmp_path / 'test.npz', text_to_video=np.zeros((2, 2)))
  assert 'test.npz has no video_to_text, only text_to_video' in refused(
      'folder', fields)
  np.savez(tmp_path / 'test.npz', text_to_video=np.zeros((3, 2)),
           video_to_text=np.zeros((2, 3)))
  assert 'text_to_video has shape (3, 2), wanted (2, 2) for split test' in (
      refused('folder', fields))


def test_workdir_of_another_config(refused, clips, tmp_path):
  """Refused once there are results; a failed start leaves no trace."""
  workdir = tmp_path / 'other'
  def line_for(batch_size):  # its micro-batches are more than there are clips
    return refused('folder', tiny(clips, **{
        'train.batch_size': batch_size, 'train.accumulation_steps': 16}),
                   workdir)
  line_for(64)
  line_for(32)
  (workdir / 'scores').mkdir()
  line = line_for(16)
  assert f'workdir {workdir} was made by another config' in line
  assert 'train.batch_size was 32, now 16' in line


@pytest.fixture
def stored(clips, tmp_path):
  """Flags that replace the clips by stored features of two videos."""
  features.write_features(
      tmp_path / 'stored', ['0.mp4', '1.mp4'],
      lambda indices: np.zeros((len(indices), *tiny_runs.FEATURE_SHAPE)), {},
      progress=False)
  return {'data.root': clips, 'data.features': tmp_path / 'stored',
          'model.visual_width': tiny_runs.FEATURE_SHAPE[-1],
          'model.tokens_per_clip': 4, 'mesh.data': 1, 'mesh.fsdp': 1,
          'mesh.tensor': 8}


def test_stored_features_that_do_not_fit(refused, clips, stored, tmp_path):
  (clips / '0.mp4').rename(clips / '2.mp4')
  write_captions(clips, [{'video': '2.mp4', 'caption': 'another'}])
  line = refused('folder', stored)
  assert "none of the 1 videos of folder train, whose first id is '2.m" in line
  line = refused('folder', {**stored, 'task': 'evaluate'})
  assert "has no features of '2.mp4' (1 of 1 are missing)" in line


def test_checkpoint_of_another_model(refused, stored, tmp_path):
  """`init_from` a run whose checkpoint lacks a tensor, or has one more."""
  old = tmp_path / 'old'
  tree = {'params': {'decoder': {'final_norm': {'scale': jnp.zeros(128)}}}}
  with checkpoint.Checkpoints(old / 'checkpoints') as checkpoints:
    checkpoints.save(1, {'trainable': tree}, {'n_examples': 2})
  tiny_runs.text.train_tokenizer(['one', 'two'], 300, old / 'tokenizer')
  line = refused('folder', {**stored, 'init_from': old, 'task': 'evaluate'})
  assert "lacks tensor 'params/decoder/embed/embedding' and" in line
  assert 'it belongs to another model' in line


@pytest.mark.parametrize('change, message', [
    ('lost', 'these tensors are missing: model.norm.weight'),
    ('added', 'these tensors fit no parameter: model.extra.weight'),
    ('reshaped', 'model.norm.weight has shape (3,)'),
    ('damaged', 'model.safetensors: model.norm.weight holds NaN or infinity'),
    ('no config', 'config.json: no such file'),
    ('no directory', 'nowhere'),
])
def test_released_model_that_is_not_whole(
    refused, stored, tmp_path, change, message):
  model = tmp_path / 'model'
  tiny_runs.write_released_model(
      model, ['some words'], tiny_runs.FEATURE_SHAPE[-1])
  tensors = safetensors.numpy.load_file(model / 'model.safetensors')
  if change == 'lost':
    del tensors['model.norm.weight']
  elif change == 'added':
    tensors['model.extra.weight'] = np.zeros(3, np.float32)
  elif change == 'reshaped':
    tensors['model.norm.weight'] = np.zeros(3, np.float32)
  elif change == 'damaged':
    tensors['model.norm.weight'][-1] = np.nan
  elif change == 'no config':
    (model / 'config.json').unlink()
  else:
    model = tmp_path / 'nowhere'
  if model.exists():
    safetensors.numpy.save_file(tensors, model / 'model.safetensors')
  line = refused('folder_7b', {**stored, 'model.pretrained': model})
  assert message in line
