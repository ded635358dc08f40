"""jaxret mteb: what its flags open, and what cannot go together.

tests/integrations/test_mteb.py runs it with mteb itself.
"""
import sys
import types

import pytest

from jaxret import cli
from jaxret.verbs import mteb as verb


class Integration:
  """What the verb opens, by name."""

  @staticmethod
  def Encoder(model, **options):
    return 'encoder', model, options

  @staticmethod
  def likelihood(model, **options):
    return 'likelihood', model, options

  @staticmethod
  def reranking(model, **options):
    return 'reranking', model, options

  last_part = staticmethod(lambda path: path.rpartition('/')[2])


def opened(*flags):
  return verb.opened(Integration, verb.parse(
      ['--model=a/b', '--tasks=T', *flags]))


def test_flags_reach_what_they_are_of():
  assert opened() == ('encoder', 'a/b', {
      'prompts': None, 'instructions': False})
  assert opened('--prompts={"query": "x"}', '--instructions',
                '--dtype=bfloat16', '--recipe=gme') == ('encoder', 'a/b', {
                    'prompts': {'query': 'x'}, 'instructions': True,
                    'dtype': 'bfloat16', 'recipe': 'gme'})
  assert opened('--score=likelihood') == ('likelihood', 'a/b', {'name': 'b'})
  assert opened('--score=rerank', '--first=c/d', '--topk=7') == (
      'reranking', 'a/b', {'first': ('encoder', 'c/d', {}), 'topk': 7})


@pytest.mark.parametrize('flags, message', [
    (['--score=likelihood', '--prompts={}'], None),
    (['--score=likelihood', '--instructions'], '--instructions has no effect'),
    (['--score=rerank', '--recipe=gme'], '--recipe has no effect with --score'),
    (['--first=x'], '--first and --topk have an effect with --score=rerank'),
    (['--prompts=[1]'], '--prompts'), (['--prompts={"a": 1}'], '--prompts'),
    (['--prompts={'], '--prompts'), (['--score=x'], '--score')])
def test_what_cannot_go_together(flags, message):
  if message is None:  # no prompts are no prompts
    opened(*flags)
    return
  with pytest.raises(ValueError, match=message) as error:
    opened(*flags)
  assert '\n' not in str(error.value)


def test_without_mteb_one_line_says_what_to_install(monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'mteb', None)
  assert cli.main(['mteb', '--model=x', '--tasks=T']) == 1
  error = capsys.readouterr().err
  assert "pip install -e '.[ecosystem]'" in error and error.count('\n') == 1


def test_an_unknown_task_is_named(monkeypatch, capsys):
  def get_task(name):
    raise KeyError(f'there is no {name}')
  monkeypatch.setitem(sys.modules, 'mteb', types.SimpleNamespace(
      get_task=get_task))
  monkeypatch.setitem(
      sys.modules, 'jaxret.integrations.mteb', types.SimpleNamespace())
  assert cli.main(['mteb', '--model=x', '--tasks=Nothing']) == 1
  assert capsys.readouterr().err == 'jaxret: mteb: there is no Nothing\n'


def test_a_table_of_main_scores():
  assert list(verb.table({'A': {'test': [
      {'main_score': 0.12345, 'hf_subset': 'de'}]}, 'Long': {
          'dev': [{'main_score': 1.0}]}})) == [
              'A     test  de  12.35', 'Long  dev  default  100.00']
