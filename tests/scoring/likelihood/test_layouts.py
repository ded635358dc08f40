"""What is laid out is what is computed."""
import numpy as np
import pytest

from jaxret.scoring.likelihood import layouts
from jaxret.scoring.likelihood import score as likelihood
from tests import tiny_likelihood as tiny

OPTIONS = likelihood.Options(rows=2, columns=3, max_padding=9.0)


def test_the_tokens_of_a_cascade_are_known_before_it_runs(
    params, features, prompts):
  mesh = tiny.one_device()
  keep = np.random.default_rng(3).random((tiny.VIDEOS, tiny.TEXTS)) < 0.3
  common = tiny.MODEL, params, mesh, prompts, features
  by_video = np.full(keep.shape, np.nan, np.float32)
  tokens = likelihood.score_texts(*common, OPTIONS, by_video, keep)
  assert tokens == sum(strip.tokens for strip in layouts.packed_captions(
      prompts, OPTIONS, mesh, keep)) > 0
  by_text = np.full(keep.T.shape, np.nan, np.float32)
  tokens = likelihood.score_videos(
      *common, features.mean(2), OPTIONS, by_text, keep.T)
  assert tokens == sum(strip.tokens for strip in layouts.packed_clips(
      prompts, OPTIONS, mesh, keep.T, tiny.CONFIG.clips)) > 0


@pytest.mark.parametrize('share', [True, False])
def test_all_pairs_are_laid_out_once(prompts, share):
  mesh, seen = tiny.one_device(), np.zeros((tiny.VIDEOS, tiny.TEXTS), int)
  strips, inputs_of = layouts.captions(
      prompts.labels, OPTIONS._replace(share=share), mesh,
      layouts.visual_prefixes(prompts, tiny.VIDEOS), None)
  for strip in strips:
    for t, tile in enumerate(strip.tiles):
      seen[np.ix_(strip.rows, tile.columns)] += 1
      (tokens, depth, _, _), labels, lengths = inputs_of(strip, t)
      assert tokens.shape == (1, len(depth))
      for place, text in enumerate(tile.columns):
        np.testing.assert_array_equal(
            labels[0, place, :lengths[0, place]], prompts.labels[text])
  assert (seen == 1).all()
  seen[:] = 0
  for strip in layouts.clips(
      prompts, OPTIONS, mesh, (tiny.VIDEOS, tiny.CONFIG.clips), None):
    for tile in strip.tiles:
      seen[np.ix_(tile.columns, strip.rows)] += 1
  assert (seen == 1).all()
