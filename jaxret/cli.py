"""jaxret: multimodal retrieval with multi-modal large language models in JAX.

  jaxret VERB [flags]     jaxret VERB --help     jaxret --version
"""
import ast
import importlib
import os
import pathlib
import sys

import jaxret
from jaxret import config_files
from jaxret import verbs as package


def main(argv=None):
  """Runs `jaxret` with the arguments `argv`; returns an exit code."""
  try:
    code = dispatch(sys.argv[1:] if argv is None else argv)
    sys.stdout.flush()
    return code
  except BrokenPipeError:  # whoever read has seen enough: `| head`
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def dispatch(argv):
  """What `argv` asks for; returns an exit code."""
  known, first = verbs(), argv[0] if argv else '--help'
  if first in ('--help', '-h', 'help'):
    print(usage(known))
  elif first == '--version':
    print(f'jaxret {jaxret.__version__}')
  elif first in known:
    return importlib.import_module(f'jaxret.verbs.{first}').main(argv[1:])
  else:
    print(f'jaxret: unknown verb {first!r}'
          + config_files.suggest(first, known, known), file=sys.stderr)
    return 1
  return 0


def verbs():
  """{verb: path} of the modules in jaxret/verbs, which are not imported."""
  return {path.stem: path for folder in package.__path__
          for path in sorted(pathlib.Path(folder).glob('*.py'))
          if not path.stem.startswith('_')}


def usage(known):
  """The docstring and the first line of that of each verb."""
  width = max(map(len, known))
  lines = [f'  {verb:{width}}  ' + ast.get_docstring(
      ast.parse(path.read_text())).partition('\n')[0]
           for verb, path in known.items()]
  return '\n'.join([__doc__, 'Verbs:', *lines])
