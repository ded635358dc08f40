"""README and docs name what there is: links, commands, configs, fields.

What their examples do is in test_examples.py.
"""
import re

import pytest

from tests import snippets

ROOT, PAGES = snippets.ROOT, snippets.PAGES
LINK = re.compile(r'\]\(([^)#\s]+)(#[\w-]+)?\)')
CONFIG = re.compile(r'configs/(\w+)\.py(?::(\w+))?')


def text_of(page):
  return page.read_text(encoding='utf-8')


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
          if variant and variant not in snippets.variants(name)]
  assert lost == []


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_every_example_can_be_read(page):
  """Blocks are Python, data or commands whose flags are understood."""
  for block in snippets.blocks(page):
    snippets.check_block(block)
  for command in snippets.commands(page):
    snippets.check(command)


@pytest.mark.parametrize('text', [
    '```rust\nfn main() {}\n```', '```python\nmodel = (\n```',
    '```json\n[1,]\n```', '```\ncurl example.org\n```',
    '```\njaxret zzz\n```', '```\njaxret search clips --zzz=1\n```',
    '```\njaxret run --config=configs/unite.py:zzz\n```',
    '```\njaxret run --config=configs/unite.py --config.zzz=1\n```',
    '```\njaxret run --config=configs/unite.py --config.seed=-1\n```',
    '```\njaxret run --config=configs/unite.py \\\n  --config.task=zzz\n```',
    '```\npython -m jaxret.bench.zzz\n```',
    '```\npython -m jaxret.bench.input --zzz=1\n```',
    '```\nmake zzz\n```', "```\nmake run ARGS='--config.zzz=1'\n```",
    '```\npytest tests/zzz\n```', "```\npip install -e '.[zzz]'\n```",
    "```\nF='--zzz'; G=1\njaxret answer $F\n```",
    '```\nsbatch launch/zzz.sh\n```', "```\necho 'x' | zzz\n```"])
def test_an_example_that_is_wrong_fails(tmp_path, monkeypatch, text):
  monkeypatch.setattr(snippets, 'ROOT', ROOT)
  page = tmp_path / 'page.md'
  page.write_text(text)
  with pytest.raises((AssertionError, SyntaxError, ValueError, SystemExit,
                      ModuleNotFoundError)):
    test_every_example_can_be_read(page)
