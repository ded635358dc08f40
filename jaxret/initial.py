"""What random parameters look like, without making them."""
import functools
from collections.abc import Callable
from typing import Any

import jax


def shapes(init: Callable[[jax.Array], Any]) -> Any:
  """The ShapeDtypeStructs of what init(key) gives.

  Tracing a model takes a second, and a run asks for each of its trainings:
  what `functools.partial` makes of equal functions and arguments is traced
  once.
  """
  parts = _parts(init)
  try:
    hash(parts)
  except TypeError:  # of an argument, a list say
    return _traced(init)
  return _traced_once(parts, jax.config.jax_enable_x64)


def _traced(init):
  return jax.eval_shape(init, jax.random.key(0))


@functools.lru_cache(maxsize=16)
def _traced_once(parts, x64):
  del x64  # what is traced depends on it
  return _traced(_whole(parts))


class _Partial(tuple):
  """(function, arguments, named arguments) of a functools.partial."""
  __slots__ = ()


def _parts(value):
  if not isinstance(value, functools.partial):
    return value
  return _Partial((_parts(value.func), tuple(map(_parts, value.args)), tuple(
      (name, _parts(given)) for name, given in value.keywords.items())))


def _whole(parts):
  if not isinstance(parts, _Partial):
    return parts
  function, given, named = parts
  return functools.partial(_whole(function), *map(_whole, given), **{
      name: _whole(value) for name, value in named})
