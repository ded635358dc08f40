"""README and docs name what there is: links, commands, configs, fields."""
import functools
import importlib.util
import pathlib
import re
import shlex

import pytest

from jaxret import checkpoint, config_files

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = (ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')),
         ROOT / 'launch' / 'README.md')
LINK = re.compile(r'\]\(([^)#\s]+)(#[\w-]+)?\)')
CONFIG = re.compile(r'configs/(\w+)\.py(?::(\w+))?')
FIELD = re.compile(r'--config\.([\w.]+)')


def text_of(page):
  return page.read_text(encoding='utf-8')


def commands(page):
  """The commands of a page's blocks, continued lines joined."""
  blocks = re.findall(r'^```(?:\w*)\n(.*?)^```', text_of(page),
                      re.MULTILINE | re.DOTALL)
  joined = '\n'.join(blocks).replace('\\\n', ' ')
  return [line for line in joined.splitlines()
          if re.match(r'(jaxret |python -m |make )', line)]


@functools.cache
def variants(name):
  return config_files.variants(ROOT / 'configs' / f'{name}.py')


@functools.cache
def fields(spec):
  return set(checkpoint.plain_config(config_files.load(str(ROOT / spec))))


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
  lost = [target for target, _ in LINK.findall(text_of(page))
          if '://' not in target and not (page.parent / target).exists()]
  assert lost == []


def test_every_page_is_reached_from_the_readme():
  linked = {target for target, _ in LINK.findall(text_of(PAGES[0]))}
  assert [page.name for page in PAGES[1:-1]
          if f'docs/{page.name}' not in linked] == []


def test_the_readme_stays_short():
  assert len(text_of(PAGES[0]).splitlines()) <= 170


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_configs_and_variants_exist(page):
  lost = [f'{name}:{variant}' for name, variant in CONFIG.findall(text_of(page))
          if variant and variant not in variants(name)]
  assert lost == []


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_commands_name_modules_targets_and_fields_that_exist(page):
  targets = re.findall(r'^([\w-]+):', text_of(ROOT / 'Makefile'), re.MULTILINE)
  lost = []
  for command in commands(page):
    words = shlex.split(command, comments=True)
    if words[0] == 'make' and words[1] not in targets:
      lost.append(command)
    if words[0] == 'python' and importlib.util.find_spec(words[2]) is None:
      lost.append(command)
    spec = next((word.partition('=')[2] for word in words
                 if word.startswith('--config=configs/')), None)
    if spec:
      given = FIELD.findall(command)
      lost += [f'{spec}: {name}' for name in given
               if not any(known == name or known.startswith(f'{name}.')
                          for known in fields(spec))]
  assert lost == []
