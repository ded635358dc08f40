"""Mixed pools: modalities, and training sets as pairs."""
import json

import numpy as np
import pytest

from jaxret.data import types
from jaxret.data.sets import mixed


def image(seed):
  return np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)


def item(name, kind):
  return types.Item(name, 'a' if 'text' in kind else None,
                    image(0) if 'image' in kind else None)


def training_set(n=30):
  """Query q has one text and two pictures as answers, each its own wording."""
  pool = tuple(item(f'{kind}:{i}', kind) for kind in ('text', 'image')
               for i in range(n + 1))
  queries = tuple(mixed.Query(
      item(f'q{q}', 'text'), {'text': (f'text {q}',), 'image': (
          f'image {q}', f'picture {q}', f'photo {q}')},
      (f'text:{q}', f'image:{q}', f'image:{q + 1}')) for q in range(n))
  return mixed.TrainingSet(queries, pool, ('only',) * len(pool))


def test_modalities_of_items():
  assert [mixed.modality(types.Item('x', *fields)) for fields in (
      ('a',), (None, image(0)), ('a', image(0)))] == [
          'text', 'image', 'image,text']


def test_codes_are_places_of_modalities():
  kinds = np.random.default_rng(0).choice(mixed.MODALITIES, 50)
  found = mixed.codes([item(str(i), kind) for i, kind in enumerate(kinds)])
  assert found.dtype == np.int8
  assert [mixed.MODALITIES[code] for code in found] == kinds.tolist()
  assert mixed.codes([]).shape == (0,)


def test_every_answer_and_wording_is_drawn_about_as_often():
  """Of 6000 draws; the wording is one for the modality of the answer."""
  given, n_answers, n_wordings = training_set(), [0] * 3, {}
  for seed in range(200):
    pairs = mixed.Pairs(given, seed)
    assert len(pairs) == 30
    for i in range(len(pairs)):
      pair, query = pairs[i], given.queries[i]
      assert pair.query is query.item and pair.row == i
      assert pair.negative is None
      assert pair.target_modality == pair.candidate.id.partition(':')[0]
      assert pair.instruction in query.instructions[pair.target_modality]
      n_answers[query.positives.index(pair.candidate.id)] += 1
      word = pair.instruction.partition(' ')[0]
      n_wordings[word] = n_wordings.get(word, 0) + 1
  # Five standard deviations of shares of 1/3, and of 2/9.
  assert all(abs(n - 2000) < 5 * 37 for n in n_answers)
  assert n_wordings.pop('text') == n_answers[0]
  assert len(n_wordings) == 3 and all(
      abs(n - 4000 / 3) < 5 * 33 for n in n_wordings.values())


def rows(given, change=None):
  """As mining writes them: query q's picture, and the text of another."""
  found = [{'query': query.item.id, 'positive': f'image:{q}',
            'negative': f'text:{q + 1}', 'kind': 'random'}
           for q, query in enumerate(given.queries)]
  return change(found) if change else found


def lines(path, entries):
  path.write_text(''.join(f'{json.dumps(entry)}\n' for entry in entries))
  return path


def test_what_was_mined_is_what_pairs_are_made_of(tmp_path):
  given = training_set()
  negatives = mixed.read_negatives(
      lines(tmp_path / 'x.jsonl', rows(given)), given)
  assert negatives.positive.dtype == negatives.negative.dtype == np.int64
  for seed in range(3):
    pairs = mixed.Pairs(given, seed, negatives)
    for q in range(len(pairs)):
      assert pairs[q].candidate.id == f'image:{q}'
      assert pairs[q].negative.id == f'text:{q + 1}'
      assert pairs[q].target_modality == 'image'


@pytest.mark.parametrize('change, message', [
    (lambda rows: rows[1:], 'line 1: got the query q1, wanted q0'),
    (lambda rows: rows[:-1], 'got 29 queries, wanted 30'),
    (lambda rows: [*rows, rows[0]],
     'line 31: got the query q0, wanted no more'),
    (lambda rows: [rows[1], rows[0], *rows[2:]], 'line 1: got the query q1'),
    (lambda rows: [*rows[:4], {**rows[4], 'negative': 'text:99'}, *rows[5:]],
     'line 5: got the query q4, wanted q4, with ids of its pool')])
def test_what_was_mined_of_other_data_is_refused(tmp_path, change, message):
  given = training_set()
  path = lines(tmp_path / 'x.jsonl', rows(given, change))
  with pytest.raises(ValueError, match=message) as error:
    mixed.read_negatives(path, given)
  assert str(path) in str(error.value)


def test_pairs_say_what_their_files_lack():
  bad = types.LeftOut('x', 'not there')
  assert mixed.Pairs(training_set()._replace(left_out=(bad,)), 0).left_out == (
      bad,)


@pytest.mark.parametrize('first, second, said', [
    ({'negative': ['text:4', 'text:5']}, {'negative': 'text:4'},
     'line 2: got 1 negatives, wanted 2 as in the first'),
    ({'scores': [1.0, 0.0]}, {}, 'line 2: got the scores None, wanted 2 num'),
    ({'scores': [1.0]}, {}, 'line 1: got the scores .1.0., wanted 2 numbers'),
    ({}, {'scores': [1.0, 0.0]}, 'line 2: .*wanted none, as in the first'),
    ({'scores': [1.0, True]}, {}, 'line 1: got the scores'),
    ({'negative': ['text:4', 7]}, {}, 'line 1: got the query q0')])
def test_lines_of_negatives_are_alike(tmp_path, first, second, said):
  rows = [{'query': f'q{q}', 'positive': f'text:{q}', 'negative': 'text:4',
           **own} for q, own in enumerate((first, second))]
  path = tmp_path / 'mined.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  with pytest.raises(ValueError, match=said):
    mixed.read_negatives(path, training_set(2)._replace(
        pool=training_set().pool))
