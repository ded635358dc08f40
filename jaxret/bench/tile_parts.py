"""Where the time inside a tile of captions goes: its parts, each on its own.

The parts run at the tile's shapes with random numbers, as often as the tile
has layers. What they leave of the tile's own time are norms, rotary positions,
activations and residuals, and what one part gains or loses beside the others.
"""
import jax
import jax.numpy as jnp
import numpy as np

from jaxret import losses
from jaxret.bench import machine
from jaxret.models import attention as attention_lib
from jaxret.models import decoder
from jaxret.scoring.likelihood import kernels, tries

ROUNDS = 5


def measure(job):
  """{part: {'seconds', 'share'}} of the first tile that `job` scores.

  job: a scoring.Job. Times are medians of rounds in which parts take turns.
  """
  trie = tries.tries(job.prompts.labels, job.text_options.columns)[0]
  n_rows = min(job.text_options.rows, len(job.features))
  with jax.set_mesh(job.mesh):
    timed = machine.in_turns(_parts(job, trie, n_rows), ROUNDS)
  seconds = {name: each.seconds for name, each in timed.items()}
  whole = seconds['tile']
  seconds['rest'] = 2 * whole - sum(seconds.values())  # the sum has it as well
  return {'videos': n_rows, 'captions': len(trie.lengths),
          'tokens': len(trie.tokens), **{
              name: {'seconds': taken, 'share': taken / whole}
              for name, taken in seconds.items()}}


def _parts(job, trie, n_rows):
  """{name: () -> arrays}, compiled when they are first called."""
  c, n_prefix = job.vlm.decoder, len(job.prompts.visual_prefix)
  shape = n_rows, len(trie.tokens)
  def random(*shape):
    return jax.random.normal(jax.random.key(len(shape)), shape, c.dtype)
  def repeated(step):
    return jax.jit(lambda x, *args: jax.lax.fori_loop(
        0, c.layers, lambda _, x: step(x, *args).astype(x.dtype), x))
  query = random(*shape, c.heads, c.head_width)
  prefix = random(n_rows, n_prefix, c.kv_heads, c.head_width)
  own = random(*shape, c.kv_heads, c.head_width)
  seen = jnp.ones((n_rows, n_prefix), bool)
  chains = decoder.Chains(trie.chains, trie.place,
                          decoder.causal(trie.chains.shape[1])[0])
  to_prefix = repeated(
      lambda q, k: attention_lib.attention_to_prefix(q, k, k, seen)[0])
  along = repeated(lambda q, k: decoder.chain_attention(q, k, k, chains)[0])
  weights = [random(*shape) * shape[0] ** -0.5 for shape in kernel_shapes(c)]
  layer_products = repeated(products)
  x = random(n_rows * len(trie.tokens), c.width)
  return {
      'tile': its_tile(job, trie, n_rows),
      'products of the layers': lambda: layer_products(x, *weights),
      'attention to the prefix': lambda: to_prefix(query, prefix),
      'attention along captions': lambda: along(query, own),
      'likelihood over the vocabulary': _head(job, trie, random(
          *shape, c.width))}


def its_tile(job, trie, n_rows):
  """A function that scores the captions of a trie after n_rows videos."""
  prefix = np.asarray(job.prompts.visual_prefix)
  first, cache = kernels.visual_prefix(
      job.model, job.params, prefix, job.features[:n_rows])
  start = jnp.full(n_rows, len(prefix), jnp.int32)
  return lambda: kernels.text_tile(
      job.model, job.text_options.nonzero_denominator, job.params, first,
      cache, start,
      (trie.tokens[None], trie.depth, trie.chains, trie.place),
      trie.labels[None], trie.lengths[None])


def kernel_shapes(c):
  """The shapes of q, k, v, o, gate, up and down."""
  wide, narrow = c.heads * c.head_width, c.kv_heads * c.head_width
  return [(c.width, wide), (c.width, narrow), (c.width, narrow),
          (wide, c.width), (c.width, c.mlp_width), (c.width, c.mlp_width),
          (c.mlp_width, c.width)]


def products(x, q, k, v, o, gate, up, down):
  """One layer's products; none is left out, and little is done besides."""
  narrow = x @ k + x @ v
  x = ((x @ q) @ o).at[:, :narrow.shape[1]].add(narrow)
  return ((x @ gate) @ down) + (x @ up)[:, :x.shape[1]]


def _head(job, trie, hidden):
  n_rows, n_tokens = hidden.shape[:2]
  rows = jnp.arange(n_rows)[:, None, None] * n_tokens + trie.chains
  labels = jnp.broadcast_to(trie.labels[None], (n_rows, *trie.labels.shape))
  head = jax.jit(lambda params, hidden: losses.token_log_likelihood(
      job.model.vocabulary_terms(params, hidden), labels[..., 1:], rows))
  return lambda: head(job.params, hidden)
