"""Pooling, by hand."""
import numpy as np
import pytest

from jaxret.models.sentence_bert import model as model_lib


@pytest.mark.parametrize('pooling, want', [
    ('first', [[1, 2], [7, 8]]), ('last', [[3, 4], [7, 8]]),
    ('mean', [[2, 3], [7, 8]]), ('max', [[3, 4], [7, 8]])])
def test_what_is_behind_a_text_is_not_pooled(pooling, want):
  hidden = np.array([[[1, 2], [3, 4], [99, 99]],
                     [[7, 8], [99, -99], [99, 99]]], np.float32)
  mask = np.array([[True, True, False], [True, False, False]])
  np.testing.assert_array_equal(model_lib.pool(hidden, mask, pooling), want)
  assert pooling in model_lib.POOLINGS
