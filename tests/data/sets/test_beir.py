"""BEIR's and CIRCO's files."""
import json

import pytest

from jaxret.data.sets import beir
from tests import tiny_mbeir


@pytest.fixture
def root(tmp_path):
  for name in ('scifact', 'arguana', 'cqadupstack/gis', 'cqadupstack/tex'):
    tiny_mbeir.lines(tmp_path / name / 'corpus.jsonl', [
        {'_id': 'a', 'title': 'A', 'text': 'first'},
        {'_id': 'b', 'title': '', 'text': 'second'}])
    tiny_mbeir.lines(tmp_path / name / 'queries.jsonl', [
        {'_id': 'a', 'text': 'one?'}, {'_id': 'x', 'text': 'two?'}])
    for split in ('test', 'train'):
      tiny_mbeir.text(tmp_path / name / f'qrels/{split}.tsv',
                      'query-id\tcorpus-id\tscore\na\tb\t2\na\ta\t0\n')
  tiny_mbeir.text(tmp_path / 'instructions.json', json.dumps(
      {'scifact': 'Check.', 'arguana': 'Refute.', 'cqadupstack': ''}))
  return tmp_path


def test_queries_grades_and_instructions(root):
  found = beir.read(root, 'test', ['scifact'])
  task, = found.tasks
  assert [item.text for item in found.pools['scifact']] == ['A first', 'second']
  assert [item.id for item in task.queries] == ['a']  # x has no answer
  assert task.relevant == ({'b': 2},) and task.instructions == ('Check.',)
  assert task.excluded is None and not found.union
  assert beir.read(root, 'test', ['arguana']).tasks[0].excluded == (('a',),)


def test_cqadupstack_is_twelve_tasks(root, monkeypatch):
  monkeypatch.setattr(beir, 'CQADUPSTACK', ('gis', 'tex'))
  found = beir.read(root, 'test', ['cqadupstack'])
  assert [task.name for task in found.tasks] == [
      'cqadupstack/gis', 'cqadupstack/tex']


def test_a_training_set_of_text(root):
  found = beir.training_set(root, 'scifact')
  assert found.queries[0].positives == ('b',)
  assert found.queries[0].instructions == {'text': ('Check.',)}


@pytest.mark.parametrize('file, content, wanted', (
    ('scifact/qrels/test.tsv', 'h\na\tz\t1\n',
     r'test.tsv, line 2: got the document z, wanted one that is in corpus'),
    ('scifact/qrels/test.tsv', 'h\na b 1\n', r"line 2: got 'a b 1', wanted"),
    ('scifact/qrels/test.tsv', 'h\nq\tb\t1\n',
     'got relevance of the query q, wanted one that is in queries.jsonl'),
    ('scifact/corpus.jsonl', '{"_id": "a", "text": "<image>"}\n',
     'corpus.jsonl, line 1, a: its text holds the image placeholder'),
    ('instructions.json', '{}', "has no instruction for 'scifact'")))
def test_bad_lines_are_named(root, file, content, wanted):
  (root / file).write_text(content)
  with pytest.raises(ValueError, match=wanted):
    beir.read(root, 'test', ['scifact'])
