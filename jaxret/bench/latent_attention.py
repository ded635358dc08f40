"""How much faster latent attention is once it is folded, at its real shape.

  python -m jaxret.bench.latent_attention [--tokens=256] [--width=4096]
      [--heads=8] [--latents=512] [--rounds=3]

Plain and folded forms of one random NV-Embed-v1 latent attention (spec: 4096
wide, 8 heads, 512 latents; 3 GB of weights) run in alternation in one process,
on the same tokens: the attention alone (`seconds`, `speedup`), for which the
plain form is given the keys and values of the latents, and all of it with the
gated MLP, as a model calls it (`module_seconds`, `module_speedup`). Progress
goes to standard error, the last thing on standard output is one JSON object.
"""
import dataclasses
import functools
import json
import time

import jax
import jax.numpy as jnp
import numpy as np

from jaxret.bench import machine
from jaxret.models import attention as attention_lib
from jaxret.models.llava import latent_attention

_COUNTS = (
    ('tokens', 256, 'tokens that go through it'),
    ('width', 4096, 'width of the tokens and of a head'),
    ('heads', 8, 'heads'), ('latents', 512, 'latents'),
    ('rounds', 3, 'timed runs of each, after one to warm up'))


@functools.partial(jax.jit, static_argnums=0)
def plain_attention(config, params, keys, values, tokens):
  """Attention of normalised tokens [T, D] to the latents, [T, D]."""
  query = tokens @ params['q']['kernel']
  query = query.reshape(1, len(tokens), config.heads, -1)
  out, _ = attention_lib.attention(
      query, keys[None], values[None], jnp.ones((1, 1, 1), bool))
  return out.reshape(len(tokens), -1) @ params['o']['kernel']


@jax.jit
def folded_attention(keys, values, tokens):
  """The same with folded keys and values [N, R, D]."""
  score = jnp.einsum('TD,NRD->TNR', tokens, keys)
  return jnp.einsum('TNR,NRD->TD', jax.nn.softmax(score, -1), values)


def module(config):
  """The jitted LatentAttention of a config."""
  return jax.jit(latent_attention.LatentAttention(config).apply)


def measure(tokens, width, heads, latents, rounds):
  """The numbers that are printed, as a dict."""
  config = latent_attention.LatentConfig(width, latents, heads, width)
  folded = dataclasses.replace(config, folded=True)
  x = jax.random.normal(jax.random.key(0), (1, tokens, width))
  plain = latent_attention.LatentAttention(config)
  params = jax.jit(plain.init)(jax.random.key(1), x[:, :1])['params']
  start = time.perf_counter()
  short = jax.block_until_ready(latent_attention.fold(params, config))
  fold_seconds = time.perf_counter() - start
  pair = jax.block_until_ready(
      latent_attention.keys_and_values(params, config))
  run_plain, run_folded = module(config), module(folded)
  timed = machine.in_turns({
      'plain': lambda: plain_attention(config, params, *pair, x[0]),
      'folded': lambda: folded_attention(
          short['folded_keys'], short['folded_values'], x[0]),
      'module': lambda: run_plain({'params': params}, x),
      'folded_module': lambda: run_folded({'params': short}, x)}, rounds)
  def difference(left, right):
    return float(np.abs(np.asarray(timed[left].result)
                        - timed[right].result).max())
  medians = {name: taken.seconds for name, taken in timed.items()}
  return {
      'device': jax.devices()[0].device_kind, 'tokens': tokens, 'width': width,
      'heads': heads, 'latents': latents, 'dtype': 'float32',
      'seconds': medians['folded'], 'tokens_per_s': tokens / medians['folded'],
      'baseline': 'plain', 'baseline_seconds': medians['plain'],
      'speedup': medians['plain'] / medians['folded'],
      'max_abs_difference': difference('plain', 'folded'),
      'module_seconds': medians['folded_module'],
      'module_baseline_seconds': medians['module'],
      'module_speedup': medians['module'] / medians['folded_module'],
      'module_max_abs_difference': difference('module', 'folded_module'),
      'fold_seconds': fold_seconds,
      'weights': n_weights(params), 'folded_weights': n_weights(short)}


def n_weights(params):
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def main(argv=None):
  o = machine.counts(argv, 'latent_attention', _COUNTS)
  print(json.dumps(measure(
      o.tokens, o.width, o.heads, o.latents, o.rounds)))


if __name__ == '__main__':
  main()
