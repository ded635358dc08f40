"""Chunked gradients: those of the whole, dropout and memory included."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxret import gradients, losses, sharding, train
from jaxret.methods import unite
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


def update(config, chunks, n_devices, pairs):
  """(metrics, parameters less their gradients) of one step of tiny UNITE."""
  method = unite.method(config, tiny_unite.tokenizer())
  examples = method.examples(pairs)
  batch = {name: np.stack([row[name] for row in rows]) for rows in [
      [examples[i] for i in range(len(examples))]] for name in rows[0]}
  mesh = sharding.make_mesh(devices=jax.devices()[:n_devices])
  optimizer = optax.sgd(1.0)
  trainable, frozen = train.split_params(
      method, train.init_params(method, 0, mesh), mesh)
  state = train.init_state(optimizer, trainable, mesh)
  step = train.make_update(method, optimizer, mesh, 0, chunks)
  state, metrics = step(state, frozen, {}, sharding.global_batch(mesh, batch))
  return sharding.to_host(metrics), sharding.flatten(
      sharding.to_host(state.trainable))


@pytest.mark.parametrize('chunks, n_devices', [(2, 1), (1, 4), (2, 4), (1, 8)])
def test_training_step_on_any_devices_in_any_chunks(chunks, n_devices):
  """Loss, gradient norm, and every gradient."""
  pairs = tiny_unite.pairs(8)
  config = tiny_unite.make_config(dual=True, modality_mask=True)
  want_metrics, want = first_update()
  metrics, got = update(config, chunks, n_devices, pairs)
  for name in want_metrics:
    np.testing.assert_allclose(
        metrics[name], want_metrics[name], rtol=1e-5, err_msg=name)
  for path in want:
    np.testing.assert_allclose(got[path], want[path], atol=1e-6,
                               err_msg=path)


@functools.cache
def first_update():
  return update(tiny_unite.make_config(dual=True, modality_mask=True), 1, 1,
                tiny_unite.pairs(8))


def test_memory_does_not_grow_with_the_batch():
  """Four times the batch in four times the chunks: embeddings more, no more."""
  def temporary(rows, n_chunks):
    trainable, batch = problem(rows)
    wide = {name: jnp.asarray(np.repeat(array, 64, 1)) if array.ndim == 2
            else array for name, array in batch.items()}
    trainable['in'] = jnp.asarray(np.tile(trainable['in'], (64, 64)))
    trainable['out'] = jnp.asarray(np.tile(trainable['out'], (64, 1)))
    compiled = jax.jit(functools.partial(
        gradients.chunked, embed, loss, n_chunks=n_chunks)).lower(
            trainable, wide, key=jax.random.key(0)).compile()
    return compiled.memory_analysis().temp_size_in_bytes
  few, many = temporary(512, 4), temporary(2048, 16)
  # Embeddings of two sides and their gradients, and three score matrices.
  embeddings = 4 * (2048 - 512) * WIDTH * 4 * 2
  scores = 4 * (2048 ** 2 - 512 ** 2) * 4
  assert many < few + embeddings + scores
  plain = temporary(2048, 1)
  assert many < plain / 1.5
