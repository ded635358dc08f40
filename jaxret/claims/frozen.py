"""What was settled before anyone saw the test split: frozen.json.

Digests of the claims, of the configs of all runs, of the code of the embedded
world, and of what was measured on validation. It is written once; the test
split is opened behind it, and a later call with anything else is refused.
"""
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from jaxret import checkpoint, files, own_files
from jaxret.claims import experiments as experiments_lib
from jaxret.claims import listed
from jaxret.data import shapes

NAME = 'frozen.json'


def settle(root: pathlib.Path, found: listed.Listed,
           runs: Sequence[experiments_lib.Run]) -> dict[str, Any]:
  """What frozen.json of `root` says, written if it is not there yet.

  Raises ValueError where it says something else than is so now.
  """
  path, now = root / NAME, gathered(found, runs)
  if path.is_file():
    _check(path, own_files.read_object(path, 'use another --workdir'), now)
  else:
    files.write_atomically(path, json.dumps(now, indent=2) + '\n')
  return now


def gathered(found: listed.Listed, runs: Sequence[experiments_lib.Run]
             ) -> dict[str, Any]:
  """{what: digest, or {name: digest}}."""
  return {
      'claims': {claim.id: digest(repr(claim)) for claim in found.claims},
      'configs': {run.name: checkpoint.fingerprint(config_without_paths(run))
                  for run in runs},
      'world': world(),
      'validation': {run.name: digest(
          run.ranks(experiments_lib.VALIDATION).read_bytes())
                     for run in runs if run.gives_ranks}}


def digest(content: str | bytes) -> str:
  data = content.encode() if isinstance(content, str) else content
  return hashlib.sha256(data).hexdigest()[:16]


def config_without_paths(run: experiments_lib.Run) -> dict[str, Any]:
  """The config of a run as it is wherever the experiments lie."""
  config = experiments_lib.config_of(run, experiments_lib.TEST).to_dict()
  for field, path in run.experiment.uses.items():
    *sections, name = field.split('.')
    owner = config
    for section in sections:
      owner = owner[section]
    owner[name] = path
  # What is chosen among is part of it, and how it is evaluated.
  return {**config, 'evaluated': config['eval'],
          'reranked': config.get('rerank', {})}


def world() -> str:
  """Digest of the code that draws and tells the embedded world."""
  folder = pathlib.Path(next(iter(shapes.__path__)))
  return digest(b''.join(path.read_bytes()
                         for path in sorted(folder.glob('*.py'))))


def _check(path, before, now):
  for what, value in now.items():
    if before.get(what) == value:
      continue
    names = sorted(name for name in {*before.get(what, {}), *value}
                   if before[what].get(name) != value.get(name)) if isinstance(
                       value, dict) else []
    raise ValueError(
        f'{path}: the test split was opened with other {what}'
        + f' ({", ".join(names[:3])})' * bool(names)
        + ': to change anything then is to choose on test; use another '
        '--workdir')
