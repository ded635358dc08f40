"""Rules of who sees whom, against tables by a loop."""
import numpy as np
import pytest

from jaxret.models import masks

QUERIES = np.array([[1, 1, 2, 2, 3], [1, 2, 2, 3, 3]])
KEYS = np.array([[True, True, False, True, True], [True] * 4 + [False]])


@pytest.mark.parametrize('rule, sees', [
    (masks.causal(KEYS), lambda b, t, s: KEYS[b, s] and s <= t),
    (masks.to_keys(KEYS), lambda b, t, s: KEYS[b, s]),
    (masks.Segments(QUERIES, QUERIES),
     lambda b, t, s: QUERIES[b, t] == QUERIES[b, s]),
    (masks.Segments(QUERIES, QUERIES, True),
     lambda b, t, s: QUERIES[b, t] == QUERIES[b, s] and s <= t)])
def test_a_rule_is_its_table_whole_and_by_blocks(rule, sees):
  want = np.array([[[sees(b, t, s) for s in range(5)] for t in range(5)]
                   for b in range(2)])
  np.testing.assert_array_equal(
      np.broadcast_to(rule.table(5), want.shape), want)
  blocks = np.concatenate([rule.rows(first, 2, 5) for first in (0, 2, 4)], 1)
  np.testing.assert_array_equal(blocks[:, :5], want)


def test_a_mask_of_one_row_is_a_rule_and_one_of_several_is_refused():
  rule = masks.as_rule(KEYS[:1, None], 3, 5)
  np.testing.assert_array_equal(
      rule.table(4), np.broadcast_to(KEYS[:1, None], (3, 1, 5)))
  assert masks.as_rule(None, 2, 7).table(3).shape == (2, 1, 7)
  with pytest.raises(ValueError, match='a mask of its own for each of 5 quer'):
    masks.as_rule(np.ones((1, 5, 5), bool), 3, 5)
