"""A tile and its parts: the one that is scored, and every product in it."""
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import sharding
from jaxret.bench import presets, scoring, tile_parts
from jaxret.scoring.likelihood import tries


@pytest.mark.campaign
@pytest.mark.slow
def test_parts_of_a_tile_are_those_of_the_scored_tile(capsys):
  assert scoring.main(
      ['--preset=tiny', '--videos=4', '--texts=8', '--inside']) == 0
  found = json.loads(capsys.readouterr().out.splitlines()[-1])
  inside = found['inside_captions_tile']
  assert inside['videos'] == 4 and inside['tokens'] > inside['captions'] > 0
  assert all(inside[name]['seconds'] > 0 for name in (
      'tile', 'products of the layers', 'attention to the prefix',
      'attention along captions', 'likelihood over the vocabulary'))


@pytest.mark.campaign
@pytest.mark.slow
def test_the_timed_tile_is_the_one_that_is_scored():
  preset, mesh = presets.PRESETS['tiny'], sharding.make_mesh(
      {'data': 1}, jax.devices()[:1])
  options = scoring.parse(['--preset=tiny', '--videos=4', '--texts=8'])
  job = scoring.Job(options, preset, scoring.init_params(preset.vlm, mesh),
                    mesh, scoring.make_prompts(options, preset.vlm), 4)
  whole = job.run()[0]['text_given_video']
  trie = tries.tries(job.prompts.labels, job.text_options.columns)[0]
  with jax.set_mesh(mesh):
    tile = np.asarray(tile_parts.its_tile(job, trie, 4)())
  n_captions = len(trie.index)
  np.testing.assert_allclose(
      tile[:, :n_captions], whole[:, trie.index], rtol=1e-5)


def test_timed_products_need_every_kernel():
  config = presets.PRESETS['tiny'].vlm.decoder
  rng = np.random.default_rng(0)
  x = rng.normal(size=(3, config.width)).astype(np.float32)
  kernels = [rng.normal(size=shape).astype(np.float32)
             for shape in tile_parts.kernel_shapes(config)]
  out = tile_parts.products(jnp.asarray(x), *kernels)
  for number, kernel in enumerate(kernels):
    others = [*kernels[:number], 2 * kernel, *kernels[number + 1:]]
    assert np.abs(tile_parts.products(jnp.asarray(x), *others) - out).max() > .1
