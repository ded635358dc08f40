"""Attention a few heads at a time: as the oracle's, and no scores are kept."""
import collections
import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret.models import attention as attention_lib
from jaxret.models import attention_by_head, masks
from jaxret.models.qwen2_vl import vision

BATCH, LENGTH, KEYS, HEADS, KV_HEADS, WIDTH = 3, 6, 7, 4, 2, 8
SEGMENTS = np.array([[1, 1, 1, 2, 2, 0, 0], [1, 2, 2, 2, 3, 3, 3],
                     [1, 1, 1, 1, 1, 1, 1]])
MASKS = {
    'none': None,
    'keys': np.arange(KEYS) < np.array([[[7]], [[3]], [[5]]]),
    'table': np.random.default_rng(3).random((BATCH, LENGTH, KEYS)) < 0.5,
    'one for all': np.tri(LENGTH, KEYS, dtype=bool)[None],
    # A row that may attend to nothing has equal shares of all.
    'nothing': np.arange(LENGTH)[None, :, None] < np.array(
        [[[6]], [[2]], [[0]]]) * np.ones((1, 1, KEYS), bool),
    'segments': masks.Segments(SEGMENTS[:, :LENGTH], SEGMENTS),
}


def inputs(dtype=np.float32, seed=0):
  rng = np.random.default_rng(seed)
  return [jnp.asarray(rng.normal(size=shape), dtype) for shape in (
      (BATCH, LENGTH, HEADS, WIDTH), (BATCH, KEYS, KV_HEADS, WIDTH),
      (BATCH, KEYS, KV_HEADS, WIDTH))]


def run(implementation, mask, qkv):
  """Output, log-sum-exp, and the gradients of what both make together."""
  rng = np.random.default_rng(1)
  of_out = rng.normal(size=(BATCH, LENGTH, HEADS, WIDTH))
  of_lse = rng.normal(size=(BATCH, LENGTH, HEADS))

  def total(*qkv):
    out, lse = attention_lib.attention(
        *qkv, mask, implementation=implementation)
    seen = lse > -1e29
    return jnp.sum(out * of_out) + jnp.sum(jnp.where(seen, lse, 0) * of_lse), (
        out, lse)

  (_, found), gradients = jax.jit(jax.value_and_grad(
      total, argnums=(0, 1, 2), has_aux=True))(*qkv)
  return *found, *gradients


@pytest.mark.parametrize('chunk', [1, 4 * LENGTH * KEYS, 2 ** 19])
@pytest.mark.parametrize('name', MASKS)
def test_outputs_and_gradients_are_those_of_the_oracle(
    name, chunk, monkeypatch):
  monkeypatch.setattr(attention_by_head, 'CHUNK', chunk)
  got, want = (run(kind, MASKS[name], inputs()) for kind in ('heads', 'xla'))
  for ours, oracle in zip(got, want, strict=True):
    assert ours.dtype == oracle.dtype == np.float32
    np.testing.assert_allclose(ours, oracle, atol=1e-5)


def test_16_bits_stay_so():
  qkv = inputs(jnp.bfloat16)
  got, want = (run(kind, MASKS['table'], qkv) for kind in ('heads', 'xla'))
  exact = run('xla', MASKS['table'], [x.astype(np.float32) for x in qkv])
  for ours, oracle, right in zip(got, want, exact, strict=True):
    assert ours.dtype == oracle.dtype
    far, allowed = (np.abs(np.asarray(x, np.float32) - right).max()
                    for x in (ours, oracle))
    assert far <= 2 * allowed + 1e-6


def test_no_scores_are_kept_for_the_backward_pass(monkeypatch):
  monkeypatch.setattr(attention_by_head, 'CHUNK', 256 * 256)
  rng = np.random.default_rng(0)
  qkv = [rng.normal(size=(2, 256, 8, 8)).astype(np.float32) for _ in range(3)]
  scores = 2 * 8 * 256 * 256 * 4  # bytes

  def temporary(kind):
    def loss(*qkv):
      return jnp.sum(attention_lib.attention(
          *qkv, None, implementation=kind)[0] ** 2)
    return jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(
        *qkv).compile().memory_analysis().temp_size_in_bytes

  assert temporary('heads') < scores / 2
  assert temporary('xla') > scores


def test_layers_computed_again_keep_what_it_gave():
  """By remat 'dots' scores are made twice: forward, and by its own backward."""
  config = vision.VisionConfig(8, 16, 1, 2, 24, patch_px=2)
  arguments = inputs_of_a_tower()
  def products(remat):
    tower = vision.VisionTower(dataclasses.replace(
        config, attention='heads', remat=remat))
    params = tower.init(jax.random.key(0), *arguments)
    text = str(jax.make_jaxpr(jax.grad(lambda params: jnp.sum(
        tower.apply(params, *arguments) ** 2)))(params))
    # Of queries with keys, the only ones to give [2 * 2, 1, 12, 12].
    return len(re.findall(r'f32\[4,1,12,12\] = dot_general', text))
  once, kept, again = (products(remat) for remat in ('none', 'dots', 'full'))
  assert 0 < once == kept < again


def inputs_of_a_tower():
  rng = np.random.default_rng(0)
  patches = rng.normal(size=(2, 12, 24)).astype(np.float32)
  segments = np.array([[1] * 4 + [2] * 8, [1] * 8 + [3] * 4])
  return patches, segments, rng.integers(0, 4, (2, 12, 2))


def test_a_tower_of_packed_slices_trains_alike(monkeypatch):
  monkeypatch.setattr(vision, 'QUERY_BLOCK', 5)
  monkeypatch.setattr(attention_by_head, 'CHUNK', 30)
  config = vision.VisionConfig(8, 16, 2, 2, 24, patch_px=2)
  arguments = inputs_of_a_tower()
  params = vision.VisionTower(config).init(jax.random.key(0), *arguments)

  def gradients(kind):
    tower = vision.VisionTower(dataclasses.replace(config, attention=kind))
    return jax.grad(lambda params: jnp.sum(
        tower.apply(params, *arguments) ** 2))(params)

  jax.tree.map(lambda ours, oracle: np.testing.assert_allclose(
      ours, oracle, atol=1e-5), gradients('heads'), gradients('xla'))


@pytest.mark.parametrize('devices', [1, 8])
@pytest.mark.parametrize('name', ['table', 'segments'])
def test_auto_is_that_on_a_single_cpu_device(name, devices, monkeypatch):
  monkeypatch.setattr(jax, 'device_count', lambda: devices)
  def compiled(kind):
    def output(*qkv):
      return attention_lib.attention(
          *qkv, MASKS[name], implementation=kind)[0]
    return jax.jit(output).lower(*inputs()).compile().as_text()
  found = {kind: compiled(kind) for kind in ('auto', 'heads', 'xla')}
  def shapes(kind):  # of what is computed, whatever its names are
    return collections.Counter(re.findall(r'= (\w+\[.*?\])', found[kind]))
  assert shapes('heads') != shapes('xla')
  assert shapes('auto') == shapes('heads' if devices == 1 else 'xla')


def test_dropout_of_weights_is_refused():
  with pytest.raises(ValueError, match="'heads': got dropout True, want none"):
    attention_lib.attention(
        *inputs(), None, drop=lambda share: share, implementation='heads')
