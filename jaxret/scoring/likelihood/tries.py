"""Captions as token tries: what they share is computed once per video.

The captions of a candidate set begin alike ("a man is ..."). Sorted and cut
into tiles, their tokens form small forests; a decoder that knows which tokens
precede which scores every caption of a tile from its distinct tokens alone.
"""
from typing import NamedTuple

import numpy as np

from jaxret.scoring.likelihood import tiles

# Padding of a chain costs attention among its few tokens, not a pass through
# the layers: few wide buckets leave captions of all lengths together, so that
# they share more.
CHAIN_PADDING = 0.5


class Trie(NamedTuple):
  """C captions of L scored tokens at most, as M distinct input tokens.

  index int [n]: the captions, n <= C; the rest is padding.
  tokens, depth int32 [M]: inputs, and how many precede each in its caption.
  chains int32 [C, L - 1]: the input tokens of each caption, in order.
  place int32 [M]: one position of each token in the flattened chains.
  labels int32 [C, L], lengths int32 [C]: the scored tokens of each caption.
  """
  index: np.ndarray
  tokens: np.ndarray
  depth: np.ndarray
  chains: np.ndarray
  place: np.ndarray
  labels: np.ndarray
  lengths: np.ndarray


def tries(labels, columns):
  """Cuts T captions into tries of about `columns` captions each.

  The last token of a caption is scored, but it is no input. Tries of one
  length bucket have one shape, filled evenly.

  Args:
    labels: T int arrays, the scored tokens of each caption, two at least.
    columns: captions per trie, about.

  Returns:
    List of Trie.
  """
  lengths = np.array([len(label) for label in labels])
  caps = tiles.buckets(lengths, CHAIN_PADDING)
  bucket = np.searchsorted(caps, lengths)
  result = []
  for number, cap in enumerate(caps):
    members = sorted(np.flatnonzero(bucket == number),
                     key=lambda i: labels[i].tolist())
    parts = _partition(_fresh(labels, members), lengths[members] - 1,
                       -(-len(members) // columns))
    built = [_build(labels, [members[i] for i in part], cap) for part in parts]
    size = max(len(trie.tokens) for trie in built)
    count = max(len(trie.index) for trie in built)
    result += [padded(trie, count, size, cap) for trie in built]
  return result


def fixed(labels):
  """Cuts T captions into tries of fixed shapes, see tiles.fixed_blocks.

  As many captions share a trie as there are tokens and places for. One that
  is longer than that has the next multiple of these tokens.
  """
  lengths = np.array([len(label) for label in labels])
  result = []
  for bucket in tiles.fixed_blocks(
      lengths, len(labels), tiles.FIXED_CAPTION_STEP):
    members = sorted(bucket.index, key=lambda i: labels[i].tolist())
    fresh, whole = _fresh(labels, members), lengths[members] - 1
    size = -(-(bucket.length - 1) // tiles.FIXED_TOKENS) * tiles.FIXED_TOKENS
    for part in _cut(fresh, whole, size, tiles.FIXED_COLUMNS):
      trie = _build(labels, [members[k] for k in part], bucket.length)
      result.append(padded(trie, tiles.FIXED_COLUMNS, size, bucket.length))
  return result


def rectangle(labels, index, length):
  """The same captions for every row, or others for each, nothing shared.

  Args:
    labels: T int arrays; index: int [P, C], captions of each row; length:
      what each is padded to.

  Returns:
    (tokens [P, M], labels [P, C, length], lengths [P, C]) and the chains,
    place and depth of M = C * (length - 1) tokens, which are the same for all
    rows.
  """
  stacked, lengths = _stacked(labels, index, length)
  return (stacked[:, :, :-1].reshape(len(index), -1), stacked, lengths,
          *separate(index.shape[1], length - 1))


def stairs(labels, index, sizes, length, total):
  """As `rectangle`, but each place has room for so many input tokens alone.

  Args:
    labels: T int arrays; index: int [P, C], captions of each row.
    sizes: int [C], input tokens of the captions of a place, at most.
    length: what scored tokens are padded to; total: M, the tokens, padded.

  Returns:
    As `rectangle`; the tokens that fill up repeat the first one's place.
  """
  stacked, lengths = _stacked(labels, index, length)
  chain = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
  end = np.cumsum(sizes, dtype=np.int32)
  depth = np.arange(len(chain), dtype=np.int32) - (end - sizes)[chain]
  chains = np.zeros((len(sizes), length - 1), np.int32)
  chains[chain, depth] = np.arange(len(chain))
  more = (0, total - len(chain))
  place = np.pad(chain * np.int32(length - 1) + depth, more)
  tokens = stacked[:, :, :-1].reshape(len(index), -1)[:, place]
  return tokens, stacked, lengths, chains, place, np.pad(depth, more)


def _stacked(labels, index, length):
  """(labels [P, C, length], their numbers int32 [P, C]) of captions `index`."""
  stacked = stack([labels[i] for i in index.reshape(-1)], length)
  lengths = np.array([[len(labels[i]) for i in row] for row in index], np.int32)
  return stacked.reshape(*index.shape, length), lengths


def separate(count, length):
  """(chains, place, depth) of `count` chains that share nothing."""
  place = np.arange(count * length, dtype=np.int32)
  return place.reshape(count, length), place, place % max(length, 1)


def stack(arrays, length, value=0):
  """Right-pads int arrays to [N, length]."""
  out = np.full((len(arrays), length), value, np.int32)
  for row, array in zip(out, arrays):
    row[:len(array)] = array
  return out


def _common(first, second):
  """How many input tokens two captions begin with alike."""
  size = min(len(first), len(second)) - 1
  differs = np.flatnonzero(first[:size] != second[:size])
  return int(differs[0]) if len(differs) else size


def _fresh(labels, order):
  """The tokens that each caption adds to those before it, int [n]."""
  fresh = [len(labels[i]) - 1 for i in order]
  for k in range(1, len(order)):
    fresh[k] -= _common(labels[order[k - 1]], labels[order[k]])
  return fresh


def _partition(fresh, whole, parts):
  """Cuts a sequence into runs whose largest number of tokens is smallest.

  A run pays for its first caption as a whole. Returns lists of positions.
  """
  low, high = int(max(whole)), int(whole[0] + sum(fresh))
  while low < high:
    middle = (low + high) // 2
    if len(_cut(fresh, whole, middle)) <= parts:
      high = middle
    else:
      low = middle + 1
  return _cut(fresh, whole, high)


def _cut(fresh, whole, budget, most=None):
  """Runs of `budget` tokens and `most` captions at most, see `_partition`."""
  runs, used = [[0]], whole[0]
  for k in range(1, len(fresh)):
    if used + fresh[k] <= budget and len(runs[-1]) != most:
      runs[-1].append(k)
      used += fresh[k]
    else:
      runs.append([k])
      used = whole[k]
  return runs


def _build(labels, members, length):
  tokens, depth, place, path = [], [], [], []
  chains = np.zeros((len(members), length - 1), np.int32)
  for row, caption in enumerate(members):
    inputs = labels[caption][:-1]
    shared = _common(labels[members[row - 1]], labels[caption]) if row else 0
    path = path[:shared]
    for k in range(shared, len(inputs)):
      path.append(len(tokens))
      tokens.append(inputs[k])
      depth.append(k)
      place.append(row * (length - 1) + k)
    chains[row, :len(path)] = path
  own = [labels[caption] for caption in members]
  arrays = [np.array(x, np.int32) for x in (tokens, depth)]
  return Trie(np.array(members), *arrays, chains, np.array(place, np.int32),
              stack(own, length), np.array([len(x) for x in own], np.int32))


def padded(trie, count, size, length):
  """The Trie with room for `count` captions, `size` tokens, `length` of each.

  Further tokens repeat the first one's place; their values are not read.
  """
  rows, more = count - len(trie.labels), size - len(trie.tokens)
  further = length - trie.labels.shape[1]
  chain, step = np.divmod(trie.place, max(trie.labels.shape[1] - 1, 1))
  place = (chain * (length - 1) + step).astype(np.int32)
  def longer(x, *room):
    return np.pad(x, [(0, n) for n in room])
  return Trie(
      trie.index, *(longer(x, more) for x in (trie.tokens, trie.depth)),
      longer(trie.chains, rows, further), longer(place, more),
      longer(trie.labels, rows, further), longer(trie.lengths, rows))
