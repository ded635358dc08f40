"""Negatives as a data set: written once, read by training."""
import json

import ml_collections
import numpy as np
import pytest

from jaxret import retrieval
from jaxret.data import types
from jaxret.data.sets import mixed
from jaxret.methods.mm_embed import mine

WIDTH = 6
OPTIONS = ml_collections.ConfigDict({'k': 12, 'offset': 8, 'part_queries': 5})


def training_set(n=13):
  pool = tuple([types.Item(f'1:{i}', f'text {i}') for i in range(20)]
               + [types.Item(f'2:{i}', image=f'{i}.png') for i in range(20)])
  queries = tuple(mixed.Query(
      types.Item(f'q{i}', f'query {i}'),
      {'text': ('t',), 'image': ('i', 'j')},
      (f'1:{i}', f'1:{i + 1}') if i % 2 else (f'2:{i}',),
      tuple(f'2:{j}' for j in range(14, 20))) for i in range(n))
  return mixed.TrainingSet(queries, pool, ('a',) * 20 + ('b',) * 20)


class Encoder:
  calls = 0

  def __call__(self, items, prompt):
    self.calls += len(items)
    return np.stack([np.random.default_rng([*f'{i.id}{prompt}'.encode()])
                     .standard_normal(WIDTH) for i in items])


def run(directory, encoder, seed=0, options=OPTIONS, data=None, teacher=None):
  return mine.mine('toy', data or training_set(), seed, retrieval.Encoder(
      encoder, {'weights': 'w'}), directory, options, teacher=teacher)


class Asked:
  """A teacher that likes long names; fails when it is asked too often."""

  def __init__(self, calls=100):
    self.calls = calls
    self.fingerprint = {'weights': 't'}

  def ask(self, queries, candidates):
    self.calls -= 1
    if self.calls < 0:
      raise KeyboardInterrupt
    return np.array([[len(query.id) + len(one.id) / 8 for one in own]
                     for query, own in zip(queries, candidates)])


def test_what_is_written_is_what_training_reads(tmp_path):
  found = run(tmp_path, Encoder())
  data = training_set()
  rows = [json.loads(row) for row in
          (tmp_path / 'toy.jsonl').read_text().splitlines()]
  assert found['queries'] == len(rows) == len(data.queries)
  kinds = [row['kind'] for row in rows]
  assert {kind: kinds.count(kind) for kind in set(kinds)} == {
      kind: n for kind, n in found.items()
      if kind in ('wrong_modality', 'insufficient', 'random') and n}
  negatives = mine.read([tmp_path / 'none', tmp_path], 'toy', data)
  pairs = mixed.Pairs(data, 0, negatives)
  for i, row in enumerate(rows):
    assert pairs[i].query.id == row['query']
    assert pairs[i].candidate.id == row['positive']
    assert pairs[i].negative.id == row['negative']
    assert row['negative'] not in data.queries[i].positives
    assert row['negative'] not in data.queries[i].excluded
    assert row['positive'] in data.queries[i].positives
  # Without negatives the same seed trains with the same answers.
  plain = mixed.Pairs(data, 0)
  assert [plain[i].candidate.id for i in range(len(rows))] == [
      row['positive'] for row in rows]


def test_parts_make_no_difference_and_nothing_is_done_twice(tmp_path):
  encoder = Encoder()
  run(tmp_path / 'parts', encoder)
  calls = encoder.calls
  run(tmp_path / 'parts', encoder)
  assert encoder.calls == calls == 40 + 13
  whole = ml_collections.ConfigDict({**OPTIONS, 'part_queries': 100})
  run(tmp_path / 'whole', Encoder(), options=whole)
  assert (tmp_path / 'parts/toy.jsonl').read_bytes() == (
      tmp_path / 'whole/toy.jsonl').read_bytes()
  (tmp_path / 'parts/toy.statistics.json').unlink()
  run(tmp_path / 'parts', encoder)  # killed before it was written
  assert encoder.calls == calls


def test_ranked_are_the_candidates_it_looked_at(tmp_path):
  data, encoder = training_set(), Encoder()
  run(tmp_path, encoder)
  ranked = mine.ranked(tmp_path, 'toy')
  pool = encoder(data.pool, None)
  for query, top in zip(data.queries, ranked):
    said = 't' if query.positives[0].startswith('1:') else 'i'
    scores = pool @ encoder([query.item], said)[0]
    assert top.tolist() == np.argsort(-scores)[:12].tolist()
  with pytest.raises(ValueError, match='mine other first'):
    mine.ranked(tmp_path, 'other')


def test_what_was_mined_otherwise_is_refused(tmp_path):
  run(tmp_path, Encoder())
  with pytest.raises(ValueError, match='mined otherwise: seed was 0, is 1'):
    run(tmp_path, Encoder(), seed=1)


def test_negatives_of_other_data_are_refused(tmp_path):
  run(tmp_path, Encoder())
  with pytest.raises(ValueError, match=r'line 10: got the query q9, wanted no'):
    mine.read([tmp_path], 'toy', training_set(9))
  with pytest.raises(ValueError, match='got 13 queries, wanted 15'):
    mine.read([tmp_path], 'toy', training_set(15))
  with pytest.raises(ValueError, match='run task=mine first'):
    mine.read([tmp_path], 'other', training_set())


def test_tables_of_the_report(tmp_path):
  assert mine.tables(tmp_path) == []
  run(tmp_path, Encoder())
  table, = mine.tables(tmp_path)
  assert table['rows'][1][:2] == ('toy', '13')


@pytest.mark.parametrize('name', ['toy.jsonl', 'toy.ranked.npy'])
def test_mined_files_that_were_changed_are_refused_by_name(tmp_path, name):
  run(tmp_path, Encoder())
  path = tmp_path / name
  data = bytearray(path.read_bytes())
  data[-20] ^= 1
  path.write_bytes(data)
  for read in (lambda: mine.read([tmp_path], 'toy', training_set()),
               lambda: mine.ranked(tmp_path, 'toy'),
               lambda: run(tmp_path, Encoder())):
    with pytest.raises(ValueError, match='is damaged') as caught:
      read()
    assert str(path) in str(caught.value)
  (tmp_path / 'toy.statistics.json').write_text('{"queries": 1')
  with pytest.raises(ValueError, match='toy.statistics.json is damaged'):
    mine.tables(tmp_path)


SEVERAL = ml_collections.ConfigDict({**OPTIONS, 'negatives': 3})


def test_several_negatives_and_what_a_teacher_says_of_them(tmp_path):
  found = run(tmp_path, Encoder(), options=SEVERAL, teacher=Asked())
  assert found['queries'] == 13 and sum(
      found[kind] for kind in ('wrong_modality', 'insufficient', 'random')
      ) == 39
  data = training_set()
  pairs = mixed.Pairs(data, 0, mine.read([tmp_path], 'toy', data))
  rows = [json.loads(row) for row in
          (tmp_path / 'toy.jsonl').read_text().splitlines()]
  for pair, row in zip((pairs[i] for i in range(13)), rows):
    assert [one.id for one in pair.negative] == row['negative']
    assert len(set(row['negative'])) == 3 == len(row['kind'])
    assert list(pair.scores) == row['scores'] == [
        len(pair.query.id) + len(one.id) / 8
        for one in (pair.candidate, *pair.negative)]
  # The first is the one that is drawn where there is but one.
  run(tmp_path / 'one', Encoder())
  alone = [json.loads(row) for row in
           (tmp_path / 'one/toy.jsonl').read_text().splitlines()]
  assert [row['negative'][0] for row in rows] == [
      row['negative'] for row in alone]
  assert all('scores' not in row for row in alone)


def test_a_teacher_is_asked_nothing_twice(tmp_path, monkeypatch):
  monkeypatch.setattr(mine, 'ASKED', 5)
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path, Encoder(), options=SEVERAL, teacher=Asked(2))
  run(tmp_path, Encoder(), options=SEVERAL, teacher=Asked(1))
  run(tmp_path / 'whole', Encoder(), options=SEVERAL, teacher=Asked())
  assert (tmp_path / 'toy.jsonl').read_bytes() == (
      tmp_path / 'whole/toy.jsonl').read_bytes()


def test_other_numbers_of_negatives_and_teachers_are_refused(tmp_path):
  run(tmp_path, Encoder(), options=SEVERAL, teacher=Asked())
  with pytest.raises(ValueError, match='negatives was 3, is 1'):
    run(tmp_path, Encoder(), teacher=Asked())
  with pytest.raises(ValueError, match="teacher was .'weights': 't'., is None"):
    run(tmp_path, Encoder(), options=SEVERAL)


def test_statistics_of_before_there_were_several_are_good(tmp_path):
  run(tmp_path, Encoder())
  path = tmp_path / 'toy.statistics.json'
  old = json.loads(path.read_text())
  del old['mined_with']['negatives'], old['mined_with']['teacher']
  path.write_text(json.dumps(old))
  run(tmp_path, None)


def test_other_strategies_embed_nothing_again(tmp_path):
  encoder = Encoder()
  first = run(tmp_path, encoder)
  calls = encoder.calls
  other = ml_collections.ConfigDict({**OPTIONS, 'strategy': 'random'})
  def again():
    return mine.mine(
        'toy', training_set(), 0, retrieval.Encoder(encoder, {'weights': 'w'}),
        tmp_path / 'random', other, shared=tmp_path)
  found = again()
  assert encoder.calls == calls == 13 + 40
  assert found['random'] == 13 and first['random'] < 13
  assert again() == found
  rows = mine.tables(tmp_path)[0]['rows']
  assert [row[0] for row in rows] == ['source', 'toy', 'random/toy']
  with pytest.raises(ValueError, match='strategy was .modality_aware., is'):
    run(tmp_path, encoder, options=other)
