"""A model of likelihoods that is open gives what one that is not does."""
import jax
import numpy as np
import pytest

import jaxret
from jaxret import sharding
from jaxret.methods.blim import features as features_lib
from jaxret.methods.blim import opened, prompted_run
from tests import tiny_prompted, tiny_runs


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """(workdir, videos, texts) of a whole run, tiny."""
  import json

  from ml_collections import ConfigDict

  from jaxret.data import sets
  root = tmp_path_factory.mktemp('opened')
  flags = tiny_runs.shapes_flags(root / 'corpus')
  assert tiny_runs.run('', root / 'run', *flags) == 0
  config = json.loads((root / 'run' / 'config.json').read_text())
  split = sets.load(ConfigDict(config).data, 'test')
  return (root / 'run', [video.video for video in split.videos],
          [text.text for text in split.texts])


@pytest.mark.slow
def test_scores_are_the_same_and_no_video_is_decoded_twice(
    trained, monkeypatch):
  workdir, videos, texts = trained
  want = jaxret.score_matrix(videos, texts, workdir)
  model = opened.open_likelihood(workdir)
  decoded, frames_of = [], features_lib.frames_of
  def spy(config, items):
    decoded.extend(item.id for item in items)
    return frames_of(config, items)
  monkeypatch.setattr(features_lib, 'frames_of', spy)
  for order in (slice(1, 3), slice(None), slice(None, None, -1)):
    got = jaxret.score_matrix(videos[order], texts, model)
    np.testing.assert_allclose(
        got.text_given_video, want.text_given_video[order], atol=1e-5)
    if len(got.text_given_video) == len(videos):  # P(video | text) is of a set
      np.testing.assert_allclose(
          got.text_to_video(), want.text_to_video()[:, order], atol=2e-5)
  assert len(decoded) == len(set(decoded)) == len(videos)
  with pytest.raises(ValueError, match='lives on another one'):
    jaxret.score_matrix(videos, texts, model, mesh=sharding.make_mesh(
        devices=jax.devices()[:1]))


@pytest.mark.slow
def test_a_model_that_continues_prompts():
  model = tiny_prompted.qwen3_vl()
  assert opened.open_likelihood(model) is model
  assert opened.continues_prompts(model)
  path = tiny_prompted.GOLDEN / 'qwen3_vl' / 'model'
  found = opened.open_likelihood(path, tiny_prompted.one_device())
  items, texts = tiny_prompted.ITEMS[:2], tiny_prompted.TEXTS[:2]
  np.testing.assert_allclose(
      jaxret.score_matrix(items, texts, found).text_given_video,
      jaxret.score_matrix(items, texts, path, mesh=found.mesh
                          ).text_given_video, atol=1e-6)
  assert prompted_run.opened(found, None) is found


@pytest.mark.parametrize('given', ['elsewhere', 'empty'])
def test_what_scores_nothing_is_said(tmp_path, given):
  (tmp_path / 'empty').mkdir()
  with pytest.raises(ValueError, match='no config.json|no such directory|hub'):
    opened.open_likelihood(str(tmp_path / given))


@pytest.mark.slow
def test_scores_in_8_bits_are_near_and_kept_apart(trained, tmp_path):
  pytest.importorskip('qwix')
  workdir, videos, texts = trained
  model = opened.open_likelihood(workdir)
  want = jaxret.score_matrix(videos, texts, model, workdir=tmp_path)
  got = jaxret.score_matrix(videos, texts, model.in_8_bits())
  for name in ('text_given_video', 'video_given_text'):
    difference = np.abs(getattr(got, name) - getattr(want, name)).max()
    assert 1e-6 < difference < 0.05
  with pytest.raises(ValueError, match='other inputs: weights'):
    jaxret.score_matrix(videos, texts, model.in_8_bits(), workdir=tmp_path)


def test_a_model_that_continues_prompts_scores_in_8_bits():
  pytest.importorskip('qwix')
  model = tiny_prompted.qwen3_vl()
  given = tiny_prompted.ITEMS[:2], tiny_prompted.TEXTS[:2]
  want = jaxret.score_matrix(*given, model).text_given_video
  got = jaxret.score_matrix(*given, model.in_8_bits()).text_given_video
  assert 1e-6 < np.abs(got - want).max() < 0.1
