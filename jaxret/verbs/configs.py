"""Lists the config files, their variants and the tasks of each.

  jaxret configs [--json]

Those in ./configs come first, then those that come with jaxret. --json prints
a list of {"file", "path", "about", "method", "tasks", "variants"} instead.
"""
import ast
import json
import sys

from jaxret import config_files
from jaxret import main as program


def main(argv):
  if {'--help', '-h'} & set(argv):
    print(__doc__)
    return 0
  unknown = [argument for argument in argv if argument != '--json']
  if unknown:
    print(f'jaxret: unexpected argument {unknown[0]!r}'
          + config_files.suggest(unknown[0], ['--json']), file=sys.stderr)
    return 1
  try:
    found = [describe(name, path)
             for name, path in config_files.listed().items()]
  except ValueError as error:
    print(f'jaxret: {program.one_line(error)}', file=sys.stderr)
    return 1
  print(json.dumps(found, indent=2) if '--json' in argv
        else '\n'.join(map(table, found)))
  return 0


def describe(name, path):
  """A config file as --json has it.

  Raises ValueError for one that cannot be read.
  """
  config = config_files.load(str(path))
  about = ast.get_docstring(ast.parse(path.read_bytes())) or ''
  return {'file': name, 'path': str(path.resolve()),
          'about': ' '.join(about.partition('\n\n')[0].split()),
          'method': config.get('method'),
          'tasks': list(program.tasks_of(config)),
          'variants': config_files.variants(path) or {}}


def table(found):
  """The same as text: a line for each variant."""
  lines = [f'{found["file"]}  {found["about"]}',
           f'  tasks: {", ".join(found["tasks"])}']
  width = max(map(len, found['variants']), default=0) + 1
  for variant, line in found['variants'].items():
    shown = f':{variant}' if variant else ''
    lines.append(f'  {shown:{width}}  {line}')
  return '\n'.join(lines) + '\n'
