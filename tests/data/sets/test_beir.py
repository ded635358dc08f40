"""BEIR's and CIRCO's files."""
import gzip
import json

import ir_measures
import numpy as np
import pytest

from jaxret.data.sets import beir
from jaxret.methods.mm_embed import evaluator
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
    ('scifact/qrels/test.tsv', 'h\na\tb\t0.5\n', r"line 2: got 'a.*whole num"),
    ('scifact/qrels/test.tsv', 'h\na\tb\t0\n', 'no relevant document at all'),
    ('scifact/qrels/test.tsv', '', 'no relevant document at all'),
    ('scifact/qrels/test.tsv', 'h\nq\tb\t1\n', 'line 2: got relevance of the '
     'query q, wanted one that is in queries.jsonl'),
    ('scifact/corpus.jsonl', '{"_id": "a", "text": "half \\ud83d"}\n',
     'corpus.jsonl, line 1, a: its text holds a lone surrogate'),
    ('scifact/corpus.jsonl', '{"_id": "a", "contents": "c"}\n',
     'line 1, a: got the fields _id, contents, wanted title or text'),
    ('scifact/corpus.jsonl', '{"id": "a", "text": "c"}\n', 'line 1: got .*_id'),
    ('scifact/corpus.jsonl', '{"_id": "a", "text": "c"}\n{"_id": "b", "te',
     'corpus.jsonl, line 2 is not valid JSON'),
    ('scifact/corpus.jsonl', '{"_id": "a", "text": "c", "text": "d"}\n',
     "corpus.jsonl, line 1 is not valid JSON: the key 'text' is there twice"),
    ('instructions.json', '{}', "has no instruction for 'scifact'")))
def test_what_nobody_could_use_is_named(root, file, content, wanted):
  (root / file).write_text(content)
  with pytest.raises(ValueError, match=wanted) as caught:
    beir.read(root, 'test', ['scifact'])
  assert '\n' not in str(caught.value)


# As published: ../shared/faults has ArguAna's, NFCorpus' and this SciFact's.
@pytest.fixture
def published(root):
  """(root, names of what cannot be used of it)."""
  tiny_mbeir.lines(root / 'scifact/corpus.jsonl', [
      {'_id': 'd1', 'title': '', 'text': 'one'},
      {'_id': 'd2', 'text': 'two'}, {'_id': 'd3', 'title': 'no text'},
      {'_id': 'd4', 'title': None, 'text': 'four\u2028lines\x85\x0b\x0c'},
      {'_id': 5, 'title': float('nan'), 'text': 'five'},
      {'_id': 'tag', 'text': 'use the <image> tag of HTML'},
      {'_id': 'half', 'text': 'half a \ud83d'},
      {'_id': 'number', 'text': 3},
      {'_id': 'd2', 'text': 'two again'}])
  tiny_mbeir.lines(root / 'scifact/queries.jsonl', [
      {'_id': 'test-con03a', 'text': 'q1'}, {'_id': 'q2', 'text': 'q2'},
      {'_id': 'unjudged', 'text': 'of another split <image>'},
      {'_id': 'q3', 'text': 'q3'}, {'_id': 'q4', 'text': 'q4'},
      {'_id': 'empty', 'text': ''}, {'_id': 'tag', 'text': 'an <image>'}])
  tiny_mbeir.text(root / 'scifact/qrels/test.tsv', ''.join(
      f'{row}\n' for row in (
          'test-con03a\ttest-con03b\t1', 'q2\td1\t1.0', 'q2\t5\t2',
          'q2\td2\t-2', 'q2\tgone\t3', 'PLAIN-2\td1\t1', 'q3\td4\t0',
          'q4\td2\t1', 'q4\ttag\t1', 'q4\td2\t2', 'empty\td1\t1',
          'tag\td1\t1')))
  return root


LOST = {
    'corpus/tag': 'corpus.jsonl, line 6, tag: its text holds the image place',
    'corpus/half': 'line 7, half: its text holds a lone surrogate',
    'corpus/number': 'line 8, number: got text a number, wanted a text',
    'corpus/d2': 'line 9, d2: the _id is there again; its text before',
    'corpus/test-con03b': 'test.tsv, line 1: got the document test-con03b',
    'corpus/gone': 'test.tsv, line 5: got the document gone, wanted one',
    'queries/PLAIN-2': 'test.tsv, line 6: got relevance of the query PLAIN-2',
    'queries/empty': 'queries.jsonl, line 6, empty: got no text of the query',
    'queries/tag': 'queries.jsonl, line 7, tag: its text holds the image',
    'qrels/q4/d2': 'line 10: another grade of the document d2; that on line 8'}


def test_published_files_are_read_as_beir_and_trec_eval_do(published):
  found = beir.read(published, 'test', ['scifact'])
  task, = found.tasks
  assert {item.id: item.text for item in found.pools['scifact']} == {
      'd1': 'one', 'd2': 'two again', 'd3': 'no text',
      'd4': 'four\u2028lines', '5': 'five',
      'tag': 'use the < image> tag of HTML'}
  assert {query.id: own for query, own in zip(task.queries, task.relevant)} == {
      'test-con03a': {'test-con03b': 1}, 'q2': {'d1': 1, '5': 2, 'gone': 3},
      'q3': {}, 'q4': {'d2': 2, 'tag': 1}, 'tag': {'d1': 1}}
  assert task.queries[-1].text == 'an < image>'
  lost = {one.id.removeprefix('scifact/'): one.reason for one in found.left_out}
  assert sorted(lost) == sorted(LOST)
  for name, reason in LOST.items():
    assert reason in lost[name] and str(published) in lost[name]


def test_packed_files_are_read_as_they_are(published):
  plain = beir.read(published, 'test', ['scifact'])
  for name in ('corpus.jsonl', 'queries.jsonl'):
    path = published / 'scifact' / name
    (published / 'scifact' / f'{name}.gz').write_bytes(
        gzip.compress(path.read_bytes()))
    path.unlink()
  packed = beir.read(published, 'test', ['scifact'])
  assert packed.pools == plain.pools and packed.tasks == plain.tasks
  path = published / 'scifact/corpus.jsonl.gz'
  path.write_bytes(path.read_bytes()[:-9])
  with pytest.raises(ValueError, match='corpus.jsonl.gz cannot be read'):
    beir.read(published, 'test', ['scifact'])


def test_training_takes_what_has_an_answer(published):
  (published / 'scifact/qrels/test.tsv').rename(
      published / 'scifact/qrels/train.tsv')
  found = beir.training_set(published, 'scifact')
  assert {query.item.id: query.positives for query in found.queries} == {
      'q2': ('d1', '5'), 'q4': ('d2', 'tag'), 'tag': ('d1',)}
  assert len(found.left_out) == len(LOST)


@pytest.mark.parametrize('first', ('query-id\tcorpus-id\tscore\r\n', '',
                                   '\ufeffquery-id\tcorpus-id\tscore\n'))
@pytest.mark.parametrize('rows', ('a\tb\t2\na\ta\t0\n', 'a\tb\t2.0\r\n',
                                  'a 0 b 2\na Q0 a 0\n', 'a\t0\tb\t2'))
def test_qrels_with_and_without_a_header(root, first, rows):
  (root / 'scifact/qrels/test.tsv').write_bytes((first + rows).encode())
  found = beir.read(root, 'test', ['scifact'])
  assert found.tasks[0].relevant == ({'b': 2},) and not found.left_out


def test_means_are_those_of_trec_eval(published):
  """All documents in an order of our own, judged by ir-measures besides."""
  found = beir.read(published, 'test', ['scifact'])
  task, = found.tasks
  union, rng = evaluator.Union(found), np.random.default_rng(1)
  scores = np.sort(rng.random((5, 6)), 1)[:, ::-1].astype(np.float32)
  order = np.array([rng.permutation(6) for _ in range(5)])
  got = evaluator.summary(
      union, task, evaluator.Ranking(np.arange(5), scores, order),
      'scifact', 'ndcg')['reported']
  run = [ir_measures.ScoredDoc(query.id, union[place].id, float(score))
         for query, places, row in zip(task.queries, order, scores)
         for place, score in zip(places, row)]
  # Grades as the last line has them; PLAIN-2 and empty were not asked.
  qrels = [ir_measures.Qrel(*row) for row in (
      ('test-con03a', 'test-con03b', 1), ('q2', 'd1', 1), ('q2', '5', 2),
      ('q2', 'd2', -2), ('q2', 'gone', 3), ('q3', 'd4', 0), ('q4', 'd2', 2),
      ('q4', 'tag', 1), ('tag', 'd1', 1))]
  wanted = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], qrels, run)
  assert got == pytest.approx(100 * wanted[ir_measures.nDCG @ 10])
  assert 0 < got < 100
