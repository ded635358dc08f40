"""Queries that come at the same time are encoded together."""
import concurrent.futures
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

MOST = 32  # queries of a batch


class Together:
  """Encodes one query for each caller, those that wait in one batch.

  A thread works; while it does, others wait, and are the next batch: nobody
  waits for queries that have not come. Any number of threads may call.

  encode: (items) -> float32 [N, D]; most: items that it is given at once.
  """

  def __init__(self, encode: Callable[[Sequence[Any]], np.ndarray],
               most: int = MOST):
    self._encode, self._most = encode, most
    self._waiting: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=self._work, name='encodes queries',
                     daemon=True).start()

  def __call__(self, item: Any) -> np.ndarray:
    """float32 [D]; raises what `encode` raises for this item alone."""
    answer: concurrent.futures.Future = concurrent.futures.Future()
    self._waiting.put((item, answer))
    return answer.result()

  def _work(self):
    while True:
      batch = [self._waiting.get()]
      while len(batch) < self._most:
        try:
          batch.append(self._waiting.get_nowait())
        except queue.Empty:
          break
      self._answer(batch)

  def _answer(self, batch):
    try:
      vectors = self._encode([item for item, _ in batch])
    except BaseException as error:  # whatever it is, the thread goes on
      if len(batch) == 1:
        batch[0][1].set_exception(error)
      else:  # it is the error of one: the others are answered
        for one in batch:
          self._answer([one])
    else:
      for (_, answer), vector in zip(batch, vectors, strict=True):
        answer.set_result(vector)
