"""Queries in one batch: the same vectors, and errors of their own."""
import concurrent.futures
import threading
import time

import numpy as np
import pytest

from jaxret.serving import batching
from tests import tiny_index


class Slow:
  """The encoder; the first batch waits until all others are there."""

  def __init__(self, encode):
    self.encode, self.batches, self.go = encode, [], threading.Event()

  def __call__(self, items):
    self.batches.append(list(items))
    if len(self.batches) == 1:
      self.go.wait(10)
    return self.encode(items)


def through(slow, items, most=32):
  """What the callers get; the first one is at work when the others come."""
  together = batching.Together(slow, most)
  with concurrent.futures.ThreadPoolExecutor(len(items)) as pool:
    answers = [pool.submit(together, items[0])]
    while not slow.batches:
      time.sleep(0.001)
    answers += [pool.submit(together, item) for item in items[1:]]
    while together._waiting.qsize() < len(items) - 1:
      time.sleep(0.001)
    slow.go.set()
    return [answer.exception() or answer.result() for answer in answers]


def test_a_batch_gives_what_one_alone_gives():
  model = tiny_index.model()
  texts = ['a dog', 'up', 'two cats', 'snow', 'a dog in the snow', 'a']
  slow = Slow(lambda items: model.encode(list(items), show_progress=False))
  found = through(slow, texts)
  assert [len(batch) for batch in slow.batches] == [1, 5]
  for text, vector in zip(texts, found, strict=True):
    np.testing.assert_allclose(
        vector, model.encode(text, show_progress=False), atol=1e-6)


def test_batches_are_not_larger_than_allowed():
  slow = Slow(lambda items: np.arange(len(items))[:, None] + [items[0]])
  found = through(slow, list(range(10, 20)), 4)
  assert [len(batch) for batch in slow.batches] == [1, 4, 4, 1]
  assert len(found) == 10 and sorted(sum(slow.batches, [])) == [*range(10, 20)]


def test_an_error_is_that_of_its_query_alone():
  def encode(items):
    if 3 in items:
      raise ValueError('three cannot be read')
    return np.float32([[item] for item in items])
  found = through(Slow(encode), [1, 2, 3, 4])
  assert [float(found[i][0]) for i in (0, 1, 3)] == [1, 2, 4]
  assert str(found[2]) == 'three cannot be read'
  together = batching.Together(encode)
  with pytest.raises(ValueError, match='three'):
    together(3)
  assert together(5) == 5  # and it goes on
