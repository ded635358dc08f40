"""mteb's layout: corpus, queries and qrels, with grades and media."""
import ir_measures
import ml_collections
import numpy as np
import pytest

from jaxret import retrieval
from jaxret.data import images, sets
from jaxret.data.sets import mteb
from tests import tables

README = '---\nconfigs:\n' + ''.join(
    f'- config_name: {name}\n  data_files:\n  - split: {split}\n'
    f'    path: {name}/*.parquet\n' for name, split in (
        ('corpus', 'corpus'), ('queries', 'test'), ('default', 'test'))) + (
            '---\n')
CORPUS = {'id': ['a', 'b', 'c'], 'title': ['T', '', None],
          'text': ['one', None, 'three'],
          'image': (tables.MEDIUM, [None, tables.medium(tables.png(2)),
                                    tables.medium(tables.png(3))]),
          'modality': ['text', 'image', 'image,text']}
QUERIES = {'id': ['x', 'y', 'z'], 'text': ['q x', 'q y', 'not asked']}
QRELS = {'query-id': ['x', 'x', 'x', 'y', 'y', 'w'],
         'corpus-id': ['a', 'c', 'b', 'b', 'gone', 'a'],
         'score': [1, 3, 0, 2, 1, 1]}


@pytest.fixture
def root(tmp_path):
  for name, data in (('corpus', CORPUS), ('queries', QUERIES),
                     ('default', QRELS)):
    tables.parquet(tmp_path / name / 'part-0.parquet', **data)
  (tmp_path / 'README.md').write_text(README)
  return tmp_path


def task_of(root, **fields):
  (task,) = mteb.tasks_of_split(
      ml_collections.ConfigDict({'root': str(root), **fields}), 'test')
  return task


def test_texts_media_and_grades(root):
  task = task_of(root)
  assert [(item.id, item.text) for item in task.candidates] == [
      ('a', 'T one'), ('b', None), ('c', 'three')]
  assert [item.image and int(images.read(item.image)[0, 0, 0])
          for item in task.candidates] == [None, 2, 3]
  assert [item.text for item in task.queries] == ['q x', 'q y']
  assert [own.tolist() for own in task.relevant] == [[0, 2], [1]]
  assert [own.tolist() for own in task.grades] == [[1, 3], [2, 1]]
  assert [one.id for one in task.left_out] == ['corpus/gone']
  assert len(task.files) == 3


def test_pools_of_mm_embed_have_instructions(root):
  tables.parquet(root / 'queries' / 'part-0.parquet',
                 **QUERIES, instruction=['Find x.', None, ''])
  config = ml_collections.ConfigDict({
      'data': {}, 'eval': {'split': 'test'}, 'method': 'mm_embed'})
  found = mteb.benchmark(config, str(root))
  (task,) = found.tasks
  assert task.instructions == ('Find x.', '')
  assert task.relevant == ({'a': 1, 'c': 3}, {'b': 2, 'gone': 1})
  assert (found.measure, task.depth, found.union) == ('ndcg', 10, False)
  with pytest.raises(ValueError, match='told 2 different things'):
    task_of(root)


def test_ndcg_is_trec_evals(root, tmp_path):
  """Of random vectors; what is lost counts as not found."""
  rng = np.random.default_rng(0)
  n, q = 40, 12
  grades = [{f'd{d}': int(rng.integers(0, 4)) for d in rng.choice(
      n + 5, 8, replace=False)} | {'d0': 1} for _ in range(q)]
  tables.parquet(root / 'corpus' / 'part-0.parquet',
                 id=[f'd{i}' for i in range(n)], text=['t'] * n)
  tables.parquet(root / 'queries' / 'part-0.parquet',
                 id=[f'q{i}' for i in range(q)], text=['t'] * q)
  rows = [(f'q{i}', d, g) for i, own in enumerate(grades)
          for d, g in own.items()]
  tables.parquet(root / 'default' / 'part-0.parquet', **dict(zip(
      ('query-id', 'corpus-id', 'score'), map(list, zip(*rows)))))
  vectors = {name: vector / np.linalg.norm(vector) for name, vector in (
      (f'{kind}{i}', rng.normal(size=16)) for kind, count in (
          ('d', n), ('q', q)) for i in range(count))}
  def encode(items, prompt):
    made = np.array([vectors[item.id] for item in items], np.float32)
    return np.where([[item.id == 'd7'] for item in items], np.nan, made)
  # One content, one embedding: the texts must differ.
  for name, count, kind in (('corpus', n, 'd'), ('queries', q, 'q')):
    ids = [f'{kind}{i}' for i in range(count)]
    tables.parquet(root / name / 'part-0.parquet', id=ids, text=ids)
  results, _ = retrieval.evaluate(
      [task_of(root)], {'row': retrieval.Encoder(encode, {})},
      tmp_path / 'w', 'mteb')
  (name,) = results['tasks']
  run = [ir_measures.ScoredDoc(f'q{i}', f'd{k}', float(
      vectors[f'q{i}'] @ vectors[f'd{k}']))
         for i in range(q) for k in range(n) if k != 7]
  wanted = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], [
      ir_measures.Qrel(*row) for row in rows], run)
  assert results[name]['row']['ndcg_at_10'] == pytest.approx(
      100 * next(iter(wanted.values())), abs=1e-6)


def with_lists(root, **lists):
  (root / 'README.md').write_text(README.removesuffix('---\n') + (
      '- config_name: top_ranked\n  data_files:\n  - split: test\n'
      '    path: top_ranked/*.parquet\n---\n'))
  tables.parquet(root / 'top_ranked' / 'part-0.parquet', **lists)


def test_lists_are_ranked_anew(root, tmp_path):
  """Each query among its own candidates, with the nDCG of mteb's reranking."""
  with_lists(root, **{'query-id': ['x', 'y'],
                      'corpus-ids': [['c', 'b', 'gone2'], ['b', 'a', 'c']]})
  task = task_of(root)
  assert [own.tolist() for own in task.lists] == [[2, 1], [1, 0, 2]]
  assert [own.tolist() for own in task.relevant] == [[2], [1]]
  assert [own.tolist() for own in task.grades] == [[3, 1], [2, 1]]
  assert {one.id for one in task.left_out} == {'corpus/gone', 'corpus/gone2'}
  vectors = {'a': [1, 0], 'b': [.6, .8], 'c': [0, 1], 'x': [.6, .8],
             'y': [1, 0]}
  results, _ = retrieval.evaluate(
      [task], {'row': retrieval.Encoder(lambda items, prompt: np.array(
          [vectors[item.id] for item in items], np.float32), {})},
      tmp_path / 'w', 'mteb')
  found = results[task.name]['row']
  run = [ir_measures.ScoredDoc(query, document, float(np.dot(
      vectors[query], vectors[document]))) for query, own in (
          ('x', 'cb'), ('y', 'bac')) for document in own]
  rows = list(zip(*QRELS.values()))
  wanted = ir_measures.calc_aggregate(
      [ir_measures.nDCG @ 10], [ir_measures.Qrel(*row) for row in rows
                                if row[0] in 'xy'], run)
  assert found['ndcg_at_10'] == pytest.approx(
      100 * next(iter(wanted.values())), abs=1e-6)
  assert found['recall_at_1'] == 0 and found['mrr'] == 0.5


def test_lists_that_cannot_be_ranked_are_said(root):
  with_lists(root, **{'query-id': ['x'], 'corpus-ids': [['c', 'c']]})
  with pytest.raises(ValueError, match="row 0, column 'corpus-ids': got"):
    task_of(root)
  with_lists(root, **{'query-id': ['x', 'y'], 'corpus-ids': [['c'], ['a']]})
  task = task_of(root)
  assert [query.id for query in task.queries] == ['x']
  assert 'list of what it is compared' in task.left_out[-1].reason
  config = ml_collections.ConfigDict({
      'data': {}, 'eval': {'split': 'test'}, 'method': 'mm_embed'})
  with pytest.raises(ValueError, match='mm_embed searches a pool'):
    mteb.benchmark(config, root)


def test_ties_of_grades_count_against_us():
  from jaxret.data import types
  items = tuple(types.Item(str(i), 'x') for i in range(3))
  task = types.Task('t', items[:1], items, (np.array([0, 2]),),
                    grades=(np.array([1, 3]),))
  found = retrieval._ndcg(
      task, np.ones((1, 4), np.float32), np.ones((3, 4), np.float32), None)
  worst = (1 / np.log2(3) + 3 / np.log2(4)) / (3 + 1 / np.log2(3))
  np.testing.assert_allclose(found, [worst])


@pytest.mark.parametrize('name, data, said', [
    ('default', {**QRELS, 'score': [1, 3, 0.5, 2, 1, 1]},
     "row 2, column 'score': got 0.5, wanted a whole number"),
    ('default', {'query': ['x']}, 'wanted query-id'),
    ('corpus', {'text': ['x']}, 'wanted id'),
    ('queries', {'id': ['n'], 'text': ['x']}, 'no query of the qrels'),
    ('corpus', {'id': ['n'], 'text': ['x']}, 'no query has a relevant')])
def test_what_is_wrong_is_said_with_its_place(root, name, data, said):
  tables.parquet(root / name / 'part-0.parquet', **data)
  with pytest.raises(ValueError, match=said) as error:
    task_of(root)
  assert '\n' not in str(error.value)


def test_an_entry_that_cannot_be_used_is_left_out(root):
  tables.parquet(root / 'corpus' / 'part-0.parquet', **{
      **CORPUS, 'id': ['b', 'b', 'c'], 'text': [None, None, 'three'],
      'title': [None] * 3, 'modality': ['text', 'image', 'image,text']})
  task = task_of(root)
  assert [item.id for item in task.candidates] == ['b', 'c']
  reasons = {one.id: one.reason for one in task.left_out}
  assert 'row 0: got neither a text nor a medium' in reasons['corpus/b']


def test_subsets_stand_in_front(root):
  readme = README
  for name in ('corpus', 'queries'):
    readme = readme.replace(f'config_name: {name}', f'config_name: en-{name}')
  (root / 'README.md').write_text(readme.replace('config_name: default',
                                                 'config_name: en-qrels'))
  assert len(task_of(root, subsets=('en',)).queries) == 2
  with pytest.raises(ValueError, match='has no corpus, but en-corpus, en-q'):
    task_of(root)
  with pytest.raises(ValueError, match='give one'):
    task_of(root, subsets=('en', 'fr'))


def test_it_is_a_data_set_of_unite_and_mm_embed():
  assert sets.get('mteb', 'tasks_of_split') is mteb
  assert 'mteb' in sets.offering('benchmark')
