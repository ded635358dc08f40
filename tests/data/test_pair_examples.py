"""Training pairs: which media they name, what headers show, what is left."""
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
