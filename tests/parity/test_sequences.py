"""Scores of suffixes against transformers' own log-softmax, model by model."""
import numpy as np
import pytest

import jaxret
from jaxret import embedder
from jaxret.models import clip
from jaxret.models.qwen2_vl import vision
from tests import tiny_generators as tiny

pytestmark = pytest.mark.slow
ATOL = 1e-4


@pytest.fixture(scope='module')
def live():
  pytest.importorskip('torch')
  pytest.importorskip('transformers')
  from tests.parity import live_models
  return live_models


def check(ours, prefixes, suffixes, log_softmax, atol=ATOL):
  """log_softmax: (prompt, tokens [T] of prompt and suffix) -> [T, V]."""
  found = jaxret.score_sequences(prefixes, suffixes, ours, per_token=True,
                                 show_progress=False)
  for p, prefix in enumerate(prefixes):
    prompt = ours.reader(embedder.as_item(prefix, p))
    for s, suffix in enumerate(suffixes):
      ids = ours.reader.suffix(suffix, 'suffix')
      value = log_softmax(prompt, np.concatenate([prompt.tokens, ids]))
      want = value[np.arange(len(ids)) + len(prompt.tokens) - 1, ids]
      np.testing.assert_allclose(
          found.token_log_likelihood[p, s], want, atol=atol)
      np.testing.assert_allclose(
          found.log_likelihood[p, s], want.sum(), atol=atol)
  assert np.ptp(found.log_likelihood, 0).max() > 1  # prefixes matter


@pytest.mark.parametrize('tied', [False, True])
def test_qwen2_vl_scores_texts_images_and_videos(live, tied, tmp_path):
  theirs = live.qwen2_vl(tmp_path, tied)
  ours = jaxret.load_generator(tmp_path, resolution=tiny.RESOLUTION)
  check(ours, tiny.prefixes(), tiny.SUFFIXES,
        lambda prompt, tokens: live.qwen2_vl_log_softmax(
            theirs, tokens.tolist(), prompt.kinds, prompt.grids,
            [np.array(vision.pixel_values(x)) for x in prompt.patches]))


@pytest.mark.parametrize('tied', [False, True])
def test_qwen2_scores_texts(live, tied, tmp_path):
  theirs = live.qwen2(tmp_path, tied)
  check(jaxret.load_generator(tmp_path), tiny.prefixes()[:3], tiny.SUFFIXES,
        lambda prompt, tokens: live.text_log_softmax(theirs, tokens.tolist()))


def test_llava_next_scores_texts_and_images(live, tmp_path):
  theirs = live.llava_next(tmp_path)
  ours = jaxret.load_generator(tmp_path)
  sizes = {'one': (8, 16), 'two': (30, 12), 'three': (8, 8)}
  images = {name: tiny.pixels(i, *size)
            for i, (name, size) in enumerate(sizes.items())}
  prefixes = ['a dog', {'image': images['one'], 'id': 'one'},
              {'image': images['two'], 'text': 'A photo of a', 'id': 'two'},
              {'image': [images['three'], images['one']], 'id': 'three one',
               'text': 'First <|IMAGE|> and then <|IMAGE|>, a'}]
  image_id = theirs.config.image_token_index
  def log_softmax(prompt, tokens):
    return live.llava_next_log_softmax(
        theirs, np.where(tokens < 0, image_id, tokens).tolist(),
        [sizes[name] for name in prompt.id.split() if name in sizes],
        [np.array(clip.pixel_values(x)) for x in prompt.images])
  check(ours, prefixes, (' dog', ' dog runs', 'yes', ' cat sleeps'),
        log_softmax)
