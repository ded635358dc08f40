"""Gradients of losses that see a whole batch, computed chunk by chunk.

A contrastive loss is no mean over micro-batches: every example is a negative
of every other. What it sees are embeddings, which are small; what costs memory
is the model that makes them. So a first pass embeds chunk after chunk and
keeps the embeddings alone, the loss gives the gradient of each of them, and a
second pass runs every chunk again to carry it back (Gao et al. 2021,
arXiv 2101.06983). The result is the gradient of the plain form.
"""
import jax
import jax.numpy as jnp


def chunked(embed, loss, trainable, batch, n_chunks, key, place=lambda x: x):
  """Gradients of the mean of `loss` over the embeddings of the whole batch.

  Args:
    embed: (trainable, rows of the batch, key) -> tree of [B / A, ...].
    loss: (embeddings of the batch, batch) -> (values [B], {name: scalar}).
    trainable: nested dict, what gradients are wanted of.
    batch: tree of [B, ...].
    n_chunks: A, a divisor of B. Chunk m has the rows m, m + A, m + 2A, ...
    key: chunk m gets `fold_in(key, m)` in both passes, so that the second
      drops out what the first did.
    place: puts the rows of a chunk where they belong on the mesh.

  Returns (gradients like `trainable`, summed in float32; metrics, with `loss`).
  """
  numbers = jnp.arange(n_chunks)

  def embedded(trainable, number):
    def chunk(array):
      return place(jax.lax.dynamic_index_in_dim(
          _interleaved(array, n_chunks), number, 1, keepdims=False))
    return embed(trainable, jax.tree.map(chunk, batch),
                 jax.random.fold_in(key, number))

  def mean_loss(parts):  # [A, B / A, ...]
    values, metrics = loss(jax.tree.map(
        lambda part: place(_joined(part)), parts), batch)
    return values.mean(), metrics

  def add(total, inputs):
    number, cotangent = inputs
    _, pull_back = jax.vjp(lambda leaves: embedded(leaves, number), trainable)
    part, = pull_back(cotangent)
    return jax.tree.map(
        lambda sums, leaf: sums + leaf.astype(jnp.float32), total, part), None

  _, parts = jax.lax.scan(
      lambda _, number: (None, embedded(trainable, number)), None, numbers)
  (value, metrics), cached = jax.value_and_grad(
      mean_loss, has_aux=True)(parts)
  zeros = jax.tree.map(
      lambda leaf: jnp.zeros(leaf.shape, jnp.float32), trainable)
  total, _ = jax.lax.scan(add, zeros, (numbers, cached))
  return jax.tree.map(lambda sums, leaf: sums.astype(leaf.dtype), total,
                      trainable), {**metrics, 'loss': value}


def _interleaved(array, n_chunks):
  """[B, ...] -> [B / A, A, ...]: chunk m is [:, m]."""
  return array.reshape(-1, n_chunks, *array.shape[1:])


def _joined(parts):
  """The inverse for chunks that lie one after the other, [A, B / A, ...]."""
  return parts.swapaxes(0, 1).reshape(-1, *parts.shape[2:])
