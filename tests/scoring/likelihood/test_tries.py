"""Captions as tries: every caption is spelled, nothing shared is repeated."""
import numpy as np
import pytest

from jaxret.scoring.likelihood import tries

RNG = np.random.default_rng(0)


def captions(n):
  """Of few words, so that many begin alike; all end with the same two."""
  return [np.concatenate([RNG.integers(1, 4, RNG.integers(1, 9)), [8, 9]]
                         ).astype(np.int32) for _ in range(n)]


def distinct_beginnings(labels):
  return {tuple(label[:k + 1]) for label in labels
          for k in range(len(label) - 1)}


@pytest.mark.parametrize('columns', [1, 3, 7, 100])
@pytest.mark.parametrize('n', [1, 2, 40])
def test_every_caption_is_spelled_by_its_chain(n, columns):
  labels = captions(n)
  found = tries.tries(labels, columns)
  seen = np.concatenate([trie.index for trie in found])
  np.testing.assert_array_equal(np.sort(seen), np.arange(n))
  for trie in found:
    for row, caption in enumerate(trie.index):
      inputs = labels[caption][:-1]
      chain = trie.chains[row, :len(inputs)]
      np.testing.assert_array_equal(trie.tokens[chain], inputs)
      np.testing.assert_array_equal(trie.depth[chain], np.arange(len(inputs)))
      np.testing.assert_array_equal(
          trie.labels[row, :trie.lengths[row]], labels[caption])
    # `place` leads from a token to a chain that holds it, at its own depth.
    real = np.unique(np.concatenate([
        trie.chains[row, :trie.lengths[row] - 1]
        for row in range(len(trie.index))]))
    np.testing.assert_array_equal(
        trie.chains.reshape(-1)[trie.place[real]], real)
    np.testing.assert_array_equal(
        trie.place[real] % trie.chains.shape[1], trie.depth[real])


def test_a_shared_beginning_is_there_once():
  labels = captions(60)
  found = tries.tries(labels, 1000)
  for trie in found:
    own = [labels[i] for i in trie.index]
    real = {int(i) for row in range(len(own))
            for i in trie.chains[row, :trie.lengths[row] - 1]}
    assert len(real) == len(distinct_beginnings(own))
  assert sum(len(trie.tokens) for trie in found) < 0.6 * sum(
      len(label) - 1 for label in labels)


def test_tiles_of_a_bucket_have_one_shape_and_little_padding():
  labels = captions(300)
  found = tries.tries(labels, 16)
  shapes = {(trie.chains.shape, trie.tokens.shape) for trie in found}
  lengths = {trie.chains.shape[1] for trie in found}
  assert len(shapes) == len(lengths) <= 3
  real = sum(len(distinct_beginnings([labels[i] for i in trie.index]))
             for trie in found)
  assert sum(len(trie.tokens) for trie in found) <= 1.1 * real


def test_a_rectangle_shares_nothing():
  labels = captions(5)
  index = np.array([[0, 1], [3, 2]])
  tokens, stacked, lengths, chains, place, depth = tries.rectangle(
      labels, index, 12)
  assert tokens.shape == (2, 22) and stacked.shape == (2, 2, 12)
  for row, column in np.ndindex(2, 2):
    label = labels[index[row, column]]
    assert lengths[row, column] == len(label)
    np.testing.assert_array_equal(stacked[row, column, :len(label)], label)
    np.testing.assert_array_equal(
        tokens[row, chains[column, :len(label) - 1]], label[:-1])
  np.testing.assert_array_equal(chains.reshape(-1)[place], place)
  np.testing.assert_array_equal(depth, np.tile(np.arange(11), 2))


def test_stack_pads_on_the_right():
  np.testing.assert_array_equal(
      tries.stack([np.array([1, 2]), np.array([3])], 3, -1),
      [[1, 2, -1], [3, -1, -1]])


def test_stairs_are_a_rectangle_without_the_room_that_no_caption_needs():
  labels = [np.arange(1, n + 1, dtype=np.int32) * 10 + n for n in (9, 6, 4, 2)]
  index = np.array([[0, 2, 3], [1, 2, 3], [1, 3, 3]])
  sizes, length, total = np.array([8, 3, 1]), 11, 16
  tokens, stacked, lengths, chains, place, depth = tries.stairs(
      labels, index, sizes, length, total)
  assert tokens.shape == (3, total) and chains.shape == (3, length - 1)
  assert place.shape == depth.shape == (total,)
  for row, column in np.ndindex(3, 3):
    label = labels[index[row, column]]
    chain = chains[column, :len(label) - 1]
    np.testing.assert_array_equal(stacked[row, column, :len(label)], label)
    assert lengths[row, column] == len(label)
    np.testing.assert_array_equal(tokens[row, chain], label[:-1])
    np.testing.assert_array_equal(depth[chain], np.arange(len(chain)))
    np.testing.assert_array_equal(chains.reshape(-1)[place[chain]], chain)
  # Each place has tokens of its own, as many as it has room for.
  own = [chains[column, :size] for column, size in enumerate(sizes)]
  np.testing.assert_array_equal(np.concatenate(own), np.arange(sizes.sum()))
  even = tries.stairs(labels, index, np.full(3, 8), 9, 24)
  for got, wanted in zip(even, tries.rectangle(labels, index, 9)):
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize('n', [1, 40, 300])
def test_fixed_tries_spell_every_caption_in_one_of_few_shapes(n):
  labels = [*captions(n), np.arange(1, 301, dtype=np.int32)]
  found = tries.fixed(labels)
  np.testing.assert_array_equal(
      np.sort(np.concatenate([trie.index for trie in found])), np.arange(n + 1))
  for trie in found:
    long = n in trie.index
    assert trie.tokens.shape == (512 if long else 256,)
    assert trie.chains.shape == (64, trie.labels.shape[1] - 1)
    assert trie.labels.shape[1] == (304 if long else 8) or not long and (
        trie.labels.shape[1] == 16)
    for row, caption in enumerate(trie.index):
      inputs = labels[caption][:-1]
      np.testing.assert_array_equal(
          trie.tokens[trie.chains[row, :len(inputs)]], inputs)
