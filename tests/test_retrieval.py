"""Tasks evaluated end to end by an encoder whose answers are known."""
import json

import numpy as np
import pytest

from jaxret import comparisons, metrics, report, retrieval
from jaxret.data.types import Item, Task
from jaxret.report import page

WIDTH = 16


def vector(text):
  """A unit vector that depends on the word alone."""
  seed = sum(ord(c) << (7 * n % 56) for n, c in enumerate(text))
  drawn = np.random.default_rng(seed).standard_normal(WIDTH)
  return drawn / np.linalg.norm(drawn)


def encode(items, prompt):
  """Texts and images of one name lie close to each other."""
  rows = []
  for item in items:
    if item.text == 'unreadable':
      rows.append(np.full(WIDTH, np.nan))
      continue
    row = vector((item.text or '').split(' ')[0] or item.image)
    noise = vector(f'{item.text}/{item.image}/{prompt}')
    row = row + 0.9 * noise
    rows.append(row / np.linalg.norm(row))
  return np.array(rows)


def items(prefix, words):
  return tuple(Item(f'{prefix}{n}', text=word) for n, word in enumerate(words))


WORDS = [f'word{n}' for n in range(30)]


def whole_task(name='plain', **changes):
  return Task(**dict(
      name=name, queries=items('q', [f'{w} query' for w in WORDS]),
      candidates=items('c', [f'{w} {k}' for w in WORDS for k in 'ab']),
      relevant=tuple(np.array([2 * n, 2 * n + 1], np.int32)
                     for n in range(len(WORDS))), query_prompt='Find it') |
              changes)


def matrix(task):
  return (encode(task.queries, task.query_prompt)
          @ encode(task.candidates, task.candidate_prompt).T).astype(np.float32)


def run(tasks, workdir, **changes):
  arguments = dict(dataset='words', encoders={
      'model': retrieval.Encoder(encode, {'weights': 'a'})})
  return retrieval.evaluate(tasks, workdir=workdir, **arguments | changes)


def test_numbers_are_those_of_the_score_matrix(tmp_path):
  task = whole_task()
  results, answers = run([task], tmp_path, recall_at=(1, 5, 10, 50))
  wanted = metrics.ranks(matrix(task), task.relevant)
  np.testing.assert_array_equal(answers['plain']['model'].ranks, wanted)
  row = results['plain']['model']
  assert row == metrics.summary(wanted, recall_at=(1, 5, 10, 50))
  assert 5 < row['recall_at_1'] < 95
  assert results['dataset'] == 'words' and results['split'] == 'test'
  assert results['sizes'] == {'tasks': 1, 'queries': 30, 'candidates': 60}
  assert results['tasks']['plain'] == {
      'queries': 30, 'candidates': 60, 'chance': pytest.approx(100 / 30),
      'left_out': 0}
  json.dumps(results, default=page._plain)


def test_candidate_lists_and_exclusions(tmp_path):
  generator = np.random.default_rng(0)
  lists = tuple(np.unique([2 * n, *generator.choice(60, 12, False)])
                for n in range(30))
  listed = whole_task('listed', lists=lists, relevant=tuple(
      np.array([2 * n]) for n in range(30)))
  scores = matrix(whole_task())
  first = [np.setdiff1d(np.argsort(-row)[:3], [2 * n, 2 * n + 1])
           for n, row in enumerate(scores)]
  less = whole_task('less', excluded=tuple(first))
  results, answers = run([listed, less], tmp_path)
  wanted = []
  for n, own in enumerate(lists):
    wanted.append(1 + sum(scores[n, c] >= scores[n, 2 * n]
                          for c in own if c != 2 * n))
  assert answers['listed']['model'].ranks.tolist() == wanted
  assert results['listed']['model']['precision_at_1'] == pytest.approx(
      100 * np.mean(np.array(wanted) == 1))
  sizes = [len(own) for own in lists]
  assert results['tasks']['listed']['list_length'] == np.mean(sizes)
  assert results['tasks']['listed']['chance'] == pytest.approx(
      100 * np.mean(1 / np.array(sizes)))
  for n, own in enumerate(first):
    scores[n, own] = -np.inf
  np.testing.assert_array_equal(answers['less']['model'].ranks,
                                metrics.ranks(scores, less.relevant))


def test_large_pools_are_searched(tmp_path, monkeypatch):
  excluded = tuple(np.array([(n + 7) * 2 % 60]) for n in range(30))
  task = whole_task(excluded=excluded)
  dense = run([task], tmp_path)
  monkeypatch.setattr(retrieval, 'DENSE_CANDIDATES', 10)
  results, answers = run([task], tmp_path)
  row = results['plain']['model']
  for k in (1, 5, 10):
    assert row[f'recall_at_{k}'] == (
        dense[0]['plain']['model'][f'recall_at_{k}'])
  assert row['mrr'] is None and row['mean_rank'] is None
  np.testing.assert_array_equal(
      answers['plain']['model'].ranks,
      np.minimum(dense[1]['plain']['model'].ranks, 12))
  shown = retrieval.gallery(answers)
  monkeypatch.undo()
  same = retrieval.gallery(dense[1])
  assert [[c.id for c in q.rows['model'].top] for q in shown] == [
      [c.id for c in q.rows['model'].top] for q in same]
  assert 'mean' in report.format_table(results)


def test_what_cannot_be_embedded_is_left_out(tmp_path):
  words = [f'{w} {k}' for w in WORDS for k in 'ab']
  words[4] = words[5] = words[8] = 'unreadable'
  queries = items('q', [f'{w} query' for w in WORDS])
  queries = (Item('q0', text='unreadable'), *queries[1:])
  task = whole_task(queries=queries, candidates=items('c', words))
  results, answers = run([task], tmp_path)
  found = answers['plain']['model']
  # Query 0 itself, and query 2, of which both answers are gone.
  assert [q.id for q in found.task.queries] == [
      f'q{n}' for n in range(30) if n not in (0, 2)]
  assert results['tasks']['plain']['left_out'] == 2 + 3
  kept = [c for c in range(60) if c not in (4, 5, 8)]
  scores = matrix(whole_task())[[n for n in range(30) if n not in (0, 2)]]
  relevant = [[kept.index(c) for c in (2 * n, 2 * n + 1) if c in kept]
              for n in range(30) if n not in (0, 2)]
  np.testing.assert_array_equal(
      found.ranks, metrics.ranks(scores[:, kept], relevant))


def test_a_second_run_embeds_nothing(tmp_path):
  task, asked = whole_task(), []

  def counting(items, prompt):
    asked.extend(item.id for item in items)
    return encode(items, prompt)

  encoders = {'model': retrieval.Encoder(counting, {'weights': 'a'})}
  first = run([task, whole_task('again')], tmp_path, encoders=encoders)[0]
  assert len(asked) == 90
  assert run([task, whole_task('again')], tmp_path,
             encoders=encoders)[0] == first
  assert len(asked) == 90


def test_differences_of_rows_that_answer_the_same_queries(tmp_path):
  """Not of one that left a query out; no MRR where ranks end at a depth."""
  def reversed_encode(items, prompt):
    return encode(items, prompt)[:, ::-1] + encode(items, None)
  def lacking(items, prompt):
    vectors = encode(items, prompt)
    vectors[0] = np.nan
    return vectors
  encoders = {row: retrieval.Encoder(function, {'weights': row}) for (
      row, function) in (('base', encode), ('ours', reversed_encode),
                         ('less', lacking))}
  _, answers = run([whole_task()], tmp_path, encoders=encoders)
  found = retrieval.differences(
      answers, [('ours', 'base'), ('less', 'base'), ('ours', 'gone')])
  ranks = {row: one.ranks for row, one in answers['plain'].items()}
  assert found == {'plain': comparisons.compare(ranks, [('ours', 'base')])}
  assert [one['metric'] for one in found['plain']] == [
      'recall_at_1', 'recall_at_5', 'recall_at_10', 'mrr']
  answers['plain']['base'] = answers['plain']['base']._replace(deepest=11)
  assert [one['metric'] for one in retrieval.differences(
      answers, [('ours', 'base')], (1, 5))['plain']] == [
          'recall_at_1', 'recall_at_5']


def test_group_means():
  results = {'tasks': {'a': {}, 'b': {}, 'c': {}}, **{
      name: {'model': {'recall_at_1': value}}
      for name, value in (('a', 10.), ('b', 20.), ('c', 60.))}}
  means = retrieval.group_means(
      results, {'one': ('a', 'b'), 'two': ('c', 'd')})['model']
  assert means['one'] == {'mean': 15, 'tasks': 2, 'of': 2}
  assert means['two'] == {'mean': 60, 'tasks': 1, 'of': 2}
  # The plain mean of the tasks, not of the groups.
  assert means['overall'] == {'mean': 30, 'tasks': 3, 'of': 4}


def test_names_must_differ(tmp_path):
  with pytest.raises(ValueError, match='no name twice'):
    run([whole_task(), whole_task()], tmp_path)


def test_report_of_several_tasks(tmp_path):
  picture = np.full((8, 8, 3), 200, np.uint8)
  mixed = whole_task('image_text_to_text', queries=tuple(
      Item(f'i{n}', text=f'{w} <|IMAGE|> turned', image=picture)
      for n, w in enumerate(WORDS)))
  encoders = {name: retrieval.Encoder(encode, {'weights': name})
              for name in ('plain_loss', 'mamcl')}

  def show(items, prompt):
    return encode([Item(i.id, text=i.text) for i in items], prompt)

  encoders = {name: retrieval.Encoder(show, {'weights': name})
              for name in encoders}
  results, answers = run([whole_task(), mixed], tmp_path, encoders=encoders)
  results['means'] = retrieval.group_means(results, {'both': list(answers)})
  gallery = retrieval.gallery(answers, 2, 2)
  source = report.write(tmp_path, results, {'method': 'words'},
                        gallery=gallery).read_text()
  assert 'image text to text' in source and '2 retrieval tasks' in source
  assert 'likelihood' not in source.partition('<body>')[2]
  assert source.count('class="tile-0"') == 0 and 'class="frames tile-' in source
  assert 'word3 turned' in source or 'turned' in source
  assert '&lt;|IMAGE|' not in source
  n_hits = sum(sum(r.hits) for q in gallery for r in q.rows.values())
  assert source.count('class="answer hit"') == n_hits > 0
  table = report.format_table(results)
  assert 'overall' in table and '2 of 2' in table
  assert f'{results["plain"]["mamcl"]["recall_at_1"]:.1f}' in table
  stored = json.loads((tmp_path / 'results.json').read_text())
  assert stored['tasks']['plain']['queries'] == 30
