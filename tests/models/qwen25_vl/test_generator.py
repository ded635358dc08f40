"""Qwen2.5-VL continues prompts: scores, priors, what it describes."""
import pathlib

import jax
import numpy as np
import pytest

import jaxret
from configs import leccr as leccr_config
from jaxret import sharding
from jaxret.data import text, types
from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.data.qwen2_vl import pixels
from jaxret.methods.leccr import captioner, describer
from jaxret.models import generation
from tests import test_sequences, tiny_unite

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden' / 'qwen25_vl' / 'model'
RESOLUTION = pixels.Resolution(
    released=False, processor=(784, 12 * 784), read_video=(784, 6 * 784),
    min_frames=2, max_frames=6)
# A video's time is longer than its sides: twelve frames, of which six are seen.
ITEMS = ({'video': tiny_unite.pixels(0, 56, 56, frames=12), 'text': 'They'},
         {'image': tiny_unite.pixels(1, 84, 112)})


@pytest.fixture(scope='module')
def model():
  return jaxret.load_generator(
      GOLDEN, resolution=RESOLUTION,
      mesh=sharding.make_mesh(devices=jax.devices()[:1]))


def test_prompts_have_times(model):
  assert repr(model).startswith('Generator(qwen2_5_vl, ')
  prompt = model.reader(jaxret.embedder.as_item(ITEMS[0], 0))
  video = prompt.tokens == model.reader.special['video']
  # Six of twelve frames at 2 a second: a slice of two is 2 seconds, 4 places.
  assert sorted(set(prompt.positions[0, video])) == [1, 5, 9]
  masked = model.reader.masked(jaxret.embedder.as_item(ITEMS[0], 0))
  np.testing.assert_array_equal(masked.positions, prompt.positions[:, ~video])


def test_patches_lie_in_windows_as_for_an_embedder(model):
  """The image is wider than a window, whose patches follow each other."""
  item = jaxret.embedder.as_item(ITEMS[1], 0)
  reader = model.reader
  prompt = reader(item)
  assert prompt.grids[0][2] // 2 > reader.layout.window
  got = reader.pad([prompt], reader.bucket(prompt))
  rows = visual_tokens.lay_out(
      prompt.grids, *got['segments'].shape[1:], window=reader.layout.window)
  np.testing.assert_array_equal(got['coordinates'][0], rows.coordinates)
  np.testing.assert_array_equal(
      got['patches'].reshape(-1, got['patches'].shape[-1])[rows.patch_index],
      prompt.patches[0])
  plain = visual_tokens.lay_out(prompt.grids, *got['segments'].shape[1:])
  assert (rows.coordinates != plain.coordinates).any()


@pytest.mark.slow
@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('item', ITEMS, ids=['video', 'image'])
def test_scores_are_those_of_whole_passes(model, item, masked):
  suffixes = [' in the', ' on']
  found = jaxret.score_sequences(
      [item], suffixes, model, mask_media=masked, show_progress=False)
  want = [test_sequences.whole_pass(model, item, suffix, masked).sum()
          for suffix in suffixes]
  np.testing.assert_allclose(found[0], want, atol=2e-4)


@pytest.mark.slow
def test_a_describer_reads_its_media_as_a_generator_does(model):
  config = leccr_config.captioner()
  config.model.update(family='qwen2_5_vl', pretrained=str(GOLDEN))
  config.update(max_tokens=300, shape=())
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  found = describer.pretrained(config, mesh)
  reader = captioner.reader(config, text.load_tokenizer(GOLDEN))
  assert (reader.layout.window, reader.layout.tokens_per_second) == (2, 2)
  item = types.Item('x', video=ITEMS[0]['video'])
  seen = found.read(item)
  with jax.set_mesh(mesh):
    batch = found.batch(found.params, found.pad([seen], found.shape(seen)))
    written = generation.greedy(
        found.module, 4, found.ends, found.params, batch)
  assert written.tokens.shape == (1, 4)
  assert batch['positions'].max() > len(seen.grids) + 1
  np.testing.assert_array_equal(
      found.params['params']['decoder']['final_norm']['scale'],
      model.params['params']['decoder']['final_norm']['scale'])
