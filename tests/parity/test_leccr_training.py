"""LECCR's learning rates and which parameters weight decay spares."""
import re

import numpy as np
import pytest

from jaxret import main, optim, sharding
from jaxret.models import encoder_names
from tests import tiny_cross_lingual
from tests.parity import leccr_reference as reference


@pytest.fixture(scope='module')
def recipe():
  """The section `optim` of a published recipe.

  The authors decay all weights but biases and the norms of BERT and the slots;
  CLIP's norms, the queries and the temperature are decayed.
  """
  return main.load_config(f'{tiny_cross_lingual.CONFIG}:multi30k_de').optim


def test_leccr_learning_rates(leccr_golden):
  cases = reference.misc(leccr_golden)['linear_schedule']
  assert cases
  for case in cases:
    warmup = case['warmup']
    if isinstance(warmup, float):
      warmup = int(warmup * case['total'])
    rate = optim.linear(1.0, case['total'], warmup)
    wanted = case['lr_multiplier_per_step']
    np.testing.assert_allclose(
        [float(rate(step)) for step in range(len(wanted))], wanted,
        rtol=1e-6, atol=1e-7, err_msg=str(case['total']))


def paths_of(key, table):
  """Where the authors' tensor lies in our parameters, one path or three."""
  for weight in table:
    pattern = re.escape(weight.key).replace(r'\{layer\}', r'\d+')
    if re.fullmatch(pattern, key):
      yield 'params/' + weight.path


def groups(case):
  """{(decay, rate): names} of the golden groups that hold any."""
  return {(group['weight_decay'], group['lr']): group['params']
          for group in case['groups'] if group['params']}


def test_leccr_parameter_groups(leccr_golden, recipe):
  """One rate for all, and decay for the same tensors; the first model's head,
  which nothing reads, and norms that are not used are not there."""
  cases = reference.misc(leccr_golden)['optimizer_groups']
  assert cases
  for name, case in cases.items():
    check_groups(name, case, recipe)


def check_groups(name, case, recipe):
  found = groups(case)
  assert {rate for _, rate in found} == {case['kwargs']['lr']}, name
  assert {decay for decay, _ in found} == {0.0, recipe.weight_decay}, name
  assert case['kwargs'] == {'lr': recipe.learning_rate, 'eps': recipe.eps,
                            'betas': list(recipe.betas)}, name
  decayed = {}
  for (decay, _), keys in found.items():
    keys = [key.removeprefix('module.') for key in keys]
    is_clip = any(key.startswith('visual.') for key in keys)
    table = encoder_names.OPENAI_CLIP if is_clip else (
        reference.HEAD + reference.FRAMES)
    for key in keys:
      paths = list(paths_of(key, table))
      assert paths, f'{name}: {key} has no place in our parameters'
      for path in paths:
        if not path.startswith('params/unread/'):
          assert decayed.setdefault(path, decay > 0) == (decay > 0), path
  assert set(decayed.values()) == {True, False}
  tree = sharding.unflatten({path: np.zeros(()) for path in decayed})
  assert sharding.flatten(
      optim.decay_all_but(recipe.no_decay, tree)) == decayed, name


def test_leccr_text_encoder_decays_as_named(recipe):
  """The authors spare names with 'bias' and 'LayerNorm.weight'."""
  decayed = {
      f'params/{weight.path}': not (
          'bias' in weight.key or 'LayerNorm.weight' in weight.key)
      for weight in encoder_names.BERT
      if weight.path.startswith('text_encoder/')}
  tree = sharding.unflatten({path: np.zeros(()) for path in decayed})
  assert sharding.flatten(
      optim.decay_all_but(recipe.no_decay, tree)) == decayed
