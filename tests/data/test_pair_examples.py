"""Training pairs: which media they name, what headers show, what is left."""
import numpy as np
import pytest

from jaxret.data import media, pair_examples, types
from jaxret.data.sets import pair_files


def item(name, **media_of_it):
  return types.Item(name, **media_of_it)


class HeaderReader:
  """Counts the items that it is asked about."""

  def __init__(self, bad=()):
    self.bad, self.checked = bad, []

  def check(self, item):
    self.checked.append(item.id)
    if item.id in self.bad:
      raise media.MediaError(item.id, 'broken')

  def __call__(self, item):
    raise AssertionError('decoded')


@pytest.fixture
def sources():
  text = [item(f't{i}', text=f'text {i}') for i in range(4)]
  image = [item(f'i{i}', image=f'{i}.png') for i in range(4)]
  return {
      'images': [pair_files.Pair(text[i], image[i], 'image', image[3 - i])
                 for i in range(3)],
      'texts': [pair_files.Pair(text[0], text[1], 'text')],
      'last': [pair_files.Pair(image[3], text[3], 'text')]}


def test_every_medium_is_looked_at_once(sources):
  reader = HeaderReader(bad={'i2'})
  headers = pair_examples.Headers(reader, sources)
  assert len(headers) == 4 == len(set(headers.ids))
  bad = headers.scan(range(4), progress=False)
  assert sorted(reader.checked) == ['i0', 'i1', 'i2', 'i3']
  assert {headers.items[i].id: reason for i, reason in bad.items()} == {
      'i2': 'i2: broken'}


def test_pairs_with_a_bad_side_are_left_out_and_no_others(sources):
  headers = pair_examples.Headers(HeaderReader(), sources)
  name = {item.id: i for i, item in zip(headers.ids, headers.items)}
  left = pair_examples.without(sources, {name['i2']: 'broken'})
  # i2 is the candidate of the third pair and the negative of the second.
  assert left['images'] == sources['images'][:1]
  assert left['texts'] is sources['texts'] and left['last'] is sources['last']
  assert 'last' not in pair_examples.without(sources, {name['i3']: 'broken'})
  assert pair_examples.without(sources, {}) == sources


def test_pairs_are_alike_in_having_a_negative(sources):
  with pytest.raises(ValueError, match='t0: its pair has no negative, others'):
    pair_examples.PairExamples(
        None, [sources['images'][0], sources['texts'][0]], shapes={})


def test_sides_of_a_batch_are_told_apart():
  batch = {'query_tokens': 1, 'query_length': 2, 'candidate_tokens': 3,
           'negative_id': 4, 'modality': 5, 'positive': 6}
  assert pair_examples.sides(batch) == {
      'query': {'tokens': 1, 'length': 2}, 'candidate': {'tokens': 3}}


class TextReader:
  """An item's words as numbers, padded to a length."""

  def __call__(self, item):
    return item

  def shape(self, item):
    return len(item.text), 0, 0

  def pad(self, inputs, shape):
    return {'tokens': np.array([
        [*map(ord, item.text.ljust(shape[0]))] for item in inputs])}


def test_several_negatives_scores_and_documents():
  def of(name, text):
    return item(name, text=text)
  same = of('c0', 'one')
  pairs = [
      pair_files.Pair(of('q0', 'a'), same, 'text',
                      (of('n0', 'far'), of('n1', 'two')), (1.0, 0.5, 0.0)),
      pair_files.Pair(of('q1', 'b'), of('c1', 'two'), 'text',
                      (of('n2', 'other'), of('n3', 'one')), (0.9, 0.1, 0.2))]
  examples = pair_examples.PairExamples(
      TextReader(), pairs, dict.fromkeys(pair_examples.SIDES, (5, 0, 0)))
  assert examples.sides == ('query', 'candidate', 'negative', 'negative1')
  first, second = examples[0], examples[1]
  assert bytes(first['negative1_tokens'].tolist()) == b'two  '
  assert bytes(second['negative_tokens'].tolist()) == b'other'
  # Numbered by what they say, not by their names.
  assert first['document'] == second['negative_id'][1]
  assert first['negative_id'][1] == second['document']
  assert len({*first['negative_id'], *second['negative_id']}) == 4
  assert second['teacher'].tolist() == np.float32([0.9, 0.1, 0.2]).tolist()
  assert set(pair_examples.sides(first)) == {
      'query', 'candidate', 'negative', 'negative1'}


def test_media_of_all_negatives_are_looked_at():
  pairs = [pair_files.Pair(
      item('q', text='a'), item('c', image='0.png'), 'image',
      (item('n', image='1.png'), item('m', image='2.png')))]
  headers = pair_examples.Headers(HeaderReader(), {'one': pairs})
  assert [one.id for one in headers.items] == ['c', 'n', 'm']
  assert pair_examples.without({'one': pairs}, {headers.ids[2]: 'bad'}) == {}


@pytest.mark.parametrize('other, said', [
    ({'negative': (item('n', text='n'),) * 2},
     'q1: its pair has 2 negatives, others are unlike it, 1; give all'),
    ({'scores': None}, 'q1: its pair has no scores of a teacher, others'),
    ({'grade': 2.0}, 'q1: its pair has a grade, others')])
def test_pairs_are_alike_in_all_that_they_have(other, said):
  pair = pair_files.Pair(item('q0', text='a'), item('c', text='b'), 'text',
                         item('n', text='n'), (1.0, 0.0))
  with pytest.raises(ValueError, match=said):
    pair_examples.PairExamples(None, [pair, pair._replace(
        query=item('q1', text='a'), **other)], shapes={})
