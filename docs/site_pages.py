"""Pages of the site that are made from what lies elsewhere: a hook of MkDocs.

The front page is README.md; others are of launch/, CONTRIBUTING and CHANGELOG,
and what the sources of configs/ say of each field. Examples come along as they
are.
"""
import pathlib
import re

from mkdocs.structure import files as files_lib

from jaxret import config_files

ROOT = pathlib.Path(__file__).resolve().parents[1]
# {page: file that it is made of}.
COPIED = {'index.md': 'README.md', 'launch.md': 'launch/README.md',
          'contributing.md': 'CONTRIBUTING.md', 'changelog.md': 'CHANGELOG.md'}


def on_files(files, config):
  """Adds the pages."""
  for page, source in COPIED.items():
    text = (ROOT / source).read_text(encoding='utf-8')
    files.append(files_lib.File.generated(config, page, content=moved(text)))
  files.append(files_lib.File.generated(
      config, 'config.md', content=config_page(ROOT / 'configs')))
  for path in sorted((ROOT / 'examples').glob('*.ipynb')):
    files.append(files_lib.File.generated(
        config, f'examples/{path.name}', abs_src_path=str(path)))
  return files


def on_page_markdown(text, page, config, files):
  """The text of a page of docs/, its links moved."""
  return moved(text)


def moved(text):
  """Markdown whose links to pages hold where all pages lie in one folder."""
  for page, source in COPIED.items():
    text = re.sub(rf'\]\((\.\./)?{re.escape(source)}', f']({page}', text)
  return re.sub(r'\]\((\.\./)?(docs/|(?=examples/))', '](', text)


def config_page(directory):
  """A table of fields for each config file: default and meaning."""
  parts = ['# Every config field\n\n`--config.FIELD=VALUE` changes one. '
           'Defaults are those of the file without a variant; `jaxret run '
           '--config=configs/FILE.py:VARIANT --help` has those of a variant.\n']
  for path in sorted(directory.glob('*.py')):
    if not config_files.is_config(path):
      continue  # what others are made of
    parts.append(f'\n## configs/{path.name}\n\n'
                 '| field | default | meaning |\n|---|---|---|\n')
    said = config_files.Comments(path)
    for name, value in config_files.fields(
        config_files.load(str(path))).items():
      parts.append(f'| `{name}` | `{cell(repr(value))}` '
                   f'| {cell(said.of(name))} |\n')
  return ''.join(parts)


def cell(text):
  """Text that stays in its cell of a table."""
  return text.replace('|', r'\|').replace('\n', ' ')
