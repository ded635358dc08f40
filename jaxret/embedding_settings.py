"""How an exported model is used: jaxret.json beside its config.json.

A directory in transformers' layout does not say how its authors prompt it, what
it sees of a medium, or which positions it was trained on. What jaxret exports
says so in the options of `jaxret.load`, which it takes for those that are not
given.
"""
import dataclasses
import json
import os
import pathlib
from typing import Any

from jaxret import files, foreign_files
from jaxret.data.dual_encoder import pixels as dual_encoder
from jaxret.data.qwen2_vl import pixels as qwen2_vl
from jaxret.data.qwen2_vl import prompts
from jaxret.data.qwen3_vl import pixels as qwen3_vl

FILE = 'jaxret.json'
VERSION = 1
RESOLUTIONS = {'qwen2_vl': qwen2_vl.Resolution, 'qwen3_vl': qwen3_vl.Resolution,
               'dual_encoder': dual_encoder.Resolution}
OPTIONS = ('position_mode', 'resolution', 'max_tokens', 'alpha', 'prompt',
           'pooling')


def write(directory: str | os.PathLike, options: dict[str, Any]) -> None:
  """Writes options of jaxret.load, those of OPTIONS that the model has.

  resolution: of RESOLUTIONS; prompt: a text or a prompts.Template.
  """
  assert not set(options) - set(OPTIONS)
  files.write_atomically(pathlib.Path(directory) / FILE, json.dumps({
      'version': VERSION, 'load': {
          name: _plain(value) for name, value in options.items()}},
      indent=2) + '\n')


def _plain(value):
  if isinstance(value, prompts.Template):
    return value._asdict()
  for kind, of in RESOLUTIONS.items():
    if type(value) is of:
      return {'of': kind, **dataclasses.asdict(value)}
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
  except (TypeError, KeyError, ValueError) as error:
    raise ValueError(f'{path}: it cannot be used ({error}): export the model '
                     'again, or correct the file') from error


def _made(name, value):
  if name == 'resolution':
    fields = {key: tuple(one) if isinstance(one, list) else one
              for key, one in value.items() if key != 'of'}
    return RESOLUTIONS[value['of']](**fields)
  if name == 'prompt' and isinstance(value, dict):
    return prompts.Template(**{**value, 'kinds': tuple(value['kinds'])})
  return value
