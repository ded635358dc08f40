"""Modules by their names in a config, also from outside of jaxret."""
import importlib
from types import ModuleType


def imported(module: str, given: str, field: str) -> ModuleType:
  """The module of a full dotted name.

  given: how `field` of the config names it, for messages.
  Raises ValueError where there is no such module. What is missing inside of it
  is another mistake, and stays a ModuleNotFoundError.
  """
  try:
    return importlib.import_module(module)
  except ModuleNotFoundError as error:
    if error.name and f'{module}.'.startswith(f'{error.name}.'):
      raise ValueError(f'{field} {given!r}: there is no module {error.name!r} '
                       "on Python's path") from None
    raise
