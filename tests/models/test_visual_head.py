"""The visual head on a backbone: rows, prefixes and queries by hand."""
import functools

import jax
import numpy as np

from jaxret.models import visual_head
from tests import tiny_prompted as tiny


def test_a_query_is_a_product_with_the_head():
  head = visual_head.init(jax.random.key(0), 6)
  assert head['kernel'].shape == (6, 6) and head['kernel'].dtype == np.float32
  assert 0.01 < np.std(head['kernel']) < 0.03
  hidden = np.random.default_rng(0).normal(size=(2, 3, 6)).astype(np.float32)
  np.testing.assert_allclose(
      visual_head.queries({'params': {'visual_head': head}}, hidden),
      hidden @ np.asarray(head['kernel']), atol=1e-6)


def test_rows_of_clips_are_those_of_a_prefix_and_what_is_behind_it():
  """Row 0 is the text's last; padding and the last clip change nothing."""
  model = tiny.qwen3_vl()
  module, rng = model.module, np.random.default_rng(0)
  tokens = rng.integers(0, 500, (2, 7)).astype(np.int32)
  lengths = np.array([7, 4], np.int32)
  clips = rng.normal(size=(2, 3, module.config.width)).astype(np.float32)
  apply = jax.jit(functools.partial(
      module.apply, model.params, method=visual_head.clip_rows))
  rows = apply(tokens, lengths, clips)
  assert rows.shape == (2, 3, module.config.width)
  positions = np.broadcast_to(np.arange(7, dtype=np.int32), tokens.shape)
  last, _ = jax.jit(functools.partial(
      module.apply, model.params, method=visual_head.text_prefix))(
          tokens, positions, lengths)
  np.testing.assert_allclose(rows[:, 0], last, atol=1e-5)
  tokens[1, 4:] = 9
  clips[:, 2] = 0
  np.testing.assert_allclose(apply(tokens, lengths, clips), rows, atol=1e-5)
  clips[0, 0] += 1
  moved = np.abs(apply(tokens, lengths, clips) - rows).max(-1)
  assert moved[0, 0] < 1e-5 < moved[0, 1] and moved[1].max() < 1e-5
