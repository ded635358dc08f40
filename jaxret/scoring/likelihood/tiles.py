"""How a score matrix is cut: length buckets, row blocks, column blocks."""
from typing import NamedTuple

import numpy as np

# Of tiles of fixed shapes, see `fixed_blocks`: rows of each device, columns,
# tokens of captions, and what lengths of captions and prefixes are multiples
# of. Other numbers are other scores: raise score.FIXED_VERSION with them.
FIXED_ROWS, FIXED_COLUMNS, FIXED_TOKENS = 8, 64, 256
FIXED_CAPTION_STEP, FIXED_PREFIX_STEP = 8, 16


class Block(NamedTuple):
  """Rows or columns that are computed together.

  index: int [n] into the set; length: what their sequences are padded to.
  """
  index: np.ndarray
  length: int


def buckets(lengths, max_padding=0.1):
  """The fewest padded lengths that waste at most `max_padding` of the tokens.

  Args:
    lengths: int [N], tokens of each sequence.
    max_padding: padded tokens over real tokens, at most.

  Returns:
    Ascending list of padded lengths; each sequence goes to the first that
    holds it. Every padded length is the length of some sequence.
  """
  values, counts = np.unique(lengths, return_counts=True)
  n = len(values)
  tokens = np.concatenate([[0], np.cumsum(values * counts)])
  number = np.concatenate([[0], np.cumsum(counts)])
  # waste[i, j]: padding when lengths i..j share the padded length values[j].
  waste = (values[None] * (number[None, 1:] - number[:-1, None])
           - (tokens[None, 1:] - tokens[:-1, None])).astype(float)
  waste[np.tril_indices(n, -1)] = np.inf
  best, choice = waste[0], []
  while best[-1] > max_padding * tokens[-1]:
    # One more bucket: it starts at i, the buckets before it end at i - 1.
    options = np.concatenate([[np.inf], best[:-1]])[:, None] + waste
    choice.append(np.argmin(options, 0))
    best = np.min(options, 0)
  caps, end = [], n - 1
  for starts in reversed(choice):
    caps.append(int(values[end]))
    end = starts[end] - 1
  return [int(values[end])] + caps[::-1]


def blocks(lengths, size, max_padding=0.1, multiple=1):
  """Cuts N sequences into blocks of at most `size` with one length each.

  Blocks of a bucket have one shape but for the last, which may be shorter;
  sizes are evened out and rounded up to `multiple` (of the devices), so that
  one bucket needs one compilation. Fill a short block with `fill`.
  """
  lengths = np.asarray(lengths)
  caps = buckets(lengths, max_padding)
  bucket = np.searchsorted(caps, lengths)
  result = []
  for number, cap in enumerate(caps):
    members = np.flatnonzero(bucket == number)
    count = -(-len(members) // size)
    even = -(-len(members) // count)
    even = -(-even // multiple) * multiple
    result += [Block(members[i:i + even], cap)
               for i in range(0, len(members), even)]
  return result


def fixed_blocks(lengths, size, step=1):
  """Cuts N sequences into blocks of which each shape depends on nothing else.

  A length is padded to the next multiple of `step`. Filled to `size`, blocks
  of one padded length have one shape, whatever other sequences there are.
  """
  caps = -(-np.asarray(lengths) // step) * step
  result = []
  for cap in np.unique(caps):
    members = np.flatnonzero(caps == cap)
    result += [Block(members[i:i + size], int(cap))
               for i in range(0, len(members), size)]
  return result


def rounded(number, per_octave=4):
  """The next size up of few per octave, so that few shapes are compiled.

  At most 1 / per_octave of it is padding.
  """
  step = max(1, (1 << max(number - 1, 1).bit_length() - 1) // per_octave)
  return -(-number // step) * step


def fill(index, size):
  """`index` [n] repeated up to [size]; the surplus rows are thrown away."""
  return np.resize(index, size)
