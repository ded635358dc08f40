"""How suffixes are laid out: everything once, everywhere, in few shapes."""
import numpy as np
import pytest

from jaxret.scoring.likelihood import sequences


def labels(seed, count, longest=12, vocabulary=3):
  """Different suffixes of few words, so that many begin alike."""
  rng = np.random.default_rng(seed)
  found = {tuple(rng.integers(1, vocabulary + 1, rng.integers(1, longest + 1)))
           for _ in range(count)}
  return [np.array(one, np.int32) for one in sorted(found)]


def scored(tile, row, column):
  """(inputs, labels) of a suffix of a tile as it lies there."""
  tokens, depth, chains, place = tile.inputs
  size = len(tokens) if len(tokens) == 1 else row + 1
  length = tile.lengths[min(row, len(tile.lengths) - 1), column]
  chain = chains[column][:length - 1]
  assert (depth[chain] == np.arange(len(chain))).all()
  for step, token in enumerate(chain):  # one of its places is the token's own
    at, its = np.divmod(place[token], chains.shape[1])
    assert chains[at, its] == token and its == step
  return (tokens[size - 1][chain],
          tile.labels[min(row, len(tile.labels) - 1), column][:length])


@pytest.mark.parametrize('columns', [3, 64])
def test_every_suffix_is_in_one_shared_tile(columns):
  given = labels(0, 60)
  seen = []
  for tile in sequences.shared(given, columns):
    for column in np.flatnonzero(tile.real):
      number = tile.index[column]
      seen.append(number)
      inputs, its = scored(tile, 0, column)
      np.testing.assert_array_equal(its, given[number])
      np.testing.assert_array_equal(inputs, given[number][:-1])
  assert sorted(seen) == list(range(len(given)))


def test_what_suffixes_begin_with_is_computed_once():
  alike = [np.array([5, 6, 7, 8, i]) for i in range(9, 40)]
  assert [tile.tokens for tile in sequences.shared(alike, 64)] == [4]
  one_token = [np.array([i]) for i in range(9)]
  assert [tile.tokens for tile in sequences.shared(one_token, 4)] == [0]


def test_tiles_do_not_depend_on_the_order_of_the_suffixes():
  given = labels(1, 50)
  order = np.random.default_rng(2).permutation(len(given))
  for one, other in zip(sequences.shared(given, 8), sequences.shared(
      [given[i] for i in order], 8), strict=True):
    np.testing.assert_array_equal(order[other.index], one.index)
    for left, right in zip((*one.inputs, one.labels, one.lengths, one.real),
                           (*other.inputs, other.labels, other.lengths,
                            other.real)):
      np.testing.assert_array_equal(left, right)


def test_rows_have_the_suffixes_that_they_want():
  given = labels(3, 40)
  rng = np.random.default_rng(4)
  wanted = [np.sort(rng.choice(len(given), n, replace=False))
            for n in (1, 4, 9, 3)]
  seen = [[] for _ in wanted]
  for tile in sequences.own(given, wanted, 4):
    assert tile.index.shape[1] <= 4
    for row, column in np.argwhere(tile.real):
      number = tile.index[row, column]
      seen[row].append(number)
      inputs, its = scored(tile, row, column)
      np.testing.assert_array_equal(its, given[number])
      np.testing.assert_array_equal(inputs, given[number][:-1])
  assert [sorted(row) for row in seen] == [row.tolist() for row in wanted]


def test_tokens_are_at_most_an_eighth_padding():
  """Of a shared tile, however many suffixes there are; sizes are few."""
  sizes = set()
  for count in range(5, 120, 5):
    given = labels(count, count, vocabulary=20)
    distinct = {tuple(one[:k]) for one in given for k in range(1, len(one))}
    tiles = sequences.shared(given, 200)
    sizes |= {tile.tokens for tile in tiles}
    assert sum(tile.tokens for tile in tiles) <= 1.125 * len(distinct) + 8
  assert len(sizes) <= 30
