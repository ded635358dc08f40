"""MM-Embed in small: who sees whom, what is pooled, folding, meshes."""
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import sharding
from jaxret.data.llava import images as llava_images
from jaxret.models import clip, decoder, encoder
from jaxret.models.llava import latent_attention, mm_embed

GRID = llava_images.Grid(8, 4)
DECODER = decoder.DecoderConfig(
    vocab_size=20, width=16, mlp_width=24, layers=2, heads=4, kv_heads=2,
    head_width=4, rope_theta=100.0, norm_eps=1e-5, qkv_bias=False)
VISION = clip.ClipVisionConfig(encoder.EncoderConfig(
    12, 20, 2, 3, 'quick_gelu'), GRID.image_px, GRID.patch_px)
LATENT = latent_attention.LatentConfig(16, 6, 2, 8)
CONFIG = mm_embed.MmEmbedConfig(DECODER, VISION, LATENT)


@pytest.fixture(scope='module')
def params():
  return jax.jit(functools.partial(mm_embed.init, CONFIG))(jax.random.key(0))


def random_batch(rows=8, length=12, seed=0):
  """Rows of all lengths from 8 on, each with an image after two tokens."""
  rng = np.random.default_rng(seed)
  n_visual = GRID.side ** 2 + 1
  index = np.full((rows, length), -1, np.int32)
  index[:, 2:2 + n_visual] = [*range(1, n_visual), 0]
  tokens = rng.integers(0, DECODER.vocab_size, (rows, length))
  return {
      'tokens': np.where(index < 0, tokens, -1).astype(np.int32),
      'length': (8 + np.arange(rows) % (length - 7)).astype(np.int32),
      'pool_start': (np.arange(rows) % 3).astype(np.int32),
      'visual_index': index,
      'pixels': rng.integers(
          0, 256, (rows, 1, GRID.image_px, GRID.image_px, 3), np.uint8)}


embed = jax.jit(mm_embed.embed, static_argnums=0)


@pytest.mark.slow
def test_embeddings_are_unit_vectors_and_padding_has_no_part(params):
  batch = random_batch()
  vectors = np.asarray(embed(CONFIG, params, batch))
  np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
  behind = np.arange(batch['tokens'].shape[1]) >= batch['length'][:, None]
  other = {**batch, 'tokens': np.where(behind, 7, batch['tokens'])}
  np.testing.assert_allclose(embed(CONFIG, params, other), vectors, atol=1e-6)


def test_a_token_sees_those_behind_it(params):
  batch = random_batch()
  def hidden(module, batch):
    x = module.inputs(batch['tokens'], batch['pixels'], batch['visual_index'])
    return module.hidden(x, np.arange(x.shape[1]) < batch['length'][:, None])
  apply = jax.jit(functools.partial(CONFIG.module().apply, method=hidden))
  before = apply(params, batch)
  last = (np.arange(len(before)), batch['length'] - 1)
  tokens = batch['tokens'].copy()
  tokens[last] = (tokens[last] + 1) % DECODER.vocab_size
  after = apply(params, {**batch, 'tokens': tokens})
  assert (np.abs(before[:, 0] - after[:, 0]).max(-1) > 1e-4).all()


def test_instruction_tokens_are_seen_but_not_pooled(params):
  """The mean is over the rest; without one more token it is another mean."""
  batch = random_batch()
  def parts(module, batch):
    x = module.inputs(batch['tokens'], batch['pixels'], batch['visual_index'])
    keys = np.arange(x.shape[1]) < batch['length'][:, None]
    return module.token_outputs(module.hidden(x, keys))
  outputs = np.asarray(jax.jit(functools.partial(
      CONFIG.module().apply, method=parts))(params, batch), np.float64)
  for row, vector in enumerate(np.asarray(embed(CONFIG, params, batch))):
    mean = outputs[row, batch['pool_start'][row]:batch['length'][row]].mean(0)
    np.testing.assert_allclose(
        vector, mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('latent', [LATENT, None])
def test_meshes_give_the_same_embeddings(params, latent):
  config = dataclasses.replace(CONFIG, latent=latent)
  if latent is None:
    params = {'params': {name: tree for name, tree in params['params'].items()
                         if name != 'latent_attention'}}
  batch = random_batch()
  want = embed(config, params, batch)
  mesh = sharding.make_mesh({'data': 2, 'fsdp': 2, 'tensor': 2})
  with jax.set_mesh(mesh):
    got = jax.jit(mm_embed.embed, static_argnums=0)(
        config, jax.device_put(params, sharding.shardings(mesh, params)),
        sharding.global_batch(mesh, batch))
  np.testing.assert_allclose(got, want, atol=1e-5)


def test_folding_keeps_embeddings_and_dtypes(params):
  config, folded = mm_embed.fold(CONFIG, params)
  batch = random_batch()
  np.testing.assert_allclose(
      embed(config, folded, batch), embed(CONFIG, params, batch), atol=1e-6)
  assert mm_embed.fold(config, folded) == (config, folded)
  half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
  _, folded = mm_embed.fold(CONFIG, half)
  latent = folded['params']['latent_attention']
  assert {leaf.dtype for leaf in jax.tree.leaves(latent)} == {
      jnp.dtype(jnp.bfloat16)}


def test_folded_attention_can_be_initialised():
  """Its shapes are those that folding gives."""
  folded = dataclasses.replace(CONFIG, latent=dataclasses.replace(
      LATENT, folded=True))
  def shapes(config, fold):
    init = functools.partial(mm_embed.init, config)
    tree = jax.eval_shape(init, jax.random.key(0))
    return jax.eval_shape(
        lambda params: mm_embed.fold(config, params)[1], tree) if fold else tree
  assert shapes(folded, False) == shapes(CONFIG, True)


def test_text_alone_needs_no_tower(params):
  config = dataclasses.replace(CONFIG, vision=None)
  shapes = jax.eval_shape(functools.partial(mm_embed.init, config),
                          jax.random.key(0))['params']
  assert set(shapes) == {'decoder', 'latent_attention'}
  batch = {name: array for name, array in random_batch().items()
           if name not in ('pixels', 'visual_index')}
  only = {'params': {name: params['params'][name] for name in shapes}}
  np.testing.assert_allclose(
      embed(config, only, batch), embed(CONFIG, params, batch), atol=1e-6)


def test_widths_must_agree():
  with pytest.raises(ValueError, match='latent attention is 8 wide'):
    mm_embed.MmEmbedConfig(DECODER, VISION, latent_attention.LatentConfig(8))
