"""A split that nobody may read yet: to ask for it is an error.

What is chosen (weights, steps, parts of a world) must be chosen before anyone
has seen the test split. While it is closed, no data set gives it, whichever
function it is asked by.
"""
import contextlib
import functools
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

# For all threads of the process, those that read ahead as well.
_CLOSED: list[str] = []


@contextlib.contextmanager
def closed(split: str) -> Iterator[None]:
  """Nothing gives this split until the context ends."""
  _CLOSED.append(split)
  try:
    yield
  finally:
    _CLOSED.remove(split)


def check(split: str, what: str) -> None:
  """Raises ValueError if `split` of the data set `what` is closed."""
  if split in _CLOSED:
    raise ValueError(f'{what}: the split {split!r} is closed until all that is '
                     'chosen is frozen: evaluate on another split')


def guarded(module: ModuleType, name: str) -> Any:
  """A data set's module, whose functions look whether a split is closed.

  name: of the data set. While nothing is closed, the module itself.
  """
  return _Guarded(module, name) if _CLOSED else module


class _Guarded:
  """Like the module, but for the functions that give a split."""

  def __init__(self, module, name):
    self._module, self._name = module, name

  def __getattr__(self, attribute):
    found = getattr(self._module, attribute)
    if attribute not in _SPLITS:
      return found
    @functools.wraps(found)
    def function(*args, **kwargs):
      given = inspect.signature(found).bind(*args, **kwargs).args
      check(_SPLITS[attribute](given), self._name)
      return found(*args, **kwargs)
    return function


# {function of a data set: its arguments -> the split that it gives}; see
# sets/__init__.py. What is there to train on is of no other split.
_SPLITS = {
    'load': lambda given: given[1], 'tasks_of_split': lambda given: given[1],
    'parallel': lambda given: given[1], 'questions': lambda given: given[1],
    'benchmark': lambda given: given[0].eval.split,
    'tasks': lambda given: 'test'}  # published benchmarks
