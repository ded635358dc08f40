"""Chunked gradients: those of the whole, dropout and memory included."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxret import gradients, losses, sharding, train
from jaxret.methods.unite import method as unite
from tests import tiny_unite

WIDTH, ROWS = 8, 16


def embed(trainable, rows, key):
  """Two towers with dropout, float32 [B, D] of each side."""
  out = {}
  for number, side in enumerate(('query', 'candidate')):
    x = jnp.tanh(rows[side] @ trainable['in'])
    keep = jax.random.bernoulli(jax.random.fold_in(key, number), 0.8, x.shape)
    x = jnp.where(keep, x / 0.8, 0) @ trainable['out']
    out[side] = x / jnp.linalg.norm(x, axis=1, keepdims=True)
  return out


def loss(embeddings, batch):
  values = losses.modal_contrastive(
      embeddings['query'], embeddings['candidate'], 0.1, batch['modality'],
      dual=True)
  return values, {'largest': jnp.max(values)}


def problem(rows=ROWS):
  random = np.random.default_rng(0)
  def normal(*shape):
    return random.normal(size=shape).astype(np.float32)
  trainable = {'in': normal(WIDTH, WIDTH), 'out': normal(WIDTH, WIDTH)}
  return trainable, {
      'query': normal(rows, WIDTH), 'candidate': normal(rows, WIDTH),
      'modality': random.integers(1, 3, rows)}


@pytest.mark.parametrize('n_chunks', [1, 2, 8])
def test_chunks_give_the_gradient_of_the_whole(n_chunks):
  """Against plain differentiation through all chunks at once, by hand."""
  trainable, batch = problem()
  key = jax.random.key(1)

  def plain(trainable):
    parts = [
        embed(trainable, {name: x[m::n_chunks] for name, x in batch.items()},
              jax.random.fold_in(key, m)) for m in range(n_chunks)]
    whole = {side: jnp.zeros((ROWS, WIDTH)) for side in parts[0]}
    for m, part in enumerate(parts):
      whole = {side: whole[side].at[m::n_chunks].set(part[side])
               for side in whole}
    return loss(whole, batch)[0].mean()

  value, want = jax.value_and_grad(plain)(trainable)
  got, metrics = jax.jit(functools.partial(
      gradients.chunked, embed, loss, n_chunks=n_chunks))(
          trainable, batch, key=key)
  np.testing.assert_allclose(metrics['loss'], value, rtol=1e-6)
  for name in want:
    np.testing.assert_allclose(got[name], want[name], atol=1e-6)


def test_micro_batch_means_would_be_another_gradient():
  """What accumulation does to this loss: other negatives, another loss."""
  trainable, batch = problem()
  key = jax.random.key(1)
  def mean(trainable, rows):
    return loss(embed(trainable, rows, key), rows)[0].mean()
  halves = [jax.tree.map(lambda x, m=m: x[m::2], batch) for m in range(2)]
  average = sum(float(mean(trainable, rows)) for rows in halves) / 2
  assert abs(average - float(mean(trainable, batch))) > 0.1


@functools.cache
def unite_step(chunks, n_devices):
  """(metrics, {path: gradient}) of one step of a tiny UNITE."""
  config = tiny_unite.make_config(dual=True, modality_mask=True)
  tokenizer = tiny_unite.tokenizer()
  method = unite.method(config, tokenizer)
  examples = method.examples(
      tiny_unite.pairs(16), unite.reader(config, tokenizer))
  rows = [examples[i] for i in range(len(examples))]
  batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
  mesh = sharding.make_mesh(devices=jax.devices()[:n_devices])
  trainable, frozen = train.split_params(
      method, train.init_params(method, 0, mesh), mesh)
  start = sharding.flatten(sharding.to_host(trainable))
  optimizer = optax.sgd(1.0)
  state = train.init_state(optimizer, trainable, mesh)
  step = train.make_update(method, optimizer, mesh, 0, chunks)
  state, metrics = step(state, frozen, {}, sharding.global_batch(mesh, batch))
  after = sharding.flatten(sharding.to_host(state.trainable))
  return sharding.to_host(metrics), {
      path: start[path] - after[path] for path in start}


@pytest.mark.parametrize('chunks, n_devices', [
    pytest.param(4, 1, marks=pytest.mark.slow),
    pytest.param(1, 4, marks=pytest.mark.slow),
    pytest.param(2, 8, marks=pytest.mark.slow)])
def test_training_step_on_any_devices_in_any_chunks(chunks, n_devices):
  """Loss, accuracy, gradient norm, and every gradient to 1e-5 of its scale."""
  want_metrics, want = unite_step(1, 1)
  metrics, got = unite_step(chunks, n_devices)
  np.testing.assert_allclose(metrics['loss'], want_metrics['loss'], rtol=1e-6)
  for name in want_metrics:
    np.testing.assert_allclose(
        metrics[name], want_metrics[name], rtol=1e-5, err_msg=name)
  largest = max(np.abs(gradient).max() for gradient in want.values())
  for path, gradient in want.items():
    np.testing.assert_allclose(
        got[path], gradient, rtol=1e-5, atol=1e-5 * largest, err_msg=path)


def test_memory_grows_by_the_embeddings_alone():
  """Of a wide model: its hidden states never exist for the whole batch."""
  hidden, rows = 2048, 256

  def temporary(n_rows, n_chunks):
    trainable = {'in': jnp.ones((WIDTH, hidden)),
                 'out': jnp.ones((hidden, WIDTH))}
    batch = {side: jnp.ones((n_rows, WIDTH)) for side in ('query', 'candidate')}
    def pointwise(embeddings, batch):
      return -jnp.sum(embeddings['query'] * embeddings['candidate'], 1), {}
    compiled = jax.jit(functools.partial(
        gradients.chunked, embed, pointwise, n_chunks=n_chunks)).lower(
            trainable, batch, key=jax.random.key(0)).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  few, many = temporary(rows, 2), temporary(8 * rows, 16)
  # Of two sides: embeddings, as chunks and as a batch, and their gradients.
  embeddings = 2 * 4 * (8 - 1) * rows * WIDTH * 4
  assert many <= few + embeddings
  assert temporary(8 * rows, 1) > 4 * many
