"""Embeddings in one byte or one bit a number, as sentence-transformers has it.

'int8' and 'uint8' cut the range of each dimension into 256 steps: their codes
are comparable where the ranges are the same, so queries and candidates want
those of one calibration. 'binary' and 'ubinary' keep the signs, eight in a
byte, the first in the highest bit; Hamming distances compare them.
Source: sentence_transformers/util/quantization.py, version 6.2.
"""
import numpy as np
from absl import logging

PRECISIONS = ('float32', 'int8', 'uint8', 'binary', 'ubinary')
FEW = 100  # embeddings whose ranges are of little worth, if these are fewer


def check(precision: str, calibration: np.ndarray | None = None) -> None:
  """Raises ValueError for what no embeddings can be quantized with."""
  if precision not in PRECISIONS:
    raise ValueError(f'precision: got {precision!r}, want one of '
                     f'{", ".join(PRECISIONS)}')
  if calibration is not None and not precision.endswith('int8'):
    raise ValueError(f'calibration has no effect with precision={precision!r}: '
                     "leave it out, or take 'int8' or 'uint8'")


def quantize(embeddings: np.ndarray, precision: str,
             calibration: np.ndarray | None = None) -> np.ndarray:
  """Embeddings [N, D] in a precision of PRECISIONS.

  Args:
    embeddings: floats, finite.
    calibration: floats [M, D], M > 1, of 'int8' and 'uint8': the least and the
      most of each dimension are the ends of its range, and what lies beyond
      counts as the end. None = the embeddings themselves.

  Returns:
    float32 [N, D]; int8 or uint8 [N, D]; of 'binary' int8 and of 'ubinary'
    uint8 [N, ceil(D / 8)], the last byte filled up with 0.

  Raises:
    ValueError: for a name that is none, numbers that are quantized already or
      not finite, and ranges of fewer than two embeddings.
  """
  check(precision, calibration)
  embeddings = _floats(embeddings, 'embeddings')
  if precision == 'float32':
    return embeddings
  if precision.endswith('binary'):
    bits = np.packbits(embeddings > 0, axis=-1)
    if precision == 'ubinary':
      return bits
    return (bits.astype(np.int16) - 128).astype(np.int8)
  starts, steps = 0, 1
  if len(embeddings):
    starts, steps = _ranges(embeddings, calibration)
  codes = np.clip(np.floor((embeddings - starts) / steps), 0, 255)
  if precision == 'uint8':
    return codes.astype(np.uint8)
  return (codes - 128).astype(np.int8)


def _ranges(embeddings, calibration):
  """(least number, size of a step) of each dimension, float32 [D] each."""
  own = calibration is None
  seen = embeddings if own else _floats(calibration, 'calibration')
  if len(seen) < 2 or seen.shape[1] != embeddings.shape[1]:
    raise ValueError(
        f'int8 and uint8 take the range of each dimension from '
        f'{"the embeddings themselves" if own else "calibration"}, got '
        f'{list(seen.shape)}, want [2 or more, {embeddings.shape[1]}]: give '
        'calibration=, float embeddings like these, some thousands at best')
  if own and len(seen) < FEW:
    logging.warning('the ranges of %d embeddings alone say little about '
                    'others: give calibration=, some thousands at best',
                    len(seen))
  starts = seen.min(0)
  steps = (seen.max(0) - starts) / np.float32(255)
  return starts, np.where(steps == 0, np.float32(1), steps)


def _floats(embeddings, name):
  array = np.asarray(embeddings)
  if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
    raise ValueError(f'{name}: got {array.dtype} {list(array.shape)}, want '
                     'floats [N, D]')
  array = array.astype(np.float32)
  if not np.isfinite(array).all():
    raise ValueError(f'{name}: got numbers that are not finite; leave out the '
                     'rows of items that could not be embedded')
  return array
