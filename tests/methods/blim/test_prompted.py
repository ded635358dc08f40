"""Scoring with models that continue prompts: against full passes per pair."""
import collections

import jax
import numpy as np
import pytest

import jaxret
from jaxret import sharding
from jaxret.data import types
from jaxret.methods.blim import prompted
from jaxret.scoring.likelihood import filling, kernels
from tests import tiny_prompted as tiny

ATOL = 2e-4


@pytest.fixture(scope='module')
def model():
  return tiny.qwen3_vl()


@pytest.fixture(scope='module')
def found(model):
  """(Scores of all pairs, tokens through the decoder that they took)."""
  with counting() as tokens:
    scores = jaxret.score_matrix(tiny.ITEMS, tiny.TEXTS, model)
  return scores, tokens


class counting:
  """Counts what the compiled parts are given, padding included."""

  def __enter__(self):
    self.patch, tokens = pytest.MonkeyPatch(), collections.Counter()
    prefix, text_tile = kernels.prefix, kernels.text_tile
    def prefixes(model, params, batch):
      tokens['prompts'] += batch['tokens'].size
      return prefix(model, params, batch)
    def texts(model, nonzero, params, first, cache, start, inputs, *labels):
      tokens['texts'] += first.shape[0] * inputs[0].shape[1]
      return text_tile(model, nonzero, params, first, cache, start, inputs,
                       *labels)
    self.patch.setattr(kernels, 'prefix', prefixes)
    self.patch.setattr(kernels, 'text_tile', texts)
    return tokens

  def __exit__(self, *error):
    self.patch.undo()


def test_scores_and_priors_are_those_of_full_passes(model, found):
  scores, _ = found
  assert scores.text_given_video.shape == (12, 20)
  shown = [tiny.asked(item) for item in tiny.ITEMS]
  np.testing.assert_allclose(
      scores.text_given_video,
      tiny.full_passes(model, shown, tiny.TEXTS), atol=ATOL)
  np.testing.assert_allclose(
      scores.text_prior,
      tiny.full_passes(model, shown, tiny.TEXTS, masked=True), atol=ATOL)
  assert np.ptp(scores.text_given_video, 0).min() > 10 * ATOL
  assert np.abs(scores.text_given_video - scores.text_prior
                ).max(1).min() > 10 * ATOL


def test_nothing_is_computed_twice(model, found):
  """At most a tenth more tokens than the least: prompts once, tries behind."""
  answers = [tiny.answer(model, text) for text in tiny.TEXTS]
  shown = [tiny.asked(item) for item in tiny.ITEMS]
  prompts = [len(model.reader(item, chat=True).tokens) for item in shown]
  masked = {(one.tokens.tobytes(), one.positions.tobytes()): len(one.tokens)
            for one in (model.reader.masked(item, chat=True)
                        for item in shown)}
  assert len(masked) < len(shown)
  least = (tiny.least_tokens(prompts, answers)
           + tiny.least_tokens(list(masked.values()), answers))
  assert least < found[1].total() <= 1.1 * least
