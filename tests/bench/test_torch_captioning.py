"""`generate` of transformers writes what the captioning bench writes."""
import functools

import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.bench import captioning
from jaxret.data.qwen2_vl import reader
from jaxret.models import generation
from jaxret.models.qwen2_vl import model

TINY = captioning.PRESETS['tiny']


@pytest.mark.slow
def test_tokens_are_those_of_our_weights():
  pytest.importorskip('torch', reason='the extra `parity` is not installed')
  from jaxret.bench import torch_captioning
  rng = np.random.default_rng(0)
  params = jax.tree.map(
      # Of some size everywhere: what is zero or small would tell nothing.
      lambda leaf: np.asarray(leaf) + rng.normal(
          0, 0.1, leaf.shape).astype(np.float32),
      jax.jit(functools.partial(model.init, TINY))(jax.random.key(0)))
  shown = captioning.prompts(TINY, 3)
  got = torch_captioning.generator(
      TINY, params, shown, captioning.SPECIAL, 6)()
  shape = reader.shape_of(len(shown[0].tokens), shown[0].grids)
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  batch = sharding.global_batch(mesh, reader.pad(
      shown, shape, captioning.SPECIAL, mrope=True))
  want = np.asarray(generation.greedy(
      TINY.module(), 6, (), params, batch).tokens)
  assert got.shape == (3, 6) and len(np.unique(want)) > 6
  np.testing.assert_array_equal(got, want)
