"""Windows leave no moment out."""
import numpy as np
import pytest

from jaxret.indexing import windows


@pytest.mark.parametrize('duration, window, stride, want', [
    (5, 10, 10, [(0, 5)]), (10, 10, 10, [(0, 10)]),
    (25, 10, 10, [(0, 10), (10, 20), (15, 25)]),
    (20, 10, 5, [(0, 10), (5, 15), (10, 20)]),
    (21, 10, 5, [(0, 10), (5, 15), (10, 20), (11, 21)])])
def test_windows_by_hand(duration, window, stride, want):
  assert windows.cut(duration, window, stride) == want


def test_every_moment_is_in_a_window_of_full_length():
  rng = np.random.default_rng(0)
  for _ in range(200):
    window = rng.uniform(0.5, 20)
    stride = rng.uniform(0.1, 1) * window
    duration = rng.uniform(0.1, 200)
    found = windows.cut(duration, window, stride)
    assert found[0][0] == 0
    assert found[-1][1] == pytest.approx(duration, abs=2e-3)
    for (start, end), (later, _) in zip(found, found[1:]):
      assert start < later <= end + 2e-3
      assert end - start == pytest.approx(window, abs=2e-3)


@pytest.mark.parametrize('window, stride, said', [
    (0, 0, 'window is 0 s'), (float('nan'), 1, 'window is nan'),
    (10, 11, 'stride is 11 s'), (10, 0, 'stride is 0 s')])
def test_windows_that_are_none_are_refused(window, stride, said):
  with pytest.raises(ValueError, match=said):
    windows.check(window, stride)
