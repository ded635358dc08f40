"""`folder_qwen3vl`: a whole run with a model that continues prompts."""
import json

import jax
import numpy as np
import PIL.Image
import pytest

import jaxret
from jaxret import main
from tests import tiny_prompted as tiny
from tests import tiny_runs

MODEL = tiny.GOLDEN / 'qwen3_vl' / 'model'
# Of four images, one or two each.
CAPTIONS = tuple(tiny.TEXTS[2 * i:2 * i + 1 + i % 2] for i in range(4))
FLAGS = {'model.pretrained': MODEL, 'model.dtype': 'float32',
         'model.param_dtype': 'float32', 'vision.image_px': 32}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Four images with captions, and one that is none."""
  root = tmp_path_factory.mktemp('folder')
  entries = [{'image': 'bad.png', 'caption': 'nothing'}]
  (root / 'bad.png').write_bytes(b'\x89PNG\r\n\x1a\n')
  for i, pixels in enumerate(tiny.ITEMS[:4]):
    PIL.Image.fromarray(pixels).save(root / f'{i}.png')
    entries.append({'image': f'{i}.png',
                    'caption': list(CAPTIONS[i])})
  (root / 'captions.json').write_text(json.dumps(entries))
  return root


def flags(folder, **fields):
  return tiny_runs.flags({'data.root': folder, **FLAGS} | fields)


@pytest.mark.slow
def test_results_are_those_of_the_library(folder, tmp_path):
  assert tiny_runs.run('folder_qwen3vl', tmp_path, *flags(
      folder, **{'eval.prior': 'black', 'eval.instruction': 'What is it?'})
      ) == 0
  results = tiny_runs.results(tmp_path)
  assert results['sizes'] == {'videos': 4, 'texts': 6}
  assert results['left_out'] == 1
  assert 'candidate_likelihood' not in results['text_to_video']
  assert results['weights']['video_to_text']['cpn']['alpha'] == 0.8
  scores = jaxret.score_matrix(
      [str(folder / f'{i}.png') for i in range(4)], sum(CAPTIONS, ()),
      MODEL, prior='black', instruction='What is it?')
  np.testing.assert_allclose(
      np.load(tmp_path / 'scores' / 'test' / 'text_given_video.npy'),
      scores.text_given_video, atol=2e-5)
  image_of = np.repeat(np.arange(4), list(map(len, CAPTIONS)))
  right = image_of[scores.video_to_text().argmax(1)] == np.arange(4)
  assert results['video_to_text']['blim']['recall_at_1'] == pytest.approx(
      100 * np.mean(right))
  assert (tmp_path / 'report.html').is_file()


@pytest.mark.parametrize('fields, said', [
    ({'task': 'train_and_evaluate'}, "has no effect: set task='evaluate'"),
    ({'task': 'extract'}, "task 'extract' is not there for model.backbone"),
    ({'eval.zero_shot': False}, 'holds no checkpoints: train there first'),
    ({'model.backbone': 'llava'},
     "model.backbone is 'llava': use blim, or one of qwen2_vl, qwen2_5_vl"),
    ({'model.backbone': 'qwen2_vl'}, "set model.backbone='qwen3_vl'"),
    ({'model.pretrained': ''}, 'set model.pretrained'),
    ({'eval.mode': 'reference'}, "eval.mode other than 'shared' has no effect"),
    ({'eval.exact_topk': 3}, 'eval.exact_topk has no effect'),
    ({'eval.invariant': True}, 'eval.invariant has no effect'),
    ({'eval.nonzero_denominator': True}, 'nonzero_denominator has no effect'),
    ({'eval.prior': 'white'}, "prior is 'white': use one of mask, grey"),
    ({'data.max_caption_tokens': 1}, '0.png#0: .* tokens, want at most 1'),
])
def test_what_does_not_go_together_is_one_line(
    folder, tmp_path, capsys, fields, said):
  assert tiny_runs.run('folder_qwen3vl', tmp_path, *flags(
      folder, **fields)) == 1
  assert said.split(' .* ')[0] in capsys.readouterr().err


@pytest.mark.slow
def test_a_trained_run_scores_in_both_directions(folder, tmp_path):
  """Both losses fall; evaluated again, and by the library, scores are alike."""
  given = flags(folder, **{
      'model.clips': 2, 'model.lora.rank': 2, 'train.batch_size': 6,
      'mesh.data': 1, 'mesh.fsdp': 2, 'mesh.tensor': 4,
      'train.epochs': 12.0, 'train.log_every_steps': 1,
      'optim.learning_rate': 1e-2, 'optim.weight_decay': 0.0})
  assert tiny_runs.run('folder_qwen3vl_train', tmp_path, *given) == 0
  lines = [json.loads(line) for line in
           (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  for part, by in (('vtg_loss', 0.2), ('tvg_loss', 0.02)):
    assert lines[-1][part] < lines[0][part] - by
  results = tiny_runs.results(tmp_path)
  assert {'candidate_likelihood', 'query_likelihood', 'cpn', 'bidirectional',
          'blim'} <= results['text_to_video'].keys() & results[
              'video_to_text'].keys()
  assert results['weights']['text_to_video']['blim']['query_weight'] == 1.0
  kept = {name: np.load(tmp_path / 'scores' / 'test' / f'{name}.npy')
          for name in ('text_given_video', 'video_given_text')}
  (tmp_path / 'scores' / 'test' / 'video_given_text.npy').unlink()
  assert tiny_runs.run('folder_qwen3vl_train', tmp_path, *given,
                       '--config.task=evaluate') == 0
  again = tiny_runs.results(tmp_path)
  assert again['text_to_video'] == results['text_to_video']
  scores = jaxret.score_matrix(
      [str(folder / f'{i}.png') for i in range(4)], sum(CAPTIONS, ()),
      tmp_path)
  assert scores.chosen.on == 'paper'
  for name, matrix in kept.items():
    np.testing.assert_allclose(getattr(scores, name), matrix, atol=2e-5)
  mine = jaxret.load_generator(tmp_path)
  by_adapter = jaxret.load_generator(MODEL, adapter=tmp_path / 'adapter')
  untrained = jaxret.load_generator(MODEL)
  assert mine.params['params'].keys() == by_adapter.params['params'].keys()
  moved = jax.tree.map(
      lambda ours, theirs, old: (np.testing.assert_allclose(
          ours, theirs, atol=1e-6), np.abs(ours - old).max())[1],
      *(one.params for one in (mine, by_adapter, untrained)))
  assert moved['params']['decoder']['layers']['attention']['q']['kernel'] > 1e-4


@pytest.mark.slow
def test_the_library_takes_such_a_config(folder):
  config = main.load_config(f'{tiny_runs.CONFIG}:folder_qwen3vl')
  config.update_from_flattened_dict(FLAGS | {
      'model.pretrained': str(MODEL), 'eval.zero_shot_alpha': (0.0, 0.3)})
  given = [str(folder / '0.png')], tiny.TEXTS[:2]
  found = jaxret.score_matrix(*given, config)
  assert found.chosen.weights['video_to_text'].alpha == 0.3
