"""BLiM's model: where visual tokens go, and what a sequence may see."""
import dataclasses
import functools

import flax.traverse_util as traverse
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxret.data import types
from jaxret.models import decoder as decoder_lib
from jaxret.models.videochat import model as vlm_lib

VISUAL = types.VISUAL
DECODER = decoder_lib.DecoderConfig(
    vocab_size=30, width=16, mlp_width=24, layers=2, heads=4, kv_heads=2,
    head_width=4)
CONFIG = vlm_lib.VlmConfig(DECODER, visual_width=6, clips=3, tokens_per_clip=2)


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


FEATURES = normal(2, 3, 2, 6)


@functools.cache
def variables():
  return CONFIG.module().init(
      jax.random.key(0), FEATURES, np.full((2, 7), VISUAL))


def apply(method, *args):
  return np.asarray(jax.jit(functools.partial(
      CONFIG.module().apply, method=method))(variables(), *args))


def project(name, x):
  """Linear, exact GELU, linear, in NumPy."""
  part = variables()['params']['projector'][name]
  x = x @ part['in']['kernel'] + part['in']['bias']
  x = x * (1 + special.erf(np.asarray(x) / np.sqrt(2))) / 2
  return np.asarray(x @ part['out']['kernel'] + part['out']['bias'])


@pytest.mark.slow
def test_visual_tokens_are_projected_clip_by_clip():
  got = apply('visual_tokens', FEATURES)
  assert got.shape == (2, 6, 16)
  for b, k, n in np.ndindex(2, 3, 2):
    np.testing.assert_allclose(
        got[b, 2 * k + n], project('vtg', FEATURES[b, k, n]), atol=1e-5)


@pytest.mark.slow
def test_clip_tokens_are_means_of_projections():
  got = apply('clip_tokens', FEATURES)
  assert got.shape == (2, 3, 16)
  of_means = project('tvg', FEATURES.mean(2))
  for b, k in np.ndindex(2, 3):
    want = np.mean([project('tvg', FEATURES[b, k, n]) for n in range(2)], 0)
    np.testing.assert_allclose(got[b, k], want, atol=1e-5)
  assert np.abs(got - of_means).max() > 1e-3  # the order matters


def test_visual_embeddings_fill_the_placeholders_in_order():
  tokens = np.array([[4, VISUAL, VISUAL, 5, VISUAL], [VISUAL, 1, 2, 3, 4]])
  visual = normal(2, 3, 16, seed=1)
  got = apply('embed', tokens, visual)
  table = variables()['params']['decoder']['embed']['embedding']
  for b in range(2):
    seen = 0
    for t, token in enumerate(tokens[b]):
      if token == VISUAL:
        want, seen = visual[b, seen], seen + 1
      else:
        want = table[token]
      np.testing.assert_array_equal(got[b, t], want)
  text = np.array([[4, 7]])
  np.testing.assert_array_equal(apply('embed', text)[0], table[text[0]])


def test_padding_and_hidden_keys_do_not_count():
  x, lengths = normal(2, 6, 16, seed=2), np.array([6, 4])
  want = apply('hidden', x, lengths)
  other = x.copy()
  other[1, 4:] = 9
  np.testing.assert_allclose(
      apply('hidden', other, lengths)[1, :4], want[1, :4], atol=1e-6)
  keys = np.ones((2, 6), bool)
  keys[0, 1:3] = False
  got = apply('hidden', x, lengths, keys)
  np.testing.assert_allclose(got[0, 0], want[0, 0], atol=1e-6)
  assert np.abs(got[0, 3:] - want[0, 3:]).max(-1).min() > 1e-4
  # What is hidden changes nothing after it, and positions stay.
  other = x.copy()
  other[0, 1:3] = 9
  np.testing.assert_allclose(
      apply('hidden', other, lengths, keys)[0, 3:], got[0, 3:], atol=1e-5)


def test_prefix_and_suffix_equal_the_whole_sequence():
  prefix, suffix = normal(2, 4, 16), normal(2, 3, 2, 16, seed=1)
  lengths = np.array([4, 2])
  module = CONFIG.module()
  positions = jnp.broadcast_to(jnp.arange(4), (2, 4))
  last, cache = module.apply(
      variables(), prefix, positions, lengths, method='prefix')
  place = np.arange(6)
  got = module.apply(
      variables(), cache, suffix.reshape(2, 6, 16),
      lengths[:, None] + place % 2,
      (place.reshape(3, 2), place, decoder_lib.causal(2)[0]), method='suffix')
  got = got.reshape(suffix.shape)
  for p, c in np.ndindex(2, 3):
    whole = np.zeros((1, 6, 16), np.float32)
    whole[0, :lengths[p]] = prefix[p, :lengths[p]]
    whole[0, lengths[p]:lengths[p] + 2] = suffix[p, c]
    want = apply('hidden', whole, lengths[p:p + 1] + 2)[0]
    np.testing.assert_allclose(last[p], want[lengths[p] - 1], atol=1e-5)
    np.testing.assert_allclose(
        got[p, c], want[lengths[p]:lengths[p] + 2], atol=1e-5)


def test_the_visual_head_is_float32_in_a_bfloat16_model():
  narrow = dataclasses.replace(
      CONFIG, decoder=dataclasses.replace(
          DECODER, dtype='bfloat16', param_dtype='bfloat16'))
  module = narrow.module()
  params = jax.eval_shape(
      module.init, jax.random.key(0), FEATURES, np.full((2, 7), VISUAL))
  flat = traverse.flatten_dict(params['params'], sep='/')
  assert flat.pop('visual_head/kernel').dtype == jnp.float32
  assert {leaf.dtype for leaf in flat.values()} == {jnp.dtype(jnp.bfloat16)}
  terms, queries = jax.eval_shape(
      module.apply, params, FEATURES, np.full((2, 7), VISUAL))
  assert queries.dtype == jnp.float32
  assert {leaf.dtype for leaf in jax.tree.leaves(terms)} == {
      jnp.dtype(jnp.bfloat16)}


def test_features_of_another_shape_are_refused():
  CONFIG.check_features((3, 2, 6))
  with pytest.raises(ValueError, match=r'\(4, 2, 6\).* wants \(3, 2, 6\)') as (
      caught):
    CONFIG.check_features((4, 2, 6))
  assert '\n' not in str(caught.value)


def test_flops_and_tokens_of_a_step():
  """Counted sequence by sequence: 4 rows, 5 labels, 9 + 7 prefix tokens."""
  batch = {'labels': np.zeros((4, 5)), 'label_length': np.array([5, 2, 3, 5]),
           'text_prefix': np.zeros((4, 7)),
           'text_prefix_length': np.array([7, 7, 6, 5]),
           'visual_prefix_length': np.full(4, 9)}
  # Inputs: all but the last label; all clips but the last.
  vtg, tvg = 9 + 5 - 1, 7 + 3 - 1
  per_row = sum(
      tokens * decoder_lib.flops_per_token(DECODER)
      + decoder_lib.attention_flops(DECODER, tokens) for tokens in (vtg, tvg))
  per_row += 5 * decoder_lib.head_flops(DECODER)
  assert vlm_lib.train_flops(CONFIG, False, batch) == 3 * 4 * per_row
  assert vlm_lib.train_flops(CONFIG, True, batch) == 2 * 4 * per_row
  assert vlm_lib.train_tokens(CONFIG, batch) == 15 + 25 + 4 * 9 + 4 * 3
