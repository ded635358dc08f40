"""Few shapes, and little padding."""
import numpy as np
import pytest

from jaxret import batches


@pytest.mark.parametrize('shards', [1, 2, 3, 8])
@pytest.mark.parametrize('rows_of', [
    batches.padded_rows, batches.doubled_rows])
def test_groups_are_cut_where_padding_would_be_more_than_a_quarter(
    shards, rows_of):
  seen = set()
  for count in range(1, 70):
    parts = list(batches.parts(list(range(count)), shards, rows_of))
    assert sum(parts, []) == list(range(count))
    for part in parts:
      rows = rows_of(len(part), shards)
      seen.add(rows)
      assert rows % shards == 0 and rows >= len(part)
      assert rows == shards or 4 * (rows - len(part)) <= rows
    # As few as that allows: no two that follow would fit together.
    for one, other in zip(parts, parts[1:]):
      whole = len(one) + len(other)
      assert 4 * whole < 3 * rows_of(whole, shards)
  assert len(seen) <= 12


def test_rows_are_of_few_sizes():
  assert {batches.padded_rows(count, 1) for count in range(1, 33)} == {
      1, 2, 3, 4, 6, 8, 12, 16, 24, 32}
  assert {batches.doubled_rows(count, 1) for count in range(1, 33)} == {
      1, 2, 4, 8, 16, 32}
  assert batches.padded_rows(9, 8) == 16 and batches.padded_rows(17, 8) == 24


def test_groups_are_joined_as_far_as_padding_allows():
  def names(**groups):
    return {name: [f'{name}{i}' for i in range(n)]
            for name, n in groups.items()}
  group = names(a=3, b=1, c=2, d=1)
  waiting = {(20, 0): group['b'], (24, 0): group['a'], (96, 0): group['c'],
             (20, 7): group['d']}
  found = dict(batches.joined(waiting, 4, 1))
  assert found == {(96, 0): group['c'], (24, 0): group['a'] + group['b'],
                   (20, 7): group['d']}
  # Five do not fit into a batch; five of 16 in six rows of 24 are too much.
  found = dict(batches.joined({(24,): [1, 2, 3], (20,): [4, 5]}, 4, 1))
  assert found == {(24,): [1, 2, 3], (20,): [4, 5]}
  found = dict(batches.joined({(24,): [1], (16,): [2]}, 4, 1))
  assert found == {(24,): [1, 2]}
  found = dict(batches.joined({(24,): [1], (16,): [2, 3, 4, 5, 6]}, 8, 1))
  assert found == {(24,): [1], (16,): [2, 3, 4, 5, 6]}


def test_every_item_is_in_one_batch_and_padding_stays_a_quarter():
  rng = np.random.default_rng(0)
  for shards in (1, 8):
    for _ in range(200):
      buckets = {(int(n), int(m)): int(c) for n, m, c in zip(
          rng.choice([16, 20, 24, 28, 32, 40, 64], 12), rng.choice([0, 1], 12),
          rng.integers(1, 32, 12))}
      waiting = {bucket: [(bucket, i) for i in range(count)]
                 for bucket, count in buckets.items()}
      found = list(batches.joined(waiting, 32, shards))
      assert sorted(sum((group for _, group in found), [])) == sorted(
          sum(waiting.values(), []))
      assert len({bucket for bucket, _ in found}) == len(found) <= len(buckets)
      for bucket, group in found:
        assert all(own[0] <= bucket[0] and own[1] == bucket[1]
                   for own, _ in group)
        rows = batches.padded_rows(len(group), shards)
        if any(own != bucket for own, _ in group):
          assert len(group) <= 32
          assert 4 * sum(own[0] for own, _ in group) >= 3 * rows * bucket[0]


def test_a_call_of_many_items_has_few_shapes_and_all_calls_together_do():
  """24 rows of one bucket; for queries what other calls have, too."""
  waiting = {(24,): list(range(21)), (20,): [30, 31]}  # 23 rows
  assert list(batches.planned(waiting, 32, 1, often=False)) == [
      ((24,), 24, [*range(21), 30, 31])]
  assert list(batches.planned(waiting, 32, 1, often=True)) == [
      ((24,), 16, list(range(16))), ((24,), 4, list(range(16, 20))),
      ((24,), 1, [20]), ((20,), 2, [30, 31])]
