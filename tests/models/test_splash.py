"""JAX's attention kernel for TPUs, interpreted, against what is written out."""
import dataclasses
import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import sharding, tpu_slices
from jaxret.models import attention as attention_lib
from jaxret.models import decoder as decoder_lib
from jaxret.models import masks, splash
from jaxret.models.qwen2_vl import model as qwen2_vl
from jaxret.models.qwen2_vl import vision
from jaxret.models.qwen25_vl import vision as qwen25_vl_vision

LENGTHS = np.array([130, 4, 77, 129])
KEYS = np.arange(130) < LENGTHS[:, None]
SEGMENTS = np.sort(np.random.default_rng(0).integers(0, 5, (4, 130)))


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Everything sees a key, or what is compared would be anything.
RULES = {'causal': masks.causal(KEYS), 'keys': masks.to_keys(KEYS),
         'packed': masks.Segments(SEGMENTS, SEGMENTS), 'all': None}


@pytest.mark.parametrize('name, kv_heads', [
    ('causal', 2), ('keys', 1), ('packed', 4), ('all', 2)])
def test_the_kernel_attends_as_the_oracle_does(name, kv_heads):
  """Outputs and gradients; rows of no whole block, heads of no whole lane."""
  qkv = (normal(4, 130, 4, 12), normal(4, 130, kv_heads, 12, seed=1),
         normal(4, 130, kv_heads, 12, seed=2))
  weight = normal(4, 130, 4, 12, seed=3)
  @functools.partial(jax.jit, static_argnums=1)
  def run(qkv, implementation):
    def total(qkv):
      out, _ = attention_lib.attention(
          *qkv, RULES[name], implementation=implementation)
      return (weight * out).sum(), out
    return jax.value_and_grad(total, has_aux=True)(qkv)
  (_, want), slopes = run(qkv, 'xla')
  (_, got), same = run(qkv, 'splash')
  np.testing.assert_allclose(got, want, atol=1e-5)
  for one, other in zip(same, slopes):
    np.testing.assert_allclose(one, other, atol=3e-5)


def test_parts_merge_by_the_residuals_of_the_kernel():
  query = normal(4, 9, 4, 12)
  key, value = normal(4, 130, 2, 12, seed=1), normal(4, 130, 2, 12, seed=2)
  seen = KEYS.copy()
  seen[2, :100] = False  # and no key at all is seen in this row's first part
  want, lse = attention_lib.attention(query, key, value, masks.to_keys(seen))
  parts = [attention_lib.attention_to_prefix(
      query, key[:, part], value[:, part], seen[:, part], 'splash')
           for part in (slice(3), slice(3, None))]
  got = attention_lib.merge_attention(*parts[0], *parts[1])
  live = seen.any(1)
  np.testing.assert_allclose(got[live], want[live], atol=1e-5)
  whole = attention_lib.attention_to_prefix(query, key, value, seen, 'splash')
  np.testing.assert_allclose(whole[1][live], lse[live], atol=1e-5)


def test_each_device_attends_to_its_own_rows_and_heads():
  qkv = (normal(4, 130, 4, 12), normal(4, 130, 2, 12, seed=1),
         normal(4, 130, 2, 12, seed=2))
  want, _ = attention_lib.attention(*qkv, RULES['causal'])
  mesh = sharding.make_mesh({'data': 2, 'fsdp': 2, 'tensor': 2})
  with jax.set_mesh(mesh):
    placed = sharding.global_batch(mesh, (*qkv, KEYS))
    run = jax.jit(lambda q, k, v, keys: splash.attend(
        q, k, v, masks.causal(keys)))
    got = run(*placed)
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert got.sharding.shard_shape(got.shape) == (1, 130, 2, 12)
    odd = run(*(x[:3] for x in (*qkv, KEYS)))  # no mesh divides three rows
  np.testing.assert_allclose(odd, want[:3], atol=1e-5)


CONFIG = decoder_lib.DecoderConfig(
    vocab_size=50, width=16, mlp_width=24, layers=2, heads=4, kv_heads=2,
    head_width=8)
CHAINS = decoder_lib.Chains(
    np.array([[0, 1, 2, 0], [0, 1, 3, 4], [5, 0, 0, 0]]),
    np.array([4, 1, 2, 6, 7, 8]), decoder_lib.causal(4)[0])
DEPTH = np.array([0, 1, 2, 2, 3, 0])


@pytest.mark.parametrize('implementation', ['splash', 'auto'])
def test_a_decoder_reads_and_continues_as_the_oracle_does(implementation):
  """Prefixes, packed suffixes, and gradients of both kinds of layers."""
  x, suffix = normal(4, 130, 16), normal(4, 6, 16, seed=1)
  params = decoder_lib.Decoder(CONFIG).init(
      jax.random.key(0), x[:1], np.zeros((1, 130)), masks.causal(KEYS[:1]))
  positions = jnp.broadcast_to(jnp.arange(130), KEYS.shape)
  @functools.partial(jax.jit, static_argnums=1)
  def run(params, config):
    apply = functools.partial(decoder_lib.Decoder(config).apply, params)
    hidden, cache = apply(x, positions, masks.causal(KEYS), KEYS,
                          method='prefix')
    rest = apply(cache, suffix, LENGTHS[:, None] + DEPTH, CHAINS,
                 method='suffix')
    return jnp.where(KEYS[..., None], hidden, 0), rest
  want = run(params, CONFIG)
  got = run(params, dataclasses.replace(CONFIG, attention=implementation))
  for one, other in zip(got, want):
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_tower_sees_its_own_slices_alone():
  config = vision.VisionConfig(8, 16, 1, 2, 24, patch_px=2)
  args = normal(2, 12, 16), normal(2, 12, 4, seed=1), np.array(
      [[1] * 4 + [2] * 8, [1] * 6 + [3] * 6])
  block = vision.Block(config)
  params = block.init(jax.random.key(0), *args)
  want = block.apply(params, *args)[0]
  got = vision.Block(dataclasses.replace(config, attention='splash')).apply(
      params, *args)[0]
  np.testing.assert_allclose(got, want, atol=1e-5)


def test_blocks_of_queries_are_the_whole():
  """'xla' for rows too long to hold all their scores; gradients, too."""
  qkv = [normal(4, 130, n, 12, seed=n) for n in (4, 2, 2)]
  def total(qkv, block):
    out, lse = attention_lib.attention(*qkv, RULES['causal'], block=block)
    return jnp.sum(jnp.where(KEYS[..., None], out.sum(-1) + lse, 0)), (out, lse)
  (_, want), slopes = jax.value_and_grad(total, has_aux=True)(qkv, 130)
  (_, got), same = jax.value_and_grad(total, has_aux=True)(qkv, 50)
  for one, other in zip(jax.tree.leaves((got, same)),
                        jax.tree.leaves((want, slopes))):
    np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize('build, message', [
    (lambda x: attention_lib.attention(
        x, x, x, jnp.ones((1, 2, 2), bool), implementation='splash'),
     'a mask of its own for each of 2 queries'),
    (lambda x: attention_lib.attention(
        x, x, x, None, lambda weights: weights, 'splash'), 'got dropout True'),
    (lambda x: splash.attend(x, x[:, :1], x[:, :1], masks.Segments(
        None, jnp.ones((1, 1), bool), True)), '2 queries to 1 keys')])
def test_what_the_kernel_cannot_do_is_refused_in_one_line(build, message):
  with pytest.raises(ValueError, match=message) as caught:
    build(jnp.zeros((1, 2, 2, 8)))
  assert '\n' not in str(caught.value)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec('libtpu') is None,
                    reason="no libtpu: pip install -e '.[tpu]'")
@pytest.mark.parametrize('implementation', ['splash', 'xla'])
def test_a_video_of_16384_tokens_fits_on_a_chip(implementation):
  """Of 65,536 patches, read by Qwen2.5-VL 7B; scores alone would be 30 GiB."""
  numerics = {'dtype': 'bfloat16', 'param_dtype': 'bfloat16',
              'attention': implementation}
  config = qwen2_vl.Qwen2VlConfig(
      decoder_lib.DecoderConfig(
          152064, 3584, 18944, 28, 28, 4, 128, rope_sections=(16, 24, 24),
          **numerics),
      qwen25_vl_vision.VisionConfig(3584, **numerics), 'mrope')
  part = tpu_slices.open_one('v5e:4x4')
  mesh = sharding.make_mesh({'fsdp': 16}, part.devices)
  params = sharding.abstract(mesh, jax.eval_shape(
      functools.partial(qwen2_vl.init, config), jax.random.key(0)))
  def array(dtype, *shape):
    return jax.ShapeDtypeStruct(
        (16, *shape), dtype, sharding=sharding.batch_sharding(mesh))
  ints = functools.partial(array, jnp.int32)
  batch = {'tokens': ints(16640), 'length': ints(), 'positions': ints(3, 16640),
           'visual_index': ints(16640), 'patches': array(
               jnp.uint8, 16, 4096, 1176), 'segments': ints(16, 4096),
           'coordinates': ints(16, 4096, 2)}
  with jax.set_mesh(mesh):
    lowered = jax.jit(config.module().apply).lower(params, batch)
  _, use = tpu_slices.compile_for(part, lowered, implementation, params)
  assert use.fits and use.total < 6 * tpu_slices.GIB
