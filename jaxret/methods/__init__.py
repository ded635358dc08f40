"""One published system per package, as pure functions.

A method is a package. Its `__init__` imports nothing heavy and has

  TASKS  {task: the module of the package that has a function of this name,
          (config, workdir) -> what it likes}

and, where the names of its rows do not speak for themselves in the report,

  ROWS       {row of its results: what a reader calls it}
  EXPLAINED  {row, direction or task: what a reader must know of it}
  MAIN_ROW   the row to set in bold, where its results name no 'main_row'

Its `method.py` has `method(config, tokenizer)`, a base.Method, and EMBEDS,
a base.Embeds, where it gives embeddings. One that continues prompts has a
module `generator` with `open_generator(config, workdir, mesh)`, which gives
what jaxret.generator.Generator takes of a workdir. One whose models have a
layout on the Hub has a module `export`, see base.Exported. `config.method` is
the name of one of the packages here, or a dotted name of one from elsewhere on
Python's path, as 'mypackage.mymethod'.
"""
import importlib.util
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from jaxret import outside

if TYPE_CHECKING:
  from ml_collections import ConfigDict

  from jaxret.methods import base


def names() -> tuple[str, ...]:
  """The methods that jaxret has."""
  return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)
                      if module.ispkg))


def package(name: str) -> ModuleType:
  """The package of a method, for its TASKS and ROWS.

  Raises ValueError for a name that is none, saying which there are.
  """
  if '.' not in name and name not in names():
    raise ValueError(f'unknown method {name!r}: config.method is one of '
                     f'{", ".join(names())}, or the dotted name of a package')
  full_name = name if '.' in name else f'{__name__}.{name}'
  return outside.imported(full_name, name, 'config.method')


def get(name: str) -> ModuleType:
  """The module with `method(config, tokenizer)`, and perhaps EMBEDS."""
  return outside.imported(
      f'{package(name).__name__}.method', name, 'config.method')


def embeds(name: str) -> 'base.Embeds | None':
  """The base.Embeds of a method, or None where it gives no embeddings."""
  return getattr(get(name), 'EMBEDS', None)


def open_generator(name: str) -> 'Callable[..., tuple] | None':
  """The function of a method that continues prompts, else None."""
  return _of_module(name, 'generator', 'open_generator')


def exporter(name: str) -> 'Callable[..., base.Exported] | None':
  """The `exported` of a method whose models have a layout, else None."""
  return _of_module(name, 'export', 'exported')


def has_layout(config: 'ConfigDict') -> bool:
  """Whether what a config trains has it, where not all of its method have."""
  asked = _of_module(config.method, 'export', 'has_layout')
  return asked is None or asked(config)


def _of_module(name, module, function):
  """A function that a module may have which a method may have, else None."""
  owner = f'{package(name).__name__}.{module}'
  if importlib.util.find_spec(owner) is None:
    return None
  return getattr(outside.imported(owner, name, 'config.method'), function, None)


def tasks(name: str) -> dict[str, str]:
  """The TASKS of a method; ValueError where the package has none."""
  owner = package(name)
  if not hasattr(owner, 'TASKS'):
    raise ValueError(f'config.method {name!r} is no method: its package has no '
                     'TASKS, see jaxret/methods/__init__.py')
  return owner.TASKS


def task(name: str, task_name: str) -> 'Callable[[ConfigDict, str], Any]':
  """The function (config, workdir) of a task that package(name) has."""
  module = outside.imported(
      f'{package(name).__name__}.{tasks(name)[task_name]}', name,
      'config.method')
  return getattr(module, task_name)
