"""LECCR's learning rates and which parameters weight decay spares."""
import re

import numpy as np

from jaxret import optim, sharding
from jaxret.methods.leccr import method as leccr
from jaxret.models import encoder_names
from tests.parity import leccr_reference as reference


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


def test_leccr_parameter_groups(leccr_golden):
  """One rate for all, and decay for the same tensors; the first model's head,
  which nothing reads, and norms that are not used are not there."""
  cases = reference.misc(leccr_golden)['optimizer_groups']
  assert cases
  for name, case in cases.items():
    check_groups(name, case)


def check_groups(name, case):
  found = groups(case)
  assert {rate for _, rate in found} == {case['kwargs']['lr']}, name
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
      optim.decay_all_but(leccr.NO_DECAY, tree)) == decayed, name


def test_leccr_text_encoder_decays_as_named(leccr_golden):
  """The authors spare names with 'bias' and 'LayerNorm.weight'."""
  decayed = {
      f'params/{weight.path}': not (
          'bias' in weight.key or 'LayerNorm.weight' in weight.key)
      for weight in encoder_names.BERT
      if weight.path.startswith('text_encoder/')}
  tree = sharding.unflatten({path: np.zeros(()) for path in decayed})
  assert sharding.flatten(
      optim.decay_all_but(leccr.NO_DECAY, tree)) == decayed
