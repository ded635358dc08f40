"""README.md of an exported model, made from its run."""
import json
import os
import pathlib
import re
import shlex
from typing import Any, NamedTuple

import jaxret
from jaxret import checkpoint, config_files, files, methods, own_files
from jaxret.models import pretrained

FILE = 'README.md'
# Of a config, what the card says of the data.
_DATA = ('name', 'languages', 'pairs', 'sizes', 'images', 'texts')


class Facts(NamedTuple):
  """layout: whose it is. model_type: of config.json. base: what was trained on,
  or ''. dtype: of the tensors. lora: whether LoRA trained it. opened_by: what
  of jaxret opens it."""
  layout: str
  model_type: str
  base: str
  dtype: str
  lora: bool
  opened_by: str


def write(directory: str | os.PathLike, workdir: pathlib.Path, config: Any,
          facts: Facts, licence: str | None = None) -> None:
  """Writes the card, and run.json, the config that the run had."""
  directory = pathlib.Path(directory)
  licence = licence or _licence(config, facts.base)
  files.write_atomically(directory / FILE, '\n'.join([
      *_front(config, facts, licence), *_what(config, facts, licence),
      *_use(facts), *_results(workdir), *_data(config), *_made(config)]))
  nested = {name: _shown(value) for name, value in
            checkpoint.plain_config(config).items()}
  files.write_atomically(directory / 'run.json',
                         json.dumps(nested, indent=1) + '\n')


def _licence(config, base):
  """That of the base, as its card says it; ours of what needs none; or ''."""
  if not base:
    return 'apache-2.0' if config.data.get('name') == 'shapes' else ''
  card = pretrained.find_model(base) / FILE
  if not card.is_file():
    return ''
  head = card.read_text('utf-8-sig', errors='replace').split('\n---')[0]
  found = re.search(r'^license:\s*([\w.+-]+)\s*$', head, re.MULTILINE)
  return found[1] if found else ''


def _front(config, facts, licence):
  """What the Hub reads."""
  library = 'peft' if facts.layout == 'peft' else facts.layout
  paper = re.search(r'^Source: arXiv ([\d.]+\d)', _about(config), re.MULTILINE)
  base = _shown(facts.base)
  return ['---', f'license: {licence or "other"}', f'library_name: {library}',
          *([f'base_model: {base}'] if base else []),
          'tags:', '- jaxret', '- retrieval',
          *([f'- arxiv:{paper[1]}'] if paper else []), '---', '']


def _about(config):
  """What the package of the method says of itself: 'NAME: what it is.'"""
  return methods.package(config.method).__doc__ or config.method


def _what(config, facts, licence):
  title = _about(config).partition(':')[0]
  of = f', trained on {_shown(facts.base)}' if facts.base else (
      ', trained from scratch')
  how = {'peft': "LoRA's factors, to be applied to that model"}.get(
      facts.layout, f'A {facts.model_type} in {facts.dtype}')
  if facts.lora and facts.layout != 'peft':
    how += ', what LoRA trained merged into its weights'
  lines = [f'# {title}{of}', '', f'{how}. Written by jaxret '
           f'{jaxret.__version__}.', '']
  return lines + ([] if licence else [
      'No licence was stated where it was exported, and none is given.', ''])


def _use(facts):
  base = _shown(facts.base) or 'BASE'
  call = {'peft': f"jaxret.{facts.opened_by}('{base}', adapter='DIR')"}.get(
      facts.layout, f"jaxret.{facts.opened_by}('DIR'" + (
          f", dtype='{facts.dtype}')" if facts.dtype != 'float32' else ')'))
  lines = ['## Use', '', '```python', 'import jaxret', '', f'model = {call}']
  if facts.opened_by == 'load':
    lines.append("vectors = model.encode(['a dog in the snow'])")
  if facts.layout == 'sentence-transformers':
    lines += ['', '# or', 'from sentence_transformers import '
              'SentenceTransformer', "model = SentenceTransformer('DIR')"]
  said = ('`jaxret.json` says how it is prompted, what it sees of a medium and '
          'which positions it is given; jaxret.load reads it.')
  return [*lines, '```', '', *([said, ''] if facts.opened_by == 'load' and (
      facts.layout != 'sentence-transformers') else [])]


def _results(workdir):
  """The tables of the run and of each benchmark in it, as they were printed."""
  places = [workdir, *sorted(path for path in workdir.iterdir()
                             if path.is_dir())]
  if not (workdir / 'results.txt').is_file():  # of a stage: those of its run
    places += list(workdir.absolute().parents)[:2]
  lines = []
  for place in places:
    if (place / 'results.txt').is_file():
      lines += ['```', (place / 'results.txt').read_text().strip(), '```', '']
      lines += _notes(place / 'results.json')
  if not lines:
    lines = ['It was not evaluated in its run.', '']
  return ['## Results', '', *lines]


def _notes(path):
  """What results.json says of how they were measured."""
  results = own_files.read_object(path, 'evaluate again') if (
      path.is_file()) else {}
  lines = [f'{results["note"]}', ''] if results.get('note') else []
  if results.get('left_out'):
    lines += [f'Left out, since they cannot be used: {results["left_out"]} '
              'items.', '']
  if results.get('protocol'):
    lines += ['Protocol:', '', '```json',
              json.dumps(results['protocol'], indent=1), '```', '']
  return [*lines, 'Ranks count ties against the model; recall is in percent of '
          'queries.', '']


def _data(config):
  said = [f'- {name}: {_shown(config.data[name])}' for name in _DATA
          if config.data.get(name)]
  return ['## Data', '', *said, '', 'All fields of the run are in `run.json`.',
          '']


def _made(config):
  return ['## Training', '', '```', command(config), '```', '',
          'Paths are left out of it.', '']


def command(config: Any) -> str:
  """A command that makes such a run: the nearest variant, and what differs.

  Of a method from elsewhere the config alone can say it.
  """
  name = f'configs/{config.method}.py'
  file = config_files.find(name)
  if not file.is_file():
    return '(a method of its own; run.json has all fields)'
  wanted, found = checkpoint.plain_config(config), []
  for variant in config_files.variants(file) or {'': ''}:
    spec = f'{name}:{variant}' if variant else name
    have = checkpoint.plain_config(config_files.load(spec))
    differ = {field: value for field, value in wanted.items()
              if field in have and have[field] != value}
    found.append((spec, differ, sorted(set(have) ^ set(wanted))))
  spec, differ, alone = min(
      found, key=lambda one: len(one[1]) + len(one[2]))
  flags = [f'--config.{field}={shlex.quote(_flag(value))}'
           for field, value in sorted(differ.items())]
  note = f'# and {pretrained.some(alone)}, see run.json\n' if alone else ''
  return note + ' \\\n  '.join([f'jaxret run --config={spec}', *flags])


def _flag(value):
  value = _shown(value)
  if isinstance(value, list):
    return f'({", ".join(map(repr, value))}{"," if len(value) == 1 else ""})'
  return str(value)


def _shown(value):
  """A value of a config, a path on the machine of the run cut to its name."""
  if isinstance(value, (list, tuple)):
    return [_shown(one) for one in value]
  if isinstance(value, str) and pathlib.Path(value).expanduser().is_absolute():
    return f'DIR/{pathlib.Path(value).name}'
  return value.to_dict() if hasattr(value, 'to_dict') else value
