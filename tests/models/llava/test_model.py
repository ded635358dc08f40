"""LLaVA-NeXT in small: images among words, shared beginnings, odds."""
import functools

import jax
import numpy as np
import pytest

from jaxret.data.llava import images as llava_images
from jaxret.data.llava import questions as rerank_inputs
from jaxret.models import clip, decoder, encoder
from jaxret.models.llava import model as llava_next

WORDS = np.array([3, 5])
GRID = llava_images.Grid(8, 4)
DECODER = decoder.DecoderConfig(
    vocab_size=20, width=16, mlp_width=24, layers=2, heads=4, kv_heads=2,
    head_width=4, rope_theta=100.0, norm_eps=1e-5, qkv_bias=False)
VISION = clip.ClipVisionConfig(encoder.EncoderConfig(
    12, 20, 2, 3, 'quick_gelu'), GRID.image_px, GRID.patch_px)
RERANKER = llava_next.LlavaNextConfig(DECODER, VISION)


@pytest.fixture(scope='module')
def reranker():
  return jax.jit(functools.partial(llava_next.init, RERANKER))(
      jax.random.key(1))


def prompts(count, seed):
  """Prompts with the same image and question, then own images and words."""
  rng = np.random.default_rng(seed)
  order = llava_images.token_order((1, 1), GRID)
  def image():
    return rng.integers(
        0, 256, (1, GRID.image_px, GRID.image_px, 3), np.uint8)
  def words(n):
    return rng.integers(0, DECODER.vocab_size, n), np.full(n, -1), np.full(n, 0)
  def visual(number):
    return (np.full(len(order), rerank_inputs.VISUAL),
            np.full(len(order), number), order)
  first, start, between = image(), words(2), words(1 + seed)
  made = []
  for number in range(count):
    parts = [start, visual(0), between, visual(1), words(1 + number)]
    tokens, its, patch = (np.concatenate(x).astype(np.int32)
                          for x in zip(*parts))
    made.append(rerank_inputs.Inputs(
        f'p{number}', tokens, its, patch, (first, image())))
  return made


@pytest.mark.slow
def test_prompts_that_share_a_beginning_give_the_same_probabilities(reranker):
  """Q queries with prefixes and suffixes of several lengths, in one batch."""
  groups = [prompts(count, seed) for seed, count in enumerate((3, 1, 2))]
  shape = rerank_inputs.group_shape(groups)
  batch = rerank_inputs.pad_groups(groups, shape, GRID)
  # The image of the query is before the cut, those of candidates behind it;
  # of a query with one candidate all is shared, but for the last token.
  assert batch['pixels'].shape[:2] == (3, 2)
  assert not batch['pixels'][[0, 2], 1].any()
  assert batch['suffix_pixels'].shape[:3] == (3, 3, 1)
  got = np.asarray(jax.jit(
      llava_next.p_true_of_suffixes, static_argnums=0)(
          RERANKER, reranker, batch, WORDS))
  for row, group in enumerate(groups):
    whole = rerank_inputs.pad(group, rerank_inputs.Shape(
        max(len(one.tokens) for one in group), 2), GRID)
    want = jax.jit(llava_next.p_true, static_argnums=0)(
        RERANKER, reranker, whole, WORDS)
    np.testing.assert_allclose(got[row, :len(group)], want, atol=1e-6)


@pytest.mark.slow
def test_p_true_and_the_log_odds_tell_the_same(reranker):
  """Training and asking see the same; the odds have gradients everywhere."""
  groups = [prompts(count, seed) for seed, count in enumerate((3, 2))]
  batch = rerank_inputs.pad_groups(
      groups, rerank_inputs.group_shape(groups), GRID)
  odds, parts = jax.jit(jax.value_and_grad(lambda params: (
      lambda odds: (odds.sum(), odds))(llava_next.log_odds(
          RERANKER, params, batch, WORDS)), has_aux=True))(reranker)
  got = jax.jit(llava_next.p_true_of_suffixes, static_argnums=0)(
      RERANKER, reranker, batch, WORDS)
  np.testing.assert_allclose(got, jax.nn.sigmoid(odds[1]), atol=1e-6)
  for path, part in jax.tree_util.tree_leaves_with_path(parts):
    assert np.isfinite(part).all() and np.abs(part).max() > 0, path


def test_visual_tokens_fill_their_index_and_the_newline_comes_first(reranker):
  rng = np.random.default_rng(3)
  pixels = rng.integers(
      0, 256, (2, 2, GRID.image_px, GRID.image_px, 3), np.uint8)
  tokens = np.array([[4, 0, 0, 7], [1, 0, 2, 0]])
  index = np.array([[-1, 3, 0, -1], [-1, 8, -1, 5]])
  module = RERANKER.module()
  got = jax.jit(functools.partial(module.apply, method='inputs'))(
      reranker, tokens, pixels, index)
  # Of one crop alone.
  alone = jax.jit(functools.partial(module.apply, method='visual_tokens'))(
      reranker, pixels.reshape(4, 1, *pixels.shape[2:])).reshape(
          2, 2, -1, DECODER.width)
  params = reranker['params']
  words = np.asarray(params['decoder']['embed']['embedding'])
  n_patches = GRID.side ** 2
  for row, column in np.ndindex(tokens.shape):
    place = index[row, column]
    if place < 0:
      want = words[tokens[row, column]]
    elif place == 0:
      want = params['image_newline']
    else:
      crop, patch = divmod(place - 1, n_patches)
      want = alone[row, crop, 1 + patch]
    np.testing.assert_allclose(got[row, column], want, atol=1e-5)
