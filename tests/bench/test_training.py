"""The training bench takes steps of the contrastive loss, as PyTorch does."""
import math

import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.bench import multimodal, training
from jaxret.methods.unite import method as unite

TINY = multimodal.PRESETS['tiny']


@pytest.mark.slow
@pytest.mark.parametrize(
    'flags', [[], ['--attention=heads', '--remat=dots']])
def test_training_steps_agree(flags):
  """The second loss is that of parameters which a step has changed."""
  pytest.importorskip('torch')
  options = training.parse(
      ['--preset=tiny', '--pairs=8', '--steps=1', '--baseline=torch',
       *flags])
  found = training.measure(options, TINY._replace(
      config=multimodal.with_fields(
          TINY.config, attention=options.attention, remat=options.remat)))
  assert found['max_abs_difference'] < 1e-3
  assert len(found['all_seconds']) == 1 and found['first_seconds'] > 0


@pytest.mark.slow
def test_a_step_is_one_of_the_contrastive_loss(one_device):
  """Of cosines over a temperature of 0.05; on a batch of any lengths."""
  mesh = sharding.make_mesh()
  pairs = multimodal.pairs(TINY, 6)
  job = training.Job(
      TINY.config, multimodal.init_params(TINY.config, mesh), mesh, pairs)
  batches = [job.batch([side[start:start + 3] for side in pairs])
             for start in (0, 3)]
  first, second = ({name: array.shape for name, array in batch.items()}
                   for batch in batches)
  assert first == second  # one program does
  params = multimodal.init_params(TINY.config, mesh)  # the job took its own
  embed = jax.jit(unite.embed, static_argnums=0)
  query, candidate = (np.asarray(embed(TINY.config, params, {
      name.removeprefix(f'{side}_'): array for name, array in batches[0].items()
      if name.startswith(f'{side}_')}), np.float64)
      for side in ('query', 'candidate'))
  logits = query @ candidate.T / 0.05
  want = np.mean([math.log(np.exp(row).sum()) - row[number]
                  for number, row in enumerate(logits)])
  losses = [job.step(batches[0]) for _ in range(3)]
  assert losses[0] == pytest.approx(want, rel=1e-4)
  assert losses[0] > losses[1] > losses[2]
