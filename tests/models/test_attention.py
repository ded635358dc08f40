"""Attention by jax.nn's kernels against the one that is written out."""
import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import blim as blim_config
from configs import leccr as leccr_config
from configs import mm_embed as mm_embed_config
from configs import unite as unite_config
from jaxret.methods.blim import method as blim
from jaxret.methods.blim import tower as dual_encoder
from jaxret.methods.leccr import captioner
from jaxret.methods.leccr import method as leccr
from jaxret.methods.mm_embed import method as mm_embed
from jaxret.methods.unite import method as unite
from jaxret.models import attention as attention_lib
from jaxret.models import clip, encoder
from jaxret.models import decoder as decoder_lib
from jaxret.models.qwen2_vl import vision as qwen2_vl_vision
from jaxret.models.videochat import vision

DECODER = decoder_lib.DecoderConfig(
    vocab_size=50, width=16, mlp_width=24, layers=2, heads=4, kv_heads=2,
    head_width=8)
LENGTHS = np.array([5, 2, 4])
# Tokens a b c, a b d e and f.
CHAINS = decoder_lib.Chains(
    np.array([[0, 1, 2, 0], [0, 1, 3, 4], [5, 0, 0, 0]]),
    np.array([4, 1, 2, 6, 7, 8]), decoder_lib.causal(4)[0])
DEPTH = np.array([0, 1, 2, 2, 3, 0])


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def calls(monkeypatch):
  """The arguments of each call for cuDNN, which jax.nn's 'xla' answers.

  It takes float32, so that results can be compared to the last digits.
  """
  found, given = [], jax.nn.dot_product_attention
  def answer(query, key, value, mask, implementation):
    found.append((query, key, value, mask, implementation))
    return given(query, key, value, mask=mask, implementation='xla')
  monkeypatch.setattr(jax.nn, 'dot_product_attention', answer)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  monkeypatch.setattr(attention_lib, 'CUDNN_DTYPES', ('float32', 'bfloat16'))
  return found


@pytest.fixture
def for_cuda(monkeypatch):
  """(function, args) -> its code for GPUs, which this machine cannot run."""
  from jax._src.cudnn import fused_attention_stablehlo
  monkeypatch.setattr(
      fused_attention_stablehlo, 'check_cudnn_version', lambda: 91000)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  return lambda function, *args: jax.jit(function).trace(*args).lower(
      lowering_platforms=('cuda',)).as_text()


MASKS = {
    'causal, odd': (2, 5, 5, decoder_lib.causal(5)),
    'lengths': (3, 6, 5, decoder_lib.length_mask(LENGTHS, 5)[:, None]),
    'both': (3, 5, 5, decoder_lib.causal(5)
             & decoder_lib.length_mask(LENGTHS, 5)[:, None]),
    'other keys': (2, 3, 6, np.arange(36).reshape(2, 3, 6) % 5 > 1),
    'all': (2, 5, 7, None),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', MASKS)
@pytest.mark.parametrize('kv_heads', [1, 2, 4])
def test_kernels_attend_as_the_oracle_does(calls, name, kv_heads):
  """Outputs and gradients, with keys that several heads share."""
  rows, length, keys, mask = MASKS[name]
  qkv = (normal(rows, length, 4, 8), normal(rows, keys, kv_heads, 8, seed=1),
         normal(rows, keys, kv_heads, 8, seed=2))
  weight = normal(rows, length, 4, 8, seed=3)
  def total(qkv, implementation):
    out, _ = attention_lib.attention(*qkv, mask, implementation=implementation)
    return (weight * out).sum(), out
  (_, want), slopes = jax.value_and_grad(total, has_aux=True)(qkv, 'xla')
  assert not calls
  (_, got), same = jax.value_and_grad(total, has_aux=True)(qkv, 'cudnn')
  np.testing.assert_allclose(got, want, atol=1e-5)
  for one, other in zip(same, slopes):
    np.testing.assert_allclose(one, other, atol=1e-5)
  (query, key, value, given, implementation), = calls
  assert implementation == 'cudnn' and key.shape == value.shape
  if mask is not None:  # what cuDNN asks of one: whole, and even
    assert given.shape[1:] == (1, query.shape[1], key.shape[1])
    assert query.shape[1] % 2 == key.shape[1] % 2 == 0


@functools.cache
def decoder_params():
  module = decoder_lib.Decoder(DECODER)
  params = module.init(jax.random.key(0), normal(1, 2, 16), np.zeros((1, 2)),
                       decoder_lib.causal(2))
  leaves, tree = jax.tree.flatten(params)
  return jax.tree.unflatten(tree, [
      leaf + 0.1 * normal(*leaf.shape, seed=i)
      for i, leaf in enumerate(leaves)])


def decode(config, params, x, suffix):
  """(hidden of prefixes [P, S, D], of packed suffixes, of one token more)."""
  apply = functools.partial(decoder_lib.Decoder(config).apply, params)
  keys = decoder_lib.length_mask(LENGTHS, x.shape[1])
  positions = jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2])
  hidden, cache = apply(
      x, positions, decoder_lib.causal(x.shape[1]) & keys[:, None], keys,
      method='prefix')
  rest = apply(cache, suffix, LENGTHS[:, None] + DEPTH, CHAINS, method='suffix')
  room = ((0, 0), (0, 0), (0, 1), (0, 0), (0, 0))
  cache = decoder_lib.Cache(
      jnp.pad(cache.key, room), jnp.pad(cache.value, room),
      jnp.pad(cache.mask, ((0, 0), (0, 1))))
  more, _ = apply(cache, suffix[:, :1], LENGTHS[:, None], x.shape[1],
                  method='step')
  return jnp.where(keys[..., None], hidden, 0), rest, more


@pytest.mark.slow
def test_kernels_decode_as_the_oracle_does(calls):
  """Prefixes of several lengths, and suffixes that share their beginnings.

  The oracle merges two parts by their log-sum-exp, kernels see both at once.
  """
  x, suffix = normal(3, 5, 16), normal(3, 6, 16, seed=1)
  run = jax.jit(decode, static_argnums=0)
  want = run(DECODER, decoder_params(), x, suffix)
  assert not calls
  got = run(dataclasses.replace(DECODER, attention='cudnn'), decoder_params(),
            x, suffix)
  for one, other in zip(got, want):
    np.testing.assert_allclose(one, other, atol=1e-5)
  seen = {key.shape[1] for _, key, *_ in calls}
  assert seen == {6, 12}  # 5 + 1 and 5 + 6 + 1: even


def test_a_suffix_sees_its_prefix_and_what_precedes_it_in_its_chain():
  keys = decoder_lib.length_mask(LENGTHS, 5)
  mask = np.asarray(decoder_lib.suffix_mask(keys, CHAINS))
  own = ['a', 'ab', 'abc', 'abd', 'abde', 'f']  # by hand
  for p in range(3):
    for token, names in enumerate(own):
      want = [s < LENGTHS[p] for s in range(5)]
      want += [name in names for name in 'abcdef']
      assert mask[p, token].tolist() == want
  own = CHAINS._replace(index=np.stack([CHAINS.index] * 3),
                        place=np.stack([CHAINS.place] * 3))
  np.testing.assert_array_equal(decoder_lib.suffix_mask(keys, own), mask)


def run_tower(config, pixels):
  tower = vision.VisionTower(config)
  return tower.apply(tower.init(jax.random.key(0), pixels), pixels)


def run_clip(config, pixels):
  tower = clip.ClipVision(config)
  return tower.apply(tower.init(jax.random.key(0), pixels[:, 0]), pixels[:, 0])


def run_text(config, pixels):
  del pixels
  stack = encoder.stack(encoder.PostNormLayer, config)
  args = normal(3, 5, 16), decoder_lib.length_mask(LENGTHS, 5)[:, None]
  return stack.apply(stack.init(jax.random.key(0), *args), *args)[0]


def run_qwen2_vl(config, pixels):
  del pixels
  block = qwen2_vl_vision.Block(config)
  args = (normal(2, 12, 16), normal(2, 12, 4, seed=1),
          np.array([[1] * 4 + [2] * 8, [1] * 6 + [3] * 6]))
  return block.apply(block.init(jax.random.key(0), *args), *args)[0]


@pytest.mark.slow
@pytest.mark.parametrize('run, config', [
    (run_tower, vision.VisionConfig(
        8, 4, 2, 16, 2, 2, 24, table_frames=2, table_grid=2)),
    (run_clip, clip.ClipVisionConfig(
        encoder.EncoderConfig(16, 24, 2, 2, 'quick_gelu'), 8, 4)),
    (run_text, encoder.EncoderConfig(16, 24, 2, 2)),
    (run_qwen2_vl, qwen2_vl_vision.VisionConfig(
        8, 16, 1, 2, 24, patch_px=2))])
def test_kernels_encode_as_the_oracle_does(calls, monkeypatch, run, config):
  monkeypatch.setattr(qwen2_vl_vision, 'QUERY_BLOCK', 5)
  pixels = normal(2, 2, 8, 8, 3)
  want = run(config, pixels)
  assert not calls
  if hasattr(config, 'encoder'):
    config = dataclasses.replace(config, encoder=dataclasses.replace(
        config.encoder, attention='cudnn'))
  else:
    config = dataclasses.replace(config, attention='cudnn')
  np.testing.assert_allclose(run(config, pixels), want, atol=1e-5)
  assert calls


def test_a_decoder_is_lowered_to_cudnn(for_cuda):
  config = dataclasses.replace(DECODER, dtype='bfloat16', attention='cudnn')
  abstract = jax.eval_shape(decoder_params)
  x, suffix = normal(3, 5, 16), normal(3, 6, 16, seed=1)
  run = functools.partial(decode, config)
  assert for_cuda(run, abstract, x, suffix).count('@__cudnn$fmha') == 2
  def loss(params):
    return jnp.sum(run(params, x, suffix)[1].astype(jnp.float32))
  assert '@__cudnn$fmhaScaleBiasSoftmaxBackward' in for_cuda(
      jax.grad(loss), abstract)
  oracle = functools.partial(
      decode, dataclasses.replace(config, attention='xla'))
  assert 'cudnn' not in for_cuda(oracle, abstract, x, suffix)


def test_a_tower_without_a_mask_is_lowered_to_cudnn(for_cuda):
  config = vision.VisionConfig(
      8, 4, 2, 16, 2, 2, 24, table_frames=2, table_grid=2, dtype='bfloat16',
      attention='cudnn')
  code = for_cuda(functools.partial(run_tower, config), normal(2, 2, 8, 8, 3))
  assert '@__cudnn$fmhaSoftmax(' in code and 'ScaleBias' not in code


SIXTEEN = {'dtype': 'bfloat16', 'attention': 'cudnn'}


@pytest.mark.parametrize('build, message', [
    (lambda: dataclasses.replace(DECODER, attention='flash'),
     "model.attention 'flash' is not known; want one of 'xla', 'cudnn', 'spl"),
    (lambda: dataclasses.replace(DECODER, attention='cudnn'),
     'got dtype float32, want bfloat16 or float16'),
    (lambda: dataclasses.replace(DECODER, head_width=12, **SIXTEEN),
     'got head width 12, want a multiple of 8 up to 256'),
    (lambda: dataclasses.replace(DECODER, head_width=264, **SIXTEEN),
     'got head width 264, want'),
    (lambda: encoder.EncoderConfig(16, 24, 2, 2, dropout=0.1, **SIXTEEN),
     'got dropout 0.1, want none'),
    (lambda: vision.VisionConfig(attention='cudnn'), 'got dtype float32'),
    (lambda: qwen2_vl_vision.VisionConfig(8, 24, 1, 2, **SIXTEEN),
     'got head width 12'),
])
def test_what_a_kernel_cannot_do_is_refused_in_one_line(build, message):
  with pytest.raises(ValueError, match=message) as caught:
    build()
  assert '\n' not in str(caught.value)
  assert 'model.attention' in str(caught.value)


def test_another_device_and_dropout_are_refused_in_one_line():
  x = jnp.zeros((1, 2, 2, 8), jnp.bfloat16)
  with pytest.raises(ValueError, match="got the device 'cpu', want 'gpu'"):
    attention_lib.attention(x, x, x, None, implementation='cudnn')
  with pytest.raises(ValueError, match='got dropout True, want none'):
    attention_lib.attention(x, x, x, None, lambda weights: weights, 'cudnn')


def attention_of(config):
  """The field `attention` of every part of a model's config that has one."""
  if not dataclasses.is_dataclass(config):
    return []
  names = [field.name for field in dataclasses.fields(config)]
  own = [config.attention] if 'attention' in names else []
  return sum((attention_of(getattr(config, name)) for name in names), own)


def tower_config():
  """What the stage `tower` of a BLiM run is trained with."""
  config = blim_config.get_config()
  with config.unlocked():
    config.update(config.tower)
  return config


@pytest.mark.parametrize('build, config, parts', [
    (blim.model_config, blim_config.get_config(), 1),
    (unite.model_config, unite_config.get_config(), 2),
    (mm_embed.model_config, mm_embed_config.get_config(), 2),
    (leccr.model_config, leccr_config.get_config(), 3),
    (captioner.model_config, leccr_config.get_config().captioner, 2),
    (dual_encoder.module, tower_config(), 2)])
def test_a_field_of_the_config_reaches_every_part(build, config, parts):
  tokenizer = types.SimpleNamespace(vocab_size=50)
  assert attention_of(build(config, tokenizer)) == ['xla'] * parts
  with config.unlocked():
    config.model.update(attention='cudnn', dtype='bfloat16')
    if 'dtype' in config.get('vision', {}):
      config.vision.dtype = 'bfloat16'
  assert attention_of(build(config, tokenizer)) == ['cudnn'] * parts
