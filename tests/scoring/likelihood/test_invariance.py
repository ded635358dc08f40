"""Invariant scores: the same bits however others are scored with them."""
import dataclasses

import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.methods.blim import likelihood as blim_likelihood
from jaxret.scoring.likelihood import score as likelihood
from tests.scoring.likelihood.test_score import compute
from tests.tiny_likelihood import CONFIG, TEXTS, VIDEOS

NARROW = dataclasses.replace(CONFIG, decoder=dataclasses.replace(
    CONFIG.decoder, dtype='bfloat16', param_dtype='bfloat16'))
INVARIANT = likelihood.Options(invariant=True)
EVERY_TEXT, EVERY_VIDEO = range(TEXTS), range(VIDEOS)


@pytest.fixture
def scored(params, features, prompts):
  """Function of options, texts, videos, devices -> Scores in bfloat16."""
  narrow = jax.tree.map(lambda leaf: leaf.astype('bfloat16'), params)
  model = blim_likelihood.likelihood_model(NARROW)
  def score(options=INVARIANT, texts=EVERY_TEXT, videos=EVERY_VIDEO,
            devices=1):
    return compute(narrow, prompts._replace(
        labels=tuple(prompts.labels[t] for t in texts),
        text_prefixes=tuple(prompts.text_prefixes[t] for t in texts)),
                   features[list(videos)], options,
                   sharding.make_mesh(devices=jax.devices()[:devices]), model)
  return score


def check(got, whole, texts=EVERY_TEXT):
  texts = list(texts)
  for name, place in (
      ('text_given_video', np.ix_(range(VIDEOS), texts)), ('text_prior', texts),
      ('video_given_text', np.ix_(texts, range(VIDEOS))),
      ('video_prior', np.ix_(texts, range(VIDEOS)))):
    np.testing.assert_array_equal(
        getattr(got, name), getattr(whole, name)[place], err_msg=name)


@pytest.mark.slow
def test_bits_do_not_depend_on_sizes_of_tiles_or_other_texts(scored):
  whole = scored()
  check(scored(INVARIANT._replace(
      rows=1, columns=2, max_padding=9.0, share=False)), whole)
  check(scored(texts=(5, 1, 3)), whole, texts=(5, 1, 3))


@pytest.mark.slow
def test_bits_do_not_depend_on_the_order_or_other_videos(scored):
  """But for those of videos, whose odds are against all videos in order."""
  whole, backwards = scored(), range(TEXTS)[::-1]
  check(scored(texts=backwards), whole, texts=backwards)
  check(scored(INVARIANT._replace(rows=4, columns=1)), whole)
  for videos in (2, 0, 5, 1, 4, 3), (4, 1):
    got = scored(videos=videos)
    np.testing.assert_array_equal(got.text_prior, whole.text_prior)
    np.testing.assert_array_equal(
        got.text_given_video, whole.text_given_video[list(videos)])


@pytest.mark.slow
def test_bits_do_not_depend_on_the_devices(scored):
  check(scored(devices=8), scored())


@pytest.mark.slow
def test_they_are_scores_as_others_are(scored):
  """Within what bfloat16 allows."""
  for got, want in zip(scored(), scored(likelihood.Options())):
    np.testing.assert_allclose(got, want, atol=0.1)


def test_few_pairs_alone_are_refused(params, features, prompts):
  matrix = np.full((VIDEOS, TEXTS), np.nan, np.float32)
  with pytest.raises(ValueError, match='leave out `invariant`'):
    likelihood.score_texts(
        blim_likelihood.likelihood_model(CONFIG), params,
        sharding.make_mesh(devices=jax.devices()[:1]), prompts, features,
        INVARIANT, matrix, np.eye(VIDEOS, TEXTS, dtype=bool))
