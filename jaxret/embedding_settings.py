"""How an exported model is used: jaxret.json beside its config.json.

A directory in transformers' layout does not say how its authors prompt it, what
it sees of a medium, or which positions it was trained on. What jaxret exports
says so in the options of `jaxret.load`, which it takes for those that are not
given.
"""
import dataclasses
import importlib
import json
import os
import pathlib
import pkgutil
from typing import Any

from jaxret import data, files, foreign_files
from jaxret.data.qwen2_vl import prompts

FILE = 'jaxret.json'
VERSION = 1
OPTIONS = ('position_mode', 'resolution', 'max_tokens', 'alpha', 'prompt',
           'pooling')


def write(directory: str | os.PathLike, options: dict[str, Any]) -> None:
  """Writes options of jaxret.load, those of OPTIONS that the model has.

  resolution: a Resolution of a wing of jaxret.data; prompt: a text or a
  prompts.Template.
  """
  assert not set(options) - set(OPTIONS)
  files.write_atomically(pathlib.Path(directory) / FILE, json.dumps({
      'version': VERSION, 'load': {
          name: _plain(value) for name, value in options.items()}},
      indent=2) + '\n')


def _plain(value):
  if isinstance(value, prompts.Template):
    return value._asdict()
  if dataclasses.is_dataclass(value):  # 'qwen2_vl' of jaxret.data.qwen2_vl...
    wing = type(value).__module__.split('.')[-2]
    return {'of': wing, **dataclasses.asdict(value)}
  return value


def read(directory: str | os.PathLike) -> dict[str, Any]:
  """The options in a directory's file, {} where there is none.

  Raises ValueError, naming the file, for what this version does not know.
  """
  path = pathlib.Path(directory).expanduser() / FILE
  if not path.is_file():
    return {}
  whole = foreign_files.read_object(path)
  options = whole.get('load')
  if whole.get('version') != VERSION or not isinstance(options, dict):
    raise ValueError(f'{path}: got version {whole.get("version")!r}, want '
                     f'{VERSION} and options: use the jaxret that wrote it, or '
                     'remove the file and give jaxret.load its options')
  unknown = sorted(set(options) - set(OPTIONS))
  if unknown:
    raise ValueError(f'{path}: unknown option {unknown[0]!r}; want '
                     f'{", ".join(OPTIONS)}: use the jaxret that wrote it')
  try:
    return {name: _made(name, value) for name, value in options.items()}
  except (TypeError, KeyError, ValueError, ImportError) as error:
    raise ValueError(f'{path}: it cannot be used ({error}): export the model '
                     'again, or correct the file') from error


def _made(name, value):
  if name == 'resolution':
    fields = {key: tuple(one) if isinstance(one, list) else one
              for key, one in value.items() if key != 'of'}
    return _wing(value['of']).Resolution(**fields)
  if name == 'prompt' and isinstance(value, dict):
    return prompts.Template(**{**value, 'kinds': tuple(value['kinds'])})
  return value


def _wing(name):
  """The module `pixels` of a wing of jaxret.data; ValueError for none."""
  wings = [one.name for one in pkgutil.iter_modules(data.__path__)]
  if name not in wings:
    raise ValueError(f'resolution of {name!r}, want one of a backbone')
  return importlib.import_module(f'{data.__name__}.{name}.pixels')
