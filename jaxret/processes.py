"""What several processes of one run agree on; with one, all of it is free."""
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from numpy.typing import ArrayLike

Result = TypeVar('Result')


def first() -> bool:
  """Whether this is process 0, which writes what is written once."""
  return jax.process_index() == 0


def one_then_all(do: Callable[[], Result]) -> Result:
  """What `do()` returns: on process 0, then, when it is done, elsewhere."""
  if not first():
    wait_for_all()
  result = do()
  if first():
    wait_for_all()
  return result


def wait_for_all() -> None:
  """Returns when every process has come here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices('jaxret')


def agreed(decision: bool) -> bool:
  """Process 0's decision, a bool, on every process."""
  return bool(of_first(np.array(decision)))


def of_first(values: ArrayLike) -> np.ndarray:
  """Process 0's array on every process; the others give any of its shape."""
  values = np.asarray(values)
  if jax.process_count() > 1:
    values = np.asarray(multihost_utils.broadcast_one_to_all(values))
  return values


def gathered(values: ArrayLike) -> np.ndarray:
  """A bool or number array of every process, [processes, *values.shape]."""
  if jax.process_count() == 1:
    return np.asarray(values)[None]
  return multihost_utils.process_allgather(np.asarray(values))
