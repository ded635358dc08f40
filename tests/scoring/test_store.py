"""Score matrices on disk survive a killed run, and only their own inputs."""
import json

import numpy as np
import pytest

from jaxret.scoring import store

FINGERPRINT = {'weights': 'abc', 'items': '12', 'nonzero_denominator': True}


def test_new_matrix_is_nan_and_what_is_written_stays(tmp_path):
  first = store.Store(tmp_path / 'scores', FINGERPRINT)
  matrix = first.matrix('text_given_video', (np.int64(3), 4))
  assert matrix.dtype == np.float32 and np.isnan(matrix).all()
  matrix[1, :2] = 5, 6
  matrix.flush()
  again = store.Store(tmp_path / 'scores', dict(FINGERPRINT)).matrix(
      'text_given_video', (3, 4))
  np.testing.assert_array_equal(again[1, :2], [5, 6])
  assert np.isnan(again).sum() == 10
  again[0, 0] = 7  # can be gone on with
  np.testing.assert_array_equal(
      np.load(tmp_path / 'scores' / 'text_given_video.npy')[0, 0], 7)


@pytest.mark.parametrize('change, message', [
    ({'weights': 'abd'}, "weights was 'abc', is 'abd'"),
    ({'nonzero_denominator': False}, 'nonzero_denominator was True, is False'),
    ({'another': 1}, 'another was None, is 1'),
])
def test_scores_of_other_inputs_are_refused_by_field(
    tmp_path, change, message):
  store.Store(tmp_path, FINGERPRINT)
  with pytest.raises(ValueError, match=message) as caught:
    store.Store(tmp_path, FINGERPRINT | change)
  assert '\n' not in str(caught.value) and str(tmp_path) in str(caught.value)
  store.Store(tmp_path, FINGERPRINT)  # and nothing was changed


def test_killed_while_a_matrix_was_made(tmp_path):
  scores = store.Store(tmp_path, FINGERPRINT)
  (tmp_path / '.prior.npy.1-1.partial').write_bytes(b'half of a header')
  (tmp_path / '.manifest.json.1-1.partial').write_bytes(b'{"wei')
  assert json.loads((tmp_path / 'manifest.json').read_text()) == FINGERPRINT
  assert np.isnan(scores.matrix('prior', (2,))).all()
