"""Embeddings in bytes and bits, by known values and loops."""
import numpy as np
import pytest

from jaxret import quantization

# Of 256ths, whose steps are exact.
KNOWN = np.array([[-255.0, 0, 255], [255, 0, 64], [0, 0, 0]]) / 256


def test_bytes_of_known_numbers():
  """Between -255 and 255 lies 0 at 127.5; a constant dimension is 0."""
  got = quantization.quantize(KNOWN, 'uint8')
  assert got.dtype == np.uint8
  assert got.tolist() == [[0, 0, 255], [255, 0, 64], [127, 0, 0]]
  signed = quantization.quantize(KNOWN, 'int8')
  assert signed.dtype == np.int8
  assert signed.tolist() == (got.astype(int) - 128).tolist()


def test_what_lies_beyond_the_calibration_counts_as_its_end():
  calibration = np.array([[-0.5, 0.0], [0.5, 1.0]])
  got = quantization.quantize(
      np.array([[-0.9, 0.5], [0.9, 2.0], [-0.5, -7.0]]), 'uint8', calibration)
  assert got.tolist() == [[0, 127], [255, 255], [0, 0]]


def test_bits_of_known_numbers():
  """The first number is the highest bit; what is not above 0 is none."""
  rows = np.array([[1, -1, 1, 0, -2, 3, -1, 1, 1, -1, 1],
                   [-1, 1, 1, 1, 1, 1, 1, 1, -1, 1, -1]], np.float32)
  unsigned = quantization.quantize(rows, 'ubinary')
  assert unsigned.dtype == np.uint8
  assert unsigned.tolist() == [[0b10100101, 0b10100000],
                               [0b01111111, 0b01000000]]
  signed = quantization.quantize(rows, 'binary')
  assert signed.dtype == np.int8
  assert signed.tolist() == [[0b10100101 - 128, 0b10100000 - 128],
                             [-1, 0b01000000 - 128]]


def test_codes_by_a_loop():
  rows = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
  got = quantization.quantize(rows, 'int8').astype(int)
  for d in range(5):
    low, high = rows[:, d].min(), rows[:, d].max()
    for i in range(20):
      place = float(rows[i, d] - low) / float(high - low) * 255
      assert abs(got[i, d] + 128 - min(int(place), 255)) <= 1
      back = low + (got[i, d] + 128.5) * (high - low) / 255
      assert abs(back - rows[i, d]) <= (high - low) / 255


def test_float32_is_what_it_was():
  rows = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
  np.testing.assert_array_equal(quantization.quantize(rows, 'float32'), rows)


@pytest.mark.parametrize('rows, options, said', [
    (KNOWN, {'precision': 'int4'}, "got 'int4', want one of float32, int8"),
    (KNOWN, {'precision': 'binary', 'calibration': KNOWN},
     "calibration has no effect with precision='binary'"),
    (KNOWN[:1], {'precision': 'int8'}, r'got \[1, 3\], want \[2 or more, 3\]'),
    (KNOWN, {'precision': 'int8', 'calibration': KNOWN[:, :2]},
     r'from calibration, got \[3, 2\], want \[2 or more, 3\]'),
    (KNOWN.astype(np.int8), {'precision': 'int8'}, 'want floats'),
    (KNOWN[0], {'precision': 'int8'}, 'want floats'),
    (KNOWN * np.nan, {'precision': 'ubinary'}, 'not finite')])
def test_what_cannot_be_quantized_is_refused(rows, options, said):
  with pytest.raises(ValueError, match=said) as caught:
    quantization.quantize(rows, **options)
  assert '\n' not in str(caught.value)
