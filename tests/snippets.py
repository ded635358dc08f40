"""The fenced blocks of README and docs, command by command."""
import argparse
import functools
import importlib
import json
import pathlib
import re
import shlex
import string
from typing import NamedTuple
from unittest import mock

from jaxret import config_files, config_ranges, main

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = (ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')),
         ROOT / 'launch' / 'README.md')
# What a block may be called: commands of a shell, Python, data, a drawing.
KINDS = {'': 'shell', 'python': 'python', 'json': 'json', 'text': 'text'}
# What may stand before a program's first flag, and is no program of ours.
_FEEDS = 'echo', 'printf', 'tr'


class Block(NamedTuple):
  """A fenced block; line: where it starts."""
  page: pathlib.Path
  line: int
  language: str
  text: str

  def __str__(self):
    return f'{self.page.name}:{self.line}'


class Command(NamedTuple):
  """words: of the program alone, variables filled in. fed: by a pipe, the
  shell's line before it, or ''."""
  block: Block
  words: list[str]
  fed: str = ''

  def __str__(self):
    return f'{self.block}: {shlex.join(self.words)}'


@functools.cache
def blocks(page):
  """The blocks of a page, in order."""
  found, inside, said = [], None, page.read_text(encoding='utf-8')
  for number, line in enumerate(said.splitlines(), 1):
    fence = re.match(r' *```(\S*)', line)
    if not fence:
      if inside:
        inside[2].append(line)
    elif inside:
      found.append(Block(page, *inside[:2], '\n'.join(inside[2]) + '\n'))
      inside = None
    else:
      inside = number, fence[1], []
  assert inside is None, f'{page}: a block without an end'
  return tuple(found)


def commands(page):
  """[Command] of all blocks of a shell."""
  return [command for block in blocks(page)
          if KINDS.get(block.language) == 'shell'
          for command in _of_block(block)]


def _of_block(block):
  """Lines are joined behind a backslash, a pipe and within quotes."""
  made, variables, held = [], {}, ''
  for line in block.text.splitlines():
    held = f'{held}\n{line}' if held else line
    if line.endswith('\\'):
      held = held[:-1].rstrip() + ' '
      continue
    try:
      words = shlex.split(held, comments=True)
    except ValueError:  # a quote is open
      continue
    if words and words[-1] == '|':
      continue
    said, held = held.replace(' \n', ' '), ''
    if words and (found := re.findall(r'(\w+)=("[^"]*"|\S+?)(?:;|$)', said)
                  ) and re.match(r'\w+=', said):
      variables |= {name: value.strip('"') for name, value in found}
    elif words:
      made.append(_command(block, said, variables))
  assert not held, f'{block}: {held!r} has no end'
  return made


def _command(block, said, variables):
  said = string.Template(said).safe_substitute(variables)
  fed, _, last = said.rpartition('|')
  if shlex.split(fed + ' ""')[0] not in _FEEDS:
    fed, last = '', said
  return Command(block, shlex.split(last, comments=True), fed)


class _Parsed(Exception):
  """The flags of a program were understood."""


def check(command):
  """Whether what it names is there: program, flags, config, fields, extras.

  AssertionError, ValueError or SystemExit for what is not.
  """
  program, *rest = command.words
  if program == 'jaxret':
    _check_verb(rest)
  elif program == 'python' and rest[0] == '-m':
    _check_module(*rest[1:])
  elif program == 'make':
    _check_make(*rest)
  elif program == 'pytest':
    _check_pytest(rest)
  elif program == 'pip':
    check_extras(rest[-1])
  elif program == 'sbatch':
    assert (ROOT / rest[0]).is_file(), command
    check_run(rest[1:])
  else:  # an image for a cluster, which takes a daemon
    assert program == 'docker' and rest[0] in ('build', 'push'), (
        f'{command}: nothing is known of this program')
    if command.fed:
      check_extras(re.search(r"'(\.\[[\w,]+\])'", command.fed)[1])


def check_run(flags):
  """Builds a config with the flags, and checks its numbers and its task."""
  flags = [flag for flag in flags if flag != '--help']
  argv = ['jaxret', *flags]
  outside = [flag for flag in flags if re.match(
      r'--config(\.method|\.data\.name)?=my', flag)]
  if outside:  # of the reader's own
    argv = ['jaxret', '--config=configs/unite.py', *(
        flag for flag in flags if flag not in outside)]
  config, _ = main.parse(argv)
  config_ranges.check(config)
  main.find_task(config)
  return config


def _check_verb(argv):
  verb, *rest = argv
  if verb == 'run':
    check_run(rest)
    return
  module = importlib.import_module(f'jaxret.verbs.{verb}')
  if hasattr(module, 'parse') and '--help' not in rest:
    module.parse(rest)


def _check_module(name, *argv):
  if name == 'jaxret.main':
    check_run(argv)
    return
  module = importlib.import_module(name)
  real = argparse.ArgumentParser.parse_args
  def parse_args(self, *given, **options):
    real(self, *given, **options)
    raise _Parsed
  with mock.patch.object(argparse.ArgumentParser, 'parse_args', parse_args):
    try:
      module.main(list(argv))
    except _Parsed:
      return
  raise AssertionError(f'{name} has read no flags')


def _check_make(target, *given):
  said = (ROOT / 'Makefile').read_text()
  assert re.search(rf'^{re.escape(target)}:', said, re.MULTILINE), target
  for one in given:
    name, _, value = one.partition('=')
    assert re.search(rf'^{name} \?=', said, re.MULTILINE), one
    if name == 'PYTEST_ARGS':
      _check_pytest(shlex.split(value))
    if name == 'ARGS':
      check_run(['--config=configs/blim.py', *shlex.split(value)])


def _check_pytest(given):
  known = (ROOT / 'tests' / 'conftest.py').read_text()
  for one in given:
    if one.startswith('tests'):
      assert (ROOT / one.partition('::')[0]).exists(), one
    elif one.startswith('--'):
      assert f"'{one.partition('=')[0]}'" in known, one


def check_extras(requirement):
  """Of an editable installation of this directory: `.[index,serve]`."""
  if requirement == '.':
    return
  wanted = re.fullmatch(r'\.\[([\w,]+)\]', requirement)[1].split(',')
  extras = re.findall(r'^(\w+) =$', (ROOT / 'setup.cfg').read_text(),
                      re.MULTILINE)
  assert set(wanted) <= set(extras), requirement


def check_block(block):
  """Whether a block is of a kind that is known, and can be read as that."""
  assert block.language in KINDS, (
      f'{block}: a block of {block.language!r}; want one of '
      f'{", ".join(map(repr, KINDS))}, and a test that runs it')
  if block.language == 'python':
    compile(block.text, str(block), 'exec')
  if block.language == 'json':
    json.loads(block.text)


@functools.cache
def variants(name):
  """The variants of a config file."""
  return config_files.variants(ROOT / 'configs' / f'{name}.py')
