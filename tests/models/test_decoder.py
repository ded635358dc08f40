"""The decoder against PyTorch's Qwen2, and against itself."""
import dataclasses
import functools
import itertools

import flax.traverse_util as traverse
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret.models import decoder as decoder_lib
from jaxret.models import names, pretrained, rotary

CONFIG = decoder_lib.DecoderConfig(
    vocab_size=50, width=16, mlp_width=24, layers=3, heads=4, kv_heads=2,
    head_width=6)


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@functools.cache
def random_decoder(config):
  """(module, variables); zero-centred leaves get some size too."""
  module = decoder_lib.Decoder(config)
  def every_part(module, tokens):
    positions = jnp.zeros(tokens.shape, int)
    x = module.embed_tokens(tokens)
    x = module(x, positions, decoder_lib.causal(2))
    return module.vocabulary_terms(x)
  params = module.init(
      jax.random.key(0), jnp.zeros((1, 2), int), method=every_part)
  leaves, tree = jax.tree.flatten(params)
  leaves = [leaf + 0.1 * normal(*leaf.shape, seed=i)
            for i, leaf in enumerate(leaves)]
  return module, jax.tree.unflatten(tree, leaves)


def full_pass(module, params, x):
  """Causal hidden states of [B, T, D]."""
  positions = jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2])
  return jax.jit(module.apply)(
      params, x, positions, decoder_lib.causal(x.shape[1]))


def prefix_pass(module, params, x, lengths):
  """(hidden, cache) of right-padded prefixes [P, S, D]."""
  keys = decoder_lib.length_mask(lengths, x.shape[1])
  positions = jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2])
  return jax.jit(functools.partial(module.apply, method='prefix'))(
      params, x, positions, decoder_lib.causal(x.shape[1]) & keys[:, None],
      keys)


def suffix_pass(module, params, cache, x, start):
  """Hidden states of [P, C, T, D] after the prefixes."""
  prefixes, count, length, width = x.shape
  place = np.arange(count * length)
  chains = decoder_lib.Chains(
      place.reshape(count, length), place, decoder_lib.causal(length)[0])
  out = jax.jit(functools.partial(module.apply, method='suffix'))(
      params, cache, x.reshape(prefixes, -1, width),
      start[:, None] + place % length, chains)
  return out.reshape(x.shape)


def test_prefix_and_suffix_give_the_hidden_states_of_a_full_pass():
  """Prefixes of several lengths, several candidates of each."""
  module, params = random_decoder(CONFIG)
  lengths, size, candidates, length = np.array([5, 2, 4]), 5, 2, 3
  prefixes = normal(3, size, CONFIG.width)
  suffixes = normal(3, candidates, length, CONFIG.width, seed=1)
  hidden, cache = prefix_pass(module, params, prefixes, lengths)
  got = suffix_pass(module, params, cache, suffixes, lengths)
  for p, c in np.ndindex(3, candidates):
    whole = np.concatenate([prefixes[p, :lengths[p]], suffixes[p, c]])
    padded = np.zeros((1, size + length, CONFIG.width), np.float32)
    padded[0, :len(whole)] = whole
    want = np.asarray(full_pass(module, params, padded))[0]
    np.testing.assert_allclose(
        hidden[p, :lengths[p]], want[:lengths[p]], atol=1e-5)
    np.testing.assert_allclose(
        got[p, c], want[lengths[p]:len(whole)], atol=1e-5)


def test_suffixes_that_share_a_beginning_are_packed():
  """Tokens a b c, a b d e and f: six of them, each computed once."""
  module, params = random_decoder(CONFIG)
  lengths = np.array([3, 2])
  prefixes = normal(2, 3, CONFIG.width)
  a, b, c, d, e, f = tokens = normal(6, CONFIG.width, seed=1)
  chains = decoder_lib.Chains(
      np.array([[0, 1, 2, 0], [0, 1, 3, 4], [5, 0, 0, 0]]),
      np.array([4, 1, 2, 6, 7, 8]), decoder_lib.causal(4)[0])
  depth = np.array([0, 1, 2, 2, 3, 0])
  _, cache = prefix_pass(module, params, prefixes, lengths)
  got = jax.jit(functools.partial(module.apply, method='suffix'))(
      params, cache, np.broadcast_to(tokens, (2, *tokens.shape)),
      lengths[:, None] + depth, chains)
  for p, (chain, places) in itertools.product(range(2), (
      ((a, b, c), (0, 1, 2)), ((a, b, d, e), (0, 1, 3, 4)), ((f,), (5,)))):
    whole = np.concatenate([prefixes[p, :lengths[p]], chain])[None]
    want = full_pass(module, params, whole)[0, lengths[p]:]
    np.testing.assert_allclose(got[p, list(places)], want, atol=1e-5)


def test_prefixes_may_have_chains_of_their_own():
  """Of one prefix b a | c, of the other a | c b: as each packed alone."""
  module, params = random_decoder(CONFIG)
  lengths = np.array([3, 2])
  _, cache = prefix_pass(module, params, normal(2, 3, CONFIG.width), lengths)
  x = normal(2, 3, CONFIG.width, seed=1)
  index = np.array([[[1, 0], [2, 2]], [[0, 0], [2, 1]]])
  place = np.array([[1, 0, 2], [0, 3, 2]])
  depth = np.array([[1, 0, 0], [0, 1, 0]])
  run = jax.jit(functools.partial(module.apply, method='suffix'))
  def suffix(rows, index, place):
    return run(params, jax.tree.map(lambda leaf: (
        leaf[rows] if leaf.ndim == 2 else leaf[:, rows]), cache), x[rows],
               (lengths[:, None] + depth)[rows], decoder_lib.Chains(
                   index, place, decoder_lib.causal(2)[0]))
  got = suffix(slice(2), index, place)
  for p in range(2):
    want = suffix(slice(p, p + 1), index[p], place[p])
    np.testing.assert_allclose(got[p], want[0], atol=1e-5)
  assert np.abs(got[1] - suffix(slice(2), index[0], place[0])[1]).max() > 1e-2


@pytest.mark.parametrize('tied', [False, True])
def test_logits_are_those_of_the_transformers_library(tied):
  """Its weights through our names table; full pass, and prefix and suffix."""
  compare_with_transformers(tied, {'rope_type': 'default'})


@pytest.mark.slow
@pytest.mark.parametrize('rope', [
    {'rope_type': 'linear', 'factor': 3.0},
    {'rope_type': 'dynamic', 'factor': 3.0},
    {'rope_type': 'yarn', 'factor': 4.0,
     'original_max_position_embeddings': 16},
    {'rope_type': 'longrope', 'factor': 2.0, 'short_factor': [1.0, 2.5],
     'long_factor': [3.0, 4.0], 'original_max_position_embeddings': 16},
    {'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0,
     'high_freq_factor': 4.0, 'original_max_position_embeddings': 32}])
def test_logits_of_scaled_positions_are_those_of_transformers(rope):
  compare_with_transformers(False, rope)


def compare_with_transformers(tied, rope):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  torch.manual_seed(0)
  theirs = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(
      vocab_size=50, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
      num_attention_heads=6, num_key_value_heads=2, rms_norm_eps=1e-5,
      tie_word_embeddings=tied, max_position_embeddings=64,
      rope_parameters={'rope_theta': 1e4, **rope}, initializer_range=0.3,
      attn_implementation='eager')).eval()
  with torch.no_grad():
    for weight in theirs.parameters():  # norms and biases start at 1 and 0
      weight += 0.1 * torch.randn_like(weight)
  tensors = {key: tensor.detach().numpy().copy()
             for key, tensor in theirs.state_dict().items()
             if not (tied and key == 'lm_head.weight')}
  table = tuple(weight for weight in names.DECODER
                if not (tied and 'lm_head' in weight.path))
  params, _ = pretrained.load(pretrained.Checkpoint('qwen2', tensors), table)
  params = {'params': params['decoder']}
  module = decoder_lib.Decoder(decoder_lib.DecoderConfig(
      50, 24, 40, 2, 6, 2, 4, norm_eps=1e-5, tie_embeddings=tied,
      **rotary.read('config.json', {'rope_parameters': rope}, 4, 64, 1e4)))
  tokens = np.random.default_rng(0).integers(50, size=(2, 9))
  with torch.no_grad():
    want = theirs(torch.tensor(tokens)).logits.numpy()

  def logits(hidden):
    terms = module.apply(params, hidden, method='vocabulary_terms')
    return sum(left @ right for left, right in terms)
  x = module.apply(params, tokens, method='embed_tokens')
  np.testing.assert_allclose(
      logits(full_pass(module, params, x)), want, atol=1e-4)
  prefix = 4
  hidden, cache = prefix_pass(
      module, params, x[:, :prefix], np.full(2, prefix))
  rest = suffix_pass(
      module, params, cache, x[:, None, prefix:], np.full(2, prefix))
  np.testing.assert_allclose(
      logits(jnp.concatenate([hidden, rest[:, 0]], 1)), want, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('remat', ['full', 'dots', 'offload'])
def test_remat_changes_no_gradient(remat):
  """With LoRA and its dropout, whose masks must be drawn alike twice."""
  x, weight = normal(2, 4, CONFIG.width), normal(2, 4, CONFIG.width, seed=1)
  lora = {'layers': {'attention': {'q': {
      'a': normal(3, 16, 2, seed=2), 'b': normal(3, 2, 24, seed=3)}}}}
  def gradients(remat):
    config = dataclasses.replace(CONFIG, remat=remat, lora_dropout=0.5)
    module, params = random_decoder(dataclasses.replace(config, remat='none'))
    module = decoder_lib.Decoder(config)
    positions = jnp.broadcast_to(jnp.arange(4), (2, 4))
    def loss(params, lora):
      hidden = module.apply(
          {**params, 'lora': lora}, x, positions, decoder_lib.causal(4),
          rngs={'dropout': jax.random.key(5)})
      return jnp.sum(hidden * weight)
    return jax.jit(jax.grad(loss, (0, 1)))(params, lora)
  plain, again = gradients('none'), gradients(remat)
  assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(plain[1])) > 0.1
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-4),
               plain, again)


def test_bfloat16_computes_in_bfloat16_and_stores_what_it_is_told():
  config = dataclasses.replace(CONFIG, dtype='bfloat16', layers=1)
  module, params = random_decoder(config)
  x = normal(1, 3, CONFIG.width)
  hidden = full_pass(module, params, x)
  assert hidden.dtype == jnp.bfloat16
  wide = decoder_lib.Decoder(dataclasses.replace(config, dtype='float32'))
  want = full_pass(wide, params, x)
  assert 1e-5 < np.abs(hidden - want).max() < 0.1 * np.abs(want).max()
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {
      np.dtype('float32')}


def test_flops_count_the_matrix_products():
  """Two for each multiplication of a kernel, and of causal attention."""
  _, params = random_decoder(CONFIG)
  flat = traverse.flatten_dict(params['params'])
  kernels = sum(leaf.size for path, leaf in flat.items()
                if path[0] == 'layers' and path[-1] == 'kernel')
  assert decoder_lib.flops_per_token(CONFIG) == 2 * kernels
  large = dataclasses.replace(CONFIG, width=4096, mlp_width=11008, layers=32)
  # Lengths of a batch are int32.
  assert np.int32(2048) * decoder_lib.flops_per_token(large) > 2 ** 40
  head = flat['lm_head', 'kernel']
  assert decoder_lib.head_flops(CONFIG) == 2 * head.size
  pairs = sum(1 for t in range(7) for s in range(t + 1))
  per_pair = 2 * 2 * CONFIG.head_width * CONFIG.heads * CONFIG.layers
  assert decoder_lib.attention_flops(CONFIG, 7) == pairs * per_pair
