"""FLOPs that a compiled program executes, against counts by hand."""
import functools

import jax
import jax.numpy as jnp
import pytest

from configs import blim as blim_config
from jaxret import executed_flops, rehearsal, sharding
from jaxret.methods.blim import plan

X = jax.ShapeDtypeStruct((4, 8), jnp.float32)
STACK = jax.ShapeDtypeStruct((5, 8, 8), jnp.float32)
ONE = 2 * 4 * 8 * 8


def flops(function, *args):
  return executed_flops.executed(jax.jit(function).lower(*args).compile())


def layers(x, stack):
  return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, stack)[0]


def test_products_in_loops_count_as_often_as_they_run():
  assert flops(layers, X, STACK) == 5 * ONE
  assert flops(lambda x, w: jax.lax.map(lambda n: layers(x + n, w),
                                        jnp.arange(3.0)), X, STACK) == 15 * ONE


def test_products_of_batches_count():
  batch = jax.ShapeDtypeStruct((6, 4, 8), jnp.float32)
  other = jax.ShapeDtypeStruct((6, 8, 3), jnp.float32)
  assert flops(lambda a, b: jnp.tanh(a) @ b, batch, other) == 2 * 6 * 4 * 8 * 3


def test_the_dearest_branch_counts():
  def run(x, w, which):
    return jax.lax.cond(which, lambda: x @ w @ w, lambda: x @ w)
  assert flops(run, X, jax.ShapeDtypeStruct((8, 8), jnp.float32),
               jax.ShapeDtypeStruct((), bool)) == 2 * ONE


def test_what_is_computed_again_counts_again():
  def loss(stack, x, body):
    return jax.lax.scan(lambda x, w: (body(x, w), None), x, stack)[0].sum()
  def body(x, w):
    return jnp.sin(jnp.sin(x @ w) @ w)
  # Forward twice, backward twice for each of two products; again: one, since
  # nobody asks for what the second one gives before its sine.
  kept = flops(jax.grad(functools.partial(loss, body=body)), STACK, X)
  again = flops(jax.grad(functools.partial(
      loss, body=jax.checkpoint(body, prevent_cse=False))), STACK, X)
  assert kept == 5 * 6 * ONE
  assert kept < again <= 5 * 8 * ONE


def test_a_loop_without_an_end_that_is_known_is_refused():
  def run(x, w):
    return jax.lax.while_loop(
        lambda x: jnp.sum(x) < 9, lambda x: x @ w, x)
  with pytest.raises(ValueError, match='does not say'):
    flops(run, X, jax.ShapeDtypeStruct((8, 8), jnp.float32))


def step_flops(remat):
  """(executed, minimal) FLOPs of the 7B's LoRA step, 8 captions of 30."""
  config = blim_config.get_config('msrvtt')
  config.model.remat = remat
  config.train.update(batch_size=8, accumulation_steps=1)
  config.mesh.update(data=1, fsdp=1)
  model = plan.build(config)
  example, constants = plan.example_of(model, 30)
  mesh = sharding.make_mesh({}, jax.devices()[:1])
  constants = {name: (value.shape, value.dtype)
               for name, value in constants.items()}
  lowered = rehearsal._lowered(model, mesh, 1, 8, example, constants)
  batch = rehearsal.batch_of(example, 8, mesh)
  least = model.method.train_flops({
      name: jnp.broadcast_to(example[name], leaf.shape)
      for name, leaf in batch.items()})
  return executed_flops.executed(lowered.compile()), least


@pytest.mark.slow
@pytest.mark.parametrize('remat, least, most', [
    ('none', 1.0, 1.25), ('dots', 1.0, 1.25), ('full', 1.3, 1.5)])
def test_a_step_of_the_7b_executes_little_more_than_it_must(
    remat, least, most):
  """Frozen weights need no gradients; 'full' runs layers forward twice."""
  executed, minimal = step_flops(remat)
  assert least <= executed / minimal <= most
