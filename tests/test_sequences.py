"""Scores of suffixes behind prompts: against whole passes, in any order."""
import functools

import jax
import numpy as np
import pytest

import jaxret
from jaxret import embedder, sharding
from jaxret.data import types
from tests import tiny_generators as tiny


@pytest.fixture(scope='module')
def model():
  return tiny.qwen2_vl()


@functools.cache
def _hidden(module):
  def run(params, batch, keys):
    visual = None
    if 'patches' in batch:
      visual = module.apply(params, *(batch[name] for name in (
          'patches', 'segments', 'coordinates')), method='visual_tokens')
    x = module.apply(params, batch['tokens'], visual,
                     batch.get('visual_index'), method='embed')
    hidden = module.apply(params, x, keys, batch['positions'], method='hidden')
    return sum(left @ right for left, right in module.apply(
        params, hidden, method='vocabulary_terms'))
  return jax.jit(run)


def whole_pass(model, item, suffix, masked=False, chat=False):
  """log P of each token of a suffix, of one padded sequence, float64 [L]."""
  reader = model.reader
  prompt = reader(embedder.as_item(item, 0), chat)
  ids = reader.suffix(suffix, 'suffix')
  size, tokens = 64, np.concatenate([prompt.tokens, ids])
  shape = reader.bucket(prompt)._replace(tokens=size)
  batch = reader.pad([prompt], shape)
  start = len(prompt.tokens)
  next_position = prompt.positions[0, -1] + 1
  batch['tokens'][0, :len(tokens)] = tokens
  batch['positions'][0, :, start:len(tokens)] = (
      next_position + np.arange(len(ids)))
  keys = np.arange(size) < len(tokens)
  if masked:
    keys &= ~np.isin(batch['tokens'][0], list(reader.special.values()))
  logits = np.asarray(_hidden(model.module)(model.params, batch, keys[None]),
                      np.float64)[0, start - 1:len(tokens) - 1]
  logits -= logits.max(-1, keepdims=True)
  value = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  return value[np.arange(len(ids)), ids]


def score(model, *args, rows=2, columns=4, **kwargs):
  """In small tiles, of few shapes."""
  return jaxret.score_sequences(*args, model, show_progress=False, rows=rows,
                                columns=columns, **kwargs)


# Of tiny.prefixes(): a text, an image, one with a text, a video; and all.
FEW, ALL = slice(1, 8, 2), slice(None)


@pytest.mark.parametrize('masked, chosen', [
    *(pytest.param(False, chosen, marks=pytest.mark.slow)
      for chosen in (FEW, ALL)),
    (True, FEW), pytest.param(True, ALL, marks=pytest.mark.slow)])
def test_every_token_equals_that_of_a_whole_pass(model, masked, chosen):
  prefixes = tiny.prefixes()[chosen]
  found = score(model, prefixes, tiny.SUFFIXES, per_token=True,
                mask_media=masked)
  for p, prefix in enumerate(prefixes):
    for s, suffix in enumerate(tiny.SUFFIXES):
      want = whole_pass(model, prefix, suffix, masked)
      np.testing.assert_allclose(
          found.token_log_likelihood[p, s], want, atol=2e-5)
      np.testing.assert_allclose(
          found.log_likelihood[p, s], want.sum(), atol=1e-4)
  assert [''.join(pieces) for pieces in found.tokens] == list(tiny.SUFFIXES)


@pytest.mark.slow
@pytest.mark.parametrize('chosen', [
    FEW, pytest.param(ALL, marks=pytest.mark.slow)])
def test_twenty_orders_give_the_same_bits(model, chosen):
  prefixes, suffixes = tiny.prefixes()[chosen], list(tiny.SUFFIXES)
  prefixes += prefixes[:2]  # given twice
  suffixes += suffixes[3:4]
  want = score(model, prefixes, suffixes)
  pairs = np.argwhere(np.ones(want.shape))[::2]
  of_pairs = score(model, prefixes, suffixes, pairs=pairs)
  np.testing.assert_allclose(of_pairs, want[tuple(pairs.T)], atol=2e-5)
  rng = np.random.default_rng(0)
  for _ in range(20):
    rows, columns, order = map(
        rng.permutation, (len(prefixes), len(suffixes), len(pairs)))
    given = [prefixes[i] for i in rows], [suffixes[i] for i in columns]
    found = score(model, *given)
    np.testing.assert_array_equal(found, want[np.ix_(rows, columns)])
    moved = np.stack([np.argsort(rows)[pairs[order, 0]],
                      np.argsort(columns)[pairs[order, 1]]], 1)
    np.testing.assert_array_equal(
        score(model, *given, pairs=moved), of_pairs[order])


@pytest.mark.slow
def test_eight_devices_score_alike(model):
  assert jax.device_count() == 8
  many = tiny.qwen2_vl(sharding.make_mesh({'data': 4, 'fsdp': 2}))
  given = tiny.prefixes(), tiny.SUFFIXES
  np.testing.assert_allclose(score(many, *given), score(model, *given),
                             atol=2e-5)
  pairs = [(0, 0), (0, 1), (3, 2), (8, 8)]
  np.testing.assert_allclose(score(many, *given, pairs=pairs),
                             score(model, *given, pairs=pairs), atol=2e-5)


def test_what_an_order_leaves_out_still_tells_prefixes_apart(model):
  """An Item's order says how prompts name what it has, not what it has."""
  image = tiny.pixels(0, 56, 56)
  given = [{'text': text, 'image': image} for text in ('a photo', 'two dogs')]
  items = [types.Item(f'{i}', one['text'], image, order=('image',))
           for i, one in enumerate(given)]
  np.testing.assert_array_equal(
      score(model, items, tiny.SUFFIXES), score(model, given, tiny.SUFFIXES))


def test_masked_media_are_not_what_matters(model):
  """The prior is the same whatever is shown; positions are those of its size.
  """
  shown = [{'image': tiny.pixels(seed, 56, 56), 'text': 'a'}
           for seed in range(3)] + [{'image': tiny.pixels(0, 28, 28),
                                     'text': 'a'}]
  found = score(model, shown, tiny.SUFFIXES, mask_media=True)
  np.testing.assert_array_equal(found[:2], found[1:3])
  assert np.abs(found[0] - found[3]).max() > 1e-4
  seen = score(model, shown, tiny.SUFFIXES)
  assert np.abs(np.diff(seen[:3], axis=0)).min() > 1e-4


def test_the_mean_is_over_the_tokens_of_a_suffix(model):
  given = ['a dog'], tiny.SUFFIXES
  whole = score(model, *given, per_token=True)
  count = [len(values) for values in whole.token_log_likelihood[0]]
  np.testing.assert_allclose(
      score(model, *given, reduction='mean')[0],
      whole.log_likelihood[0] / count, rtol=1e-6)


def test_chat_is_the_template_of_the_model(model):
  item = {'image': tiny.pixels(0, 56, 56), 'text': 'Is there a dog?'}
  start, end = '<|im_start|>', '<|im_end|>'
  written = (f'{start}system\nYou are a helpful assistant.{end}\n{start}user\n'
             f'<|IMAGE|>Is there a dog?{end}\n{start}assistant\n')
  np.testing.assert_array_equal(
      score(model, [item], ['yes', 'no'], chat=True),
      score(model, [{**item, 'text': written}], ['yes', 'no']))


def test_like_calls_compile_nothing(model):
  """Other images and words, as many and about as long."""
  def call(seed, words):
    images = [{'image': tiny.pixels(10 * seed + i, 56, 56), 'text': words[0]}
              for i in range(5)]
    return score(model, images, [f' {word} runs on the' for word in words],
                 rows=8)
  call(0, ['dog', 'cat', 'sofa'])
  with _counting() as compiled:
    call(1, ['grass', 'dogs', 'sleeps'])
  assert not compiled


class _counting:
  """What is compiled inside, by jax.monitoring."""

  def __enter__(self):
    self.found = []
    self.listen = lambda name, *_, **__: (
        'backend_compile' in name and self.found.append(name))
    jax.monitoring.register_event_duration_secs_listener(self.listen)
    return self.found

  def __exit__(self, *error):
    jax.monitoring.unregister_event_duration_listener(self.listen)


@pytest.mark.parametrize('given, kwargs, said', [
    (([], ['a']), {}, 'prefixes: got none, want one at least'),
    ((['a'], []), {}, 'suffixes: got none'),
    (('a', ['b']), {}, 'prefixes: got one str, want a list'),
    ((['a'], 'b'), {}, 'suffixes: got one str, want a list'),
    ((['a'], ['b', '']), {}, 'suffix 1: it is empty'),
    ((['a'], [3]), {}, 'suffix 0: got int, want a text'),
    ((['a'], ['<|image_pad|>']), {}, r'suffix 0: it holds <\|image_pad'),
    ((['a'], ['\ud83d']), {}, 'suffix 0: it holds a lone surrogate'),
    ((['a', ''], ['b']), {}, 'prefix 1: it is empty, nothing to continue'),
    ((['a', '\ud83d'], ['b']), {}, 'prefix 1: its text holds a lone surrogate'),
    ((['<|video_pad|>'], ['b']), {}, 'prefix 0: its text holds the control'),
    ((['a', {'image': 'none.jpg'}], ['b']), {}, 'prefix 1: .*none.jpg'),
    (([{'text': 'a <|IMAGE|>'}], ['b']), {}, r'prefix 0: its text has 1 marks'),
    ((['<|im_start|>'], ['b']), {'chat': True}, 'control token <.im_start'),
    ((['word ' * 3000], ['b']), {}, 'prefix 0: [0-9]+ tokens, want at most'),
    ((['a'], ['b']), {'pairs': [(0, 1)]}, 'pair 0: got suffix 1, want one of'),
    ((['a'], ['b']), {'pairs': [(0, 0), (-1, 0)]}, 'pair 1: got prefix -1'),
    ((['a'], ['b']), {'pairs': [0, 0]}, 'pairs: got .* want integers'),
    ((['a'], ['b']), {'pairs': [(0., 0.)]}, 'pairs: got float64 of shape'),
    ((['a'], ['b']), {'reduction': 'max'}, "reduction is 'max'; want one of"),
    ((['a'], ['b']), {'on_error': 'no'}, "on_error is 'no'; want"),
])
def test_bad_input_is_one_line(model, given, kwargs, said):
  with pytest.raises(ValueError, match=said) as error:
    score(model, *given, **kwargs)
  assert '\n' not in str(error.value)


def test_what_cannot_be_used_is_left_out_and_said(model):
  said = []
  found = score(
      model, ['a', {'image': 'none.jpg'}, 'b'], ['c', '', ' dog runs'],
      on_error=lambda error: said.append(str(error)), per_token=True)
  assert np.isnan(found.log_likelihood).tolist() == [
      [False, True, False], [True] * 3, [False, True, False]]
  assert [line.split(':')[0] for line in said] == ['suffix 1', 'prefix 1']
  assert found.tokens[1] == ()
  np.testing.assert_array_equal(
      found.log_likelihood[::2, ::2],
      score(model, ['a', 'b'], ['c', ' dog runs']))
