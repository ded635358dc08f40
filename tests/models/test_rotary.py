"""Scaled rotary positions have the numbers of transformers."""
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret.models import decoder as decoder_lib
from jaxret.models import layers, rotary
from tests.models import rotary_cases as cases

COMMITTED = json.loads(cases.FILE.read_text())
YARN = {'rope_type': 'yarn', 'factor': 4.0}


def read(part, default=1e4, theta=None, also=()):
  return rotary.read('config.json', part, cases.HEAD_WIDTH,
                     cases.MAX_POSITIONS, default, theta, also)


@pytest.mark.parametrize('rope, frequencies, scale', COMMITTED)
def test_frequencies_are_those_of_transformers(rope, frequencies, scale):
  found = read({'rope_parameters': rope}, None)
  plain = rotary.plain(rope['rope_theta'], cases.HEAD_WIDTH)
  np.testing.assert_allclose(
      found.get('rope_frequencies', plain), frequencies, rtol=3e-7)
  assert found.get('rope_scale', 1.0) == pytest.approx(scale, rel=1e-12)
  old = {key: value for key, value in rope.items() if key != 'rope_theta'}
  old['type'] = old.pop('rope_type')
  assert found == read({'rope_scaling': old, 'rope_theta': rope['rope_theta']})


def test_every_type_is_committed():
  assert {rope['rope_type'] for rope, *_ in COMMITTED} == (
      set(rotary.FIELDS) - {'default'})
  assert len(COMMITTED) == len(cases.CASES) * len(cases.THETAS)


@pytest.mark.slow
def test_what_is_committed_is_what_transformers_has():
  pytest.importorskip('torch')
  for rope, frequencies, scale in COMMITTED:
    found = cases.theirs(rope)
    np.testing.assert_allclose(found[0], frequencies, rtol=1e-7)
    assert found[1] == pytest.approx(scale, rel=1e-12)


def test_heads_turn_by_the_frequencies_given():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 3, 2, 4)).astype(np.float32)
  positions = np.array([[0, 5, 9], [1, 2, 300]])
  got = layers.rotary(jnp.array(x), jnp.array(positions), 1e4, (), (0.5, 0.01),
                      1.25)
  for b, t, n in np.ndindex(2, 3, 2):
    for pair, frequency in enumerate((0.5, 0.01)):
      turned = 1.25 * (complex(x[b, t, n, pair], x[b, t, n, pair + 2])
                       * np.exp(1j * positions[b, t] * frequency))
      assert abs(complex(*got[b, t, n, pair::2]) - turned) < 1e-5


def test_no_scaling_is_the_plain_base():
  for part in ({}, {'rope_scaling': None}, {'rope_parameters': {}},
               {'rope_scaling': {'type': 'default'}},
               {'rope_parameters': {'rope_type': 'default', 'type': 'mrope'}}):
    assert read(part) == {'rope_theta': 1e4}
    assert read({**part, 'rope_theta': 7}) == {'rope_theta': 7.0}
    assert read({**part, 'rope_theta': 7}, theta=9) == {'rope_theta': 9.0}


def test_the_length_before_scaling_may_stand_outside():
  """There it comes first, as transformers 5 has it."""
  inside = {**YARN, 'original_max_position_embeddings': 512}
  want = read({'rope_scaling': inside})
  name = 'original_max_position_embeddings'
  assert read({'rope_scaling': YARN, name: 512}) == want
  assert read({'rope_scaling': {**inside, name: 64}, name: 512}) == want
  assert read({'rope_scaling': YARN}) != want


def test_what_follows_the_length_is_bounded():
  found = read({'rope_scaling': {'type': 'dynamic', 'factor': 2.0}})
  assert found == {'rope_theta': 1e4, 'max_tokens': cases.MAX_POSITIONS,
                   'limited_by': "rope_type = 'dynamic'"}
  found = read({'rope_scaling': {
      'type': 'longrope', 'short_factor': cases.SHORT,
      'long_factor': cases.LONG, 'original_max_position_embeddings': 256}})
  assert found['max_tokens'] == 256
  assert 'longrope' in found['limited_by']


@pytest.mark.parametrize('part, message', [
    ({'rope_scaling': {'type': 'ntk'}}, "type = 'ntk'"),
    ({'rope_scaling': {'type': 'su', 'factor': 2.0}}, "type = 'su'"),
    ({'rope_parameters': {'rope_type': 'proportional'}}, "'proportional'"),
    ({'rope_scaling': {**YARN, 'type': 'mrope'}}, "got rope_type = 'yarn', type"
     " = 'mrope'"),
    ({'rope_scaling': {'type': 'linear'}}, 'got no factor'),
    ({'rope_scaling': {'type': 'linear', 'factor': None}}, 'got no factor'),
    ({'rope_scaling': {'type': 'linear', 'factor': -2.0}}, 'got factor = -2.0'),
    ({'rope_scaling': {'type': 'linear', 'factor': '2'}}, "got factor = '2'"),
    ({'rope_scaling': {'type': 'linear', 'factor': float('nan')}}, '= nan'),
    ({'rope_scaling': {'type': 'yarn'}}, 'got no factor'),
    ({'rope_scaling': {'type': 'default', 'factor': 2.0}}, 'got factor = 2.0'),
    ({'rope_scaling': {**YARN, 'beta_medium': 3}}, 'got beta_medium = 3'),
    ({'rope_scaling': {**YARN, 'mrope_section': [1]}}, 'got mrope_section'),
    ({'rope_scaling': {**YARN, 'truncate': 1}}, 'got truncate = 1'),
    ({'rope_scaling': {**YARN, 'partial_rotary_factor': 0.5}}, 'factor = 0.5'),
    ({'partial_rotary_factor': 0.25}, 'partial_rotary_factor = 0.25'),
    ({'rope_parameters': {'full_attention': YARN}}, 'got full_attention'),
    ({'rope_scaling': {'type': 'longrope', 'short_factor': [1.0],
                       'long_factor': cases.LONG}}, 'want 8 positive numbers'),
    ({'rope_scaling': {**cases.LLAMA, 'high_freq_factor': 1.0}},
     'got high_freq_factor = 1.0, want more than'),
    ({'rope_scaling': YARN, 'rope_parameters': cases.LLAMA}, 'which differ'),
    ({'rope_theta': True}, 'got rope_theta = True')])
def test_other_positions_are_refused_by_name(part, message):
  with pytest.raises(ValueError, match=message) as caught:
    read(part)
  assert '\n' not in str(caught.value)


def test_a_base_that_nobody_knows_is_not_guessed():
  with pytest.raises(ValueError, match='no rope_theta; a wrong one fails'):
    read({'rope_scaling': YARN}, None)


def test_a_decoder_refuses_what_is_longer_than_it_can_be_right_for():
  """Whole, prefix, suffix and step; a config can still be hashed."""
  config = decoder_lib.DecoderConfig(
      20, 8, 8, 1, 2, 2, 4, max_tokens=6, limited_by="rope_type = 'dynamic'",
      rope_frequencies=(1.0, 0.1))
  assert hash(config)
  module = decoder_lib.Decoder(config)
  def run(length, method, *args):
    x = jnp.zeros((1, length, 8))
    def call(module):
      module.embed_tokens(jnp.zeros((1, 1), int))
      return method(module, x, jnp.zeros((1, length), int), *args)
    return jax.eval_shape(
        lambda key: module.init(key, method=call), jax.random.key(0))
  def cache(length):
    shape = (1, 1, length, 2, 4)
    return decoder_lib.Cache(jnp.zeros(shape), jnp.zeros(shape),
                             jnp.ones((1, length), bool))
  chains = decoder_lib.Chains(jnp.arange(2)[None], jnp.arange(2),
                              decoder_lib.causal(2)[0])
  calls = {
      'whole': lambda n: run(n, lambda m, x, at: m(
          x, at, decoder_lib.causal(n))),
      'prefix': lambda n: run(n, lambda m, x, at: m.prefix(
          x, at, decoder_lib.causal(n), jnp.ones((1, n), bool))),
      'suffix': lambda n: run(2, lambda m, x, at: m.suffix(
          cache(n - 2), x, at, chains)),
      'step': lambda n: run(1, lambda m, x, at: m.step(cache(n), x, at, 0))}
  for call in calls.values():
    call(6)
    with pytest.raises(ValueError, match="got sequences of 7 tokens, .* want 6 "
                       "at most: past it rope_type = 'dynamic' of the model"):
      call(7)
