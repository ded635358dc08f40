"""Qwen2-VL of transformers embeds what the embedding bench embeds."""
import functools

import jax
import numpy as np
import pytest

from jaxret.bench import multimodal
from jaxret.data.qwen2_vl import reader
from jaxret.methods.unite import method as unite
from jaxret.models.qwen2_vl import model

TINY = multimodal.PRESETS['tiny']
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


@pytest.fixture(scope='module')
def params():
  init = functools.partial(model.init, TINY.config)
  return jax.jit(init)(jax.random.key(0))


@pytest.fixture(scope='module')
def theirs(params):
  pytest.importorskip('torch', reason='the extra `parity` is not installed')
  from jaxret.bench import torch_qwen2_vl
  return torch_qwen2_vl.Model(
      TINY.config, params, multimodal.special(TINY.config))


def test_patches_lie_behind_each_other_and_tokens_are_padded(theirs):
  inputs = multimodal.mixed(TINY, 8)
  batch = theirs.batch(inputs)
  for row, one in enumerate(inputs):
    n = len(one.tokens)
    np.testing.assert_array_equal(batch['input_ids'][row, :n], one.tokens)
    assert batch['attention_mask'][row].tolist() == [
        int(place < n) for place in range(batch['input_ids'].shape[1])]
  for kind, name in (('image', 'pixel_values'),
                     ('video', 'pixel_values_videos')):
    media = [(grid, part) for one in inputs for its, grid, part
             in zip(one.kinds, one.grids, one.patches) if its == kind]
    assert batch[f'{kind}_grid_thw'].tolist() == [
        list(map(int, grid)) for grid, _ in media]
    patches = np.concatenate([part for _, part in media])
    channels = patches.reshape(len(patches), 3, -1) / 255
    want = (channels - np.reshape(MEAN, (3, 1))) / np.reshape(STD, (3, 1))
    np.testing.assert_allclose(
        batch[name], want.reshape(patches.shape), atol=1e-5)


def test_embeddings_are_those_of_our_weights(theirs, params):
  torch = pytest.importorskip('torch')
  inputs = multimodal.mixed(TINY, 4)
  shape = reader.common_shape([
      reader.shape_of(len(one.tokens), one.grids) for one in inputs])
  want = jax.jit(unite.embed, static_argnums=0)(
      TINY.config, params, reader.pad(
          inputs, shape, multimodal.special(TINY.config)))
  with torch.inference_mode():
    got = theirs.embed(theirs.batch(inputs)).numpy()
  np.testing.assert_allclose(got, want, atol=1e-5)
  assert np.abs(got[0] - got[1]).max() > 1e-2
