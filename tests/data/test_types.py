"""Tasks that do not fit are refused by name."""
import numpy as np
import pytest

from jaxret.data import types
from jaxret.data.types import Item, Task

ITEMS = tuple(Item(f'i{n}', text=str(n)) for n in range(4))


def task(**changes):
  fields = dict(
      name='asked', queries=ITEMS[:2], candidates=ITEMS,
      relevant=(np.array([1]), np.array([2, 3])),
      lists=(np.array([1, 0]), np.array([3, 2])),
      excluded=(np.array([2]), np.array([], np.int32)))
  return Task(**fields | changes)


def test_what_fits_is_kept():
  assert task().lists[0].tolist() == [1, 0]
  plain = task(lists=None, excluded=None)
  assert plain.lists is None and plain.query_prompt is None


@pytest.mark.parametrize('changes, message', [
    (dict(relevant=(np.array([1]),)), '`relevant` has 1 entries for 2 queries'),
    (dict(lists=(np.array([1]),)), '`lists` has 1 entries'),
    (dict(relevant=(np.array([1]), np.array([], np.int32)), lists=None),
     r"query 1 \('i1'\): got no relevant candidate"),
    (dict(relevant=(np.array([1]), np.array([4])), lists=None),
     'query 1 .*the index 4 in `relevant`, wanted 0 to 3'),
    (dict(excluded=(np.array([0]), np.array([-1]))),
     'query 1 .*the index -1 in `excluded`'),
    (dict(lists=(np.array([0]), np.array([2, 3]))),
     'query 0 .*not in its list'),
    (dict(excluded=(np.array([1]), np.array([0]))), 'query 0 .*is excluded')])
def test_what_does_not_fit_is_named(changes, message):
  with pytest.raises(ValueError, match=message) as error:
    task(**changes)
  assert "task 'asked'" in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('text', ('bad emoji \ud83d', '\udc00', 'é\udfff'))
def test_a_text_of_half_a_character_is_refused_by_its_item(text):
  assert types.is_broken(text)
  with pytest.raises(ValueError, match=r'^caption 7: its text holds a lone su'):
    types.Item('caption 7', text=text)
  for fine in ('', 'a', 'é', '\U0001f600', '\u2028', '\x00'):
    assert types.Item('x', text=fine).text == fine


def test_what_is_left_out_goes_with_the_tasks_of_a_split():
  bad = types.LeftOut('f.json:3', 'no caption')
  split = types.Split('d', 'test', (types.Item('v'), types.Item('w')),
                      (types.Item('a', text='a'), types.Item('b', text='b')),
                      np.array([0, 1], np.int32), left_out=(bad,))
  for part in (split, split.without(['w'])):
    assert part.text_to_video().left_out == (bad,)
    assert part.video_to_text().left_out == part.left_out == (bad,)
