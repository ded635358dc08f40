"""The library call: what it gives, and what it refuses before any work."""
import json
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import jaxret
from jaxret import main, metrics, sharding
from jaxret.data import sets
from tests import tiny_runs


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """(workdir, test Split) of a whole run, tiny."""
  root = tmp_path_factory.mktemp('score')
  flags = tiny_runs.shapes_flags(root / 'corpus')
  assert tiny_runs.run('', root / 'run', *flags) == 0
  config = json.loads((root / 'run' / 'config.json').read_text())
  split = sets.load(ConfigDict(config).data, 'test')
  return root / 'run', split


@pytest.mark.slow
def test_scores_are_those_of_the_run(trained):
  """From paths and strings, in another order; and the same from features."""
  workdir, split = trained
  order = np.random.default_rng(0).permutation(len(split.videos))
  texts = [text.text for text in split.texts][::-1]
  scores = jaxret.score_matrix(
      [split.videos[v].video for v in order], texts, workdir)
  for name, place in (
      ('text_given_video', np.ix_(order, np.arange(len(texts))[::-1])),
      ('video_given_text', np.ix_(np.arange(len(texts))[::-1], order))):
    stored = np.load(workdir / 'scores' / 'test' / f'{name}.npy')
    np.testing.assert_allclose(
        getattr(scores, name), stored[place], atol=1e-5)
  prior = np.load(workdir / 'scores' / 'test' / 'text_prior.npy')
  np.testing.assert_allclose(scores.text_prior, prior[::-1], atol=1e-5)
  assert scores.video_prior.shape == scores.video_given_text.shape
  # Ranked as the run's own row of BLiM, by what its validation chose.
  results = json.loads((workdir / 'results.json').read_text())
  assert scores.chosen.on == 'validation'
  for direction, relevant in (
      ('text_to_video', split.text_to_video().relevant),
      ('video_to_text', split.video_to_text().relevant)):
    matrix = getattr(scores, direction)()
    undo = [np.argsort(order), np.arange(len(texts))[::-1]]
    matrix = matrix[np.ix_(*(
        undo if direction == 'video_to_text' else undo[::-1]))]
    found = metrics.summary(metrics.ranks(matrix, relevant))
    assert found == results[direction]['blim']

  first = scores.video_given_text
  kept = jaxret.score_matrix(
      [split.videos[v].video for v in order], texts, workdir,
      first_stage=first, topk=2)
  best = np.zeros(first.shape, bool)
  np.put_along_axis(best, np.argsort(-first, 1)[:, :2], True, 1)
  best_texts = np.zeros(first.T.shape, bool)
  np.put_along_axis(best_texts, np.argsort(-first.T, 1)[:, :2], True, 1)
  wanted = best | best_texts.T
  np.testing.assert_array_equal(~np.isnan(kept.video_given_text), wanted)
  np.testing.assert_allclose(
      kept.video_given_text[wanted], first[wanted], atol=1e-5)


@pytest.mark.slow
def test_the_first_clips_choose_candidates(trained, tmp_path):
  """Less the prior times the alpha that validation chose for BLiM."""
  workdir, split = trained
  given = ([video.video for video in split.videos],
           [text.text for text in split.texts], workdir)
  kept = jaxret.score_matrix(
      *given, first_stage='clip', topk=2, workdir=tmp_path)
  first = np.load(tmp_path / 'first_clip.npy')
  alpha = kept.chosen.weights['text_to_video'].alpha
  wanted = np.zeros(first.shape, bool)
  for scores, mask in ((first - alpha * kept.video_prior, wanted),
                       (first.T, wanted.T)):
    for query, row in enumerate(scores):
      for candidate in sorted(range(len(row)), key=lambda c: -row[c])[:2]:
        mask[query, candidate] = True
  np.testing.assert_array_equal(~np.isnan(kept.video_given_text), wanted)
  whole = jaxret.score_matrix(*given).video_given_text
  np.testing.assert_allclose(
      kept.video_given_text[wanted], whole[wanted], atol=1e-5)


def test_a_head_that_is_untrained_gives_no_first_clips():
  config = main.load_config(f'{tiny_runs.CONFIG}:folder_7b')
  with pytest.raises(ValueError, match='head that predicts clips is untr'):
    jaxret.score_matrix(FEATURES, ['a'], config, first_stage='clip', topk=1)


SCORE = """
import sys, warnings
warnings.simplefilter('always')
import jaxret
jaxret.score_matrix(sys.argv[2:], ['a red square'], sys.argv[1])
"""


@pytest.mark.slow
def test_no_library_warns_while_a_workdir_scores(trained):
  workdir, split = trained
  answer = subprocess.run(
      [sys.executable, '-c', SCORE, workdir,
       *(video.video for video in split.videos[:2])], cwd=tiny_runs.ROOT,
      check=True, capture_output=True, text=True,
      env={**os.environ, 'JAX_PLATFORMS': 'cpu'})
  said = [line for line in re.split(r'[\r\n]+', answer.stderr)
          if line and not re.match(r'[a-z ]+: +\d+%\|', line)]  # our progress
  assert (answer.stdout, said) == ('', [])


FEATURES = np.zeros((2, 2, 2, 16), np.float32)  # as tiny_runs.TINY says
BAD = FEATURES.copy()
BAD[1, 0, 1, 3] = np.nan


@pytest.fixture(scope='module')
def untrained(tmp_path_factory):
  """The workdir of a run that has made its tokenizer and nothing else."""
  workdir = tmp_path_factory.mktemp('untrained')
  config = main.load_config(str(tiny_runs.CONFIG))
  with config.unlocked():
    config.update_from_flattened_dict(tiny_runs.TINY)
  (workdir / 'config.json').write_text(json.dumps(config.to_dict()))
  tiny_runs.text.train_tokenizer(['a dog'], 300, workdir / 'tokenizer')
  return workdir


@pytest.mark.parametrize('videos, texts, options, message', [
    (FEATURES, ['a', ' '], {}, "text 1 is ' '"),
    (FEATURES, ['a', None], {}, 'text 1 is None'),
    (FEATURES, 'a dog', {}, 'got one str, wanted a list'),
    (FEATURES, [], {}, 'no texts'),
    ([], ['a'], {}, 'no videos'),
    (['x.mp4', 'x.mp4'], ['a'], {}, "'x.mp4' is there twice"),
    (['missing.mp4'], ['a'], {}, 'missing.mp4'),
    ({7: 'missing.mp4'}, ['a'], {}, '7: no such file'),
    ({7: ['missing.png', b'x']}, ['a'], {}, '7: it has 2 videos, want one'),
    ({7: BAD[1]}, ['a'], {}, "features of '7' hold"),
    (BAD, ['a'], {}, "features of 'video 1' hold values that are not finite"),
    ({'cat': BAD[0], 'dog': BAD[1]}, ['a'], {}, "features of 'dog' hold"),
    (FEATURES[:, :, :, :5], ['a'], {}, 'features of a video have shape'),
    (FEATURES, ['many words ' * 600], {}, "caption 'text 0' has .* tokens"),
    (['missing.mp4'], ['a', 'many words ' * 600], {}, "caption 'text 1' has"),
    (FEATURES, ['a'], {'topk': 1}, 'go together'),
    (FEATURES, ['a'], {'topk': 1, 'first_stage': 'tower'},
     "first_stage is 'tower': give 'clip' or scores"),
    (FEATURES, ['a'], {'topk': 1, 'first_stage': np.zeros((2, 1))},
     r'first_stage has shape \(2, 1\), wanted \(1, 2\)'),
    (FEATURES, ['a'], {'topk': 1, 'first_stage': np.array([[1.0, np.nan]])},
     'first_stage holds NaN'),
    (FEATURES, ['a'], {'mode': 'fast'}, "mode is 'fast'"),
])
def test_bad_input_is_refused_in_one_line(
    untrained, videos, texts, options, message):
  """Before any work: there are no weights here to do it with."""
  with pytest.raises(ValueError, match=message) as caught:
    jaxret.score_matrix(videos, texts, untrained, **options)
  assert '\n' not in str(caught.value)
  with pytest.raises(ValueError, match='no checkpoints in'):
    jaxret.score_matrix(FEATURES, ['a'], untrained)


@pytest.mark.slow
def test_published_weights_score_as_they_are(tmp_path):
  """Zero-shot, from a config; full passes of each pair say the same."""
  width = tiny_runs.FEATURE_SHAPE[2]
  tiny_runs.write_released_model(tmp_path / 'model', ['some words'], width)
  config = main.load_config(f'{tiny_runs.CONFIG}:folder_7b')
  with config.unlocked():
    config.update_from_flattened_dict({
        'model.pretrained': str(tmp_path / 'model'), 'model.dtype': 'float32',
        'model.param_dtype': 'float32', 'model.tokens_per_clip': 4,
        'model.visual_width': width})
  features = np.random.default_rng(0).normal(
      size=(2, *tiny_runs.FEATURE_SHAPE)).astype(np.float32)
  texts = ['some words', 'words', 'some more words']
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  got, want = (jaxret.score_matrix(features, texts, config, mode=mode,
                                   mesh=mesh)
               for mode in ('shared', 'reference'))
  assert got.video_given_text is None and got.text_given_video.shape == (2, 3)
  np.testing.assert_allclose(
      got.text_given_video, want.text_given_video, atol=1e-5)
  assert np.ptp(got.text_given_video, 0).min() > 1e-4  # videos differ


def test_a_directory_that_is_no_run_is_refused(tmp_path):
  with pytest.raises(ValueError, match='holds no config.json'):
    jaxret.score_matrix(FEATURES, ['a'], tmp_path)
