"""The batches of the CLIP baseline; its embeddings: test_embedding."""
import numpy as np
import pytest

from jaxret import sharding
from jaxret.bench import clip_items

pytest.importorskip('torch')
TINY = clip_items.PRESETS['tiny']


@pytest.fixture(scope='module')
def model():
  mesh = sharding.make_mesh()
  return clip_items.torch_model(
      TINY.config, clip_items.init_params(TINY.config, mesh))


def test_frames_lie_behind_each_other_and_texts_are_padded(model):
  made = clip_items.mixed(TINY, 8)
  seen = model.batch(made[1::2])
  assert seen['frames'] == [len(one.pixels) for one in made[1::2]]
  assert seen['pixel_values'].shape[0] == sum(seen['frames'])
  first = made[1].pixels[0] / 255
  p = TINY.config.processor
  np.testing.assert_allclose(
      seen['pixel_values'][0].permute(1, 2, 0).numpy(),
      (first - p.mean) / p.std, atol=1e-5)
  texts = model.batch(made[::2])
  assert texts['attention_mask'].sum(1).tolist() == [
      len(one.tokens) for one in made[::2]]


def test_a_row_does_not_depend_on_the_others(model):
  import torch
  texts = clip_items.mixed(TINY, 8)[::2]
  with torch.inference_mode():
    together = model.embed(model.batch(texts))
    alone = model.embed(model.batch(texts[:1]))
  np.testing.assert_allclose(together[:1].numpy(), alone.numpy(), atol=1e-6)
