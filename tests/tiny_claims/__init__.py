"""A method whose runs take no time, and claims about its rows.

Its ranks depend on seed, split and `config.skill` alone.
"""
import pathlib

TASKS = {'train_and_evaluate': 'run', 'evaluate': 'run', 'caption': 'run'}

CONFIG = '''"""Toy claims."""
from ml_collections import ConfigDict


def get_config():
  return ConfigDict({
      'task': 'train_and_evaluate', 'method': 'tests.tiny_claims', 'seed': 0,
      'skill': 0.0, 'notes': '', 'data': {'name': 'tests.tiny_claims.words'},
      'eval': {'split': 'test'}})
'''
LISTED = """
[experiments.notes]
about = 'notes'
config = '{config}'
task = 'caption'
once = true

[experiments.good]
about = 'a good one'
config = '{config}'
change = {{ skill = 0.6 }}
uses = {{ notes = 'notes/notes.txt' }}

[experiments.plain]
about = 'a plain one'
config = '{config}'

[[claims]]
id = 'good'
paper = 'unite'
claim = 'The good one is better.'
for = 'It is.'
against = 'It is not.'
metric = 'recall_at_1'
direction = 'higher'
unit = 'points of R@1'
[[claims.comparisons]]
says = 'ours'
row = 'good/ours'
baseline = 'plain/ours'
tasks = ['words']

[[claims]]
id = 'nothing'
paper = 'blim'
claim = 'The same is better than itself.'
for = 'It is.'
against = 'It is not.'
metric = 'recall_at_1'
direction = 'higher'
unit = 'points of R@1'
[[claims.comparisons]]
says = 'itself'
row = 'plain/ours'
baseline = 'plain/theirs'
tasks = ['words']
"""


def write(folder: pathlib.Path) -> pathlib.Path:
  """Writes the config and the claims -> the file with these."""
  (folder / 'toy').mkdir()
  config = folder / 'toy' / 'toy.py'
  config.write_text(CONFIG)
  path = folder / 'claims.toml'
  path.write_text(LISTED.format(config=config))
  return path
