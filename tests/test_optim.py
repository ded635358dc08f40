"""AdamW against PyTorch and by hand; the schedule against the authors'."""
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxret import optim, sharding
from tests.test_sharding import abstract_params

CONFIG = types.SimpleNamespace(
    learning_rate=2e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=1.0,
    warmup_epochs=1.0, min_learning_rate=0.0, gradient_clip_norm=0.0)


def params_and_gradients(n_steps=5):
  """Four kinds of leaves and a gradient of each per step."""
  random = np.random.default_rng(0)
  shapes = {'params/visual_head/kernel': (8, 4), 'params/log_temperature': (),
            'params/decoder/layers/attention/q/bias': (3, 4),
            'params/decoder/layers/attention/q/kernel': (3, 8, 4)}
  def draw():
    return {path: random.normal(size=shape).astype(np.float32)
            for path, shape in shapes.items()}
  return draw(), [draw() for _ in range(n_steps)]


def run(config, rates, params, gradients):
  optimizer = optim.make_optimizer(
      config, lambda step: jnp.asarray(rates)[step])
  params = sharding.unflatten({k: jnp.asarray(v) for k, v in params.items()})
  state, update = optimizer.init(params), jax.jit(optimizer.update)
  for gradient in gradients:
    changes, state = update(
        sharding.unflatten(gradient), state, params)
    params = optax.apply_updates(params, changes)
  return sharding.flatten(params)


RATES = [0.0, 1e-3, 2e-3, 1.7e-3, 5e-4]
DECAYED = ('params/visual_head/kernel',
           'params/decoder/layers/attention/q/kernel')


def test_adamw_equals_torch():
  torch = pytest.importorskip('torch')
  params, gradients = params_and_gradients()
  tensors = {path: torch.nn.Parameter(torch.tensor(value))
             for path, value in params.items()}
  groups = [{'params': [t for path, t in tensors.items()
                        if (path in DECAYED) == decayed],
             'weight_decay': float(decayed)} for decayed in (True, False)]
  theirs = torch.optim.AdamW(groups, lr=0.0, betas=CONFIG.betas)
  for rate, gradient in zip(RATES, gradients):
    for group in theirs.param_groups:
      group['lr'] = rate
    for path, tensor in tensors.items():
      tensor.grad = torch.tensor(gradient[path])
    theirs.step()
  ours = run(CONFIG, RATES, params, gradients)
  for path, tensor in tensors.items():
    np.testing.assert_allclose(
        ours[path], tensor.detach().numpy(), atol=1e-6, err_msg=path)


def test_adamw_equals_a_loop_by_hand():
  """Decoupled decay, bias correction, eps outside the root; in float64."""
  params, gradients = params_and_gradients()
  ours = run(CONFIG, RATES, params, gradients)
  for path, start in params.items():
    x, m, v = start.astype(np.float64), 0.0, 0.0
    for t, (rate, gradient) in enumerate(zip(RATES, gradients), 1):
      g = gradient[path].astype(np.float64)
      if path in DECAYED:
        x = x - rate * 1.0 * x
      m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
      x = x - rate * (m / (1 - 0.9 ** t)) / (
          np.sqrt(v / (1 - 0.95 ** t)) + 1e-8)
    np.testing.assert_allclose(ours[path], x, atol=1e-6, err_msg=path)


def test_clipping_scales_the_whole_gradient():
  config = types.SimpleNamespace(**{**vars(CONFIG), 'gradient_clip_norm': 0.5})
  params, gradients = params_and_gradients()
  clipped = []
  for gradient in gradients:
    norm = math.sqrt(sum((g.astype(np.float64) ** 2).sum()
                         for g in gradient.values()))
    clipped.append({path: np.float32(g * 0.5 / norm)
                    for path, g in gradient.items()})
  ours = run(config, RATES, params, gradients)
  wanted = run(CONFIG, RATES, params, clipped)
  for path, value in wanted.items():
    np.testing.assert_allclose(ours[path], value, atol=1e-6, err_msg=path)


def test_decay_acts_on_logical_matrices_only():
  mask = sharding.flatten(optim.decay_mask(abstract_params()))
  for path, decayed in mask.items():
    vector = path.endswith(
        ('bias', 'scale', 'temperature', 'class_embedding', 'image_newline'))
    assert decayed != vector, path


def test_schedule_equals_a_loop_over_micro_batches():
  """The rates that the authors' loop sets at the updates' first batches."""
  accumulation, micro_batches, epochs, warmup = 2, 8, 5, 1.5
  peak, floor = 2e-3, 1e-5
  wanted = []
  for epoch in range(epochs):
    for micro_batch in range(0, micro_batches, accumulation):
      at = micro_batch / micro_batches + epoch
      wanted.append(
          peak * at / warmup if at < warmup else floor + (peak - floor) * (
              1 + math.cos(math.pi * (at - warmup) / (epochs - warmup))) / 2)
  config = types.SimpleNamespace(
      learning_rate=peak, min_learning_rate=floor, warmup_epochs=warmup)
  rate = optim.schedule(config, epochs, micro_batches // accumulation)
  ours = [float(rate(step)) for step in range(len(wanted))]
  np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-10)
  assert ours[0] == 0.0


def test_schedule_of_hand_numbers():
  """Two steps an epoch, one epoch of warm-up, three in all."""
  rate = optim.schedule(CONFIG, 3, 2)
  np.testing.assert_allclose(
      [float(rate(step)) for step in range(5)],
      [0, 0.001, 0.002, 0.00170711, 0.001], atol=1e-8)
  no_warmup = types.SimpleNamespace(**{**vars(CONFIG), 'warmup_epochs': 0.0})
  assert float(optim.schedule(no_warmup, 3, 2)(0)) == pytest.approx(2e-3)


def test_linear_schedule_of_hand_numbers():
  """Ten updates, two of warm-up: up by halves, down by eighths."""
  config = types.SimpleNamespace(
      learning_rate=0.8, schedule='linear', warmup_fraction=0.2)
  rate = optim.schedule(config, 2.5, 4)
  np.testing.assert_allclose(
      [float(rate(step)) for step in range(12)],
      [0, 0.4, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0, 0], atol=1e-7)


def test_decay_spares_what_is_named_and_nothing_else():
  config = types.SimpleNamespace(
      **{**vars(CONFIG), 'no_decay': ('.*/bias', 'params/visual_head/.*')})
  params, gradients = params_and_gradients(1)
  still = {path: np.zeros_like(g) for path, g in gradients[0].items()}
  # Without gradients only decay changes anything: by rate x decay x value.
  after = run(config, [0.5], params, [still])
  for path, value in params.items():
    spared = path.endswith('bias') or 'visual_head' in path
    np.testing.assert_allclose(
        after[path], value if spared else value * 0.5, atol=1e-6,
        err_msg=path)


def test_partition_and_merge_are_inverse():
  params = abstract_params()
  trainable, frozen = optim.partition(
      params, ('lora/.*', 'params/visual_head/.*'))
  paths = sharding.flatten(trainable).keys()
  assert all(path.startswith(('lora/', 'params/visual_head/'))
             for path in paths)
  assert not paths & sharding.flatten(frozen).keys()
  assert optim.merge(trainable, frozen) == params
  with pytest.raises(ValueError, match="'lora' matches no parameter"):
    optim.partition(params, ('lora',))


def test_moments_are_sharded_like_their_parameters():
  mesh = sharding.make_mesh({'data': 2, 'fsdp': 2, 'tensor': 2})
  params = abstract_params()
  optimizer = optim.make_optimizer(CONFIG, lambda step: 1e-3)
  state = jax.eval_shape(optimizer.init, params)
  places = sharding.shardings(mesh, state)
  wanted = sharding.shardings(mesh, params)
  assert places[0].mu == wanted and places[0].nu == wanted
  assert places[0].count.is_fully_replicated
