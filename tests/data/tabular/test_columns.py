"""Which column holds what: by type, by hint, by name; else the message asks."""
import pyarrow
import pytest

from jaxret.data.tabular import columns, rows
from jaxret.data.tabular import tables as tables_lib
from tests import tables


def chosen(tmp_path, given=None, **data):
  table = tables_lib.Table(tables.parquet(tmp_path / 'x.parquet', **data))
  return columns.chosen(table, {**rows.NO_COLUMNS, **(given or {})})


IMAGES = tables.images(['a.png'])


@pytest.mark.parametrize('data, wanted', [
    ({'image': IMAGES, 'caption': ['x'], 'filename': ['a.png']},
     ('image', 'image', 'caption')),
    ({'picture': IMAGES, 'alt': ['x'], 'n': [3]},
     ('picture', 'image', 'alt')),
    ({'mp4': (tables.MEDIUM, [tables.medium(b'x')]), 'id': ['v'],
      'text': ['x']}, ('mp4', 'video', 'text')),
    ({'media': (tables.MEDIUM, [tables.medium(b'x', 'a.webm')]),
      'caption': ['x'], 'text': ['y']}, ('media', 'video', 'caption')),
    ({'video_id': ['video1'], 'video': ['video1.mp4'], 'url': ['http://x/y'],
      'caption': [['x', 'y']]}, ('video', 'video', 'caption')),
    ({'file_name': ['a.JPG'], 'text': ['x']}, ('file_name', 'image', 'text')),
    ({'frames': (pyarrow.list_(tables.MEDIUM), [[tables.medium(b'x')]]),
      'caption': ['x']}, ('frames', 'video', 'caption')),
    ({'image': IMAGES, 'audio': (tables.MEDIUM, [tables.medium(b'x')]),
      'caption': ['x']}, ('image', 'image', 'caption'))])
def test_columns_are_found_by_type_and_name(tmp_path, data, wanted):
  assert chosen(tmp_path, **data)[:3] == wanted


@pytest.mark.parametrize('data, said', [
    ({'image': IMAGES, 'thumbnail': IMAGES, 'caption': ['x']},
     'the media image, thumbnail, wanted one'),
    ({'media': (tables.MEDIUM, [tables.medium(b'x')]), 'caption': ['x']},
     'which are images or videos'),
    ({'images': (pyarrow.list_(tables.MEDIUM), [[tables.medium(b'x')]]),
      'caption': ['x']}, 'perhaps the frames of videos'),
    ({'image': IMAGES, 'a': ['x'], 'b': ['y']}, 'the texts a, b'),
    ({'image': IMAGES}, 'the texts none'), ({'a': ['x']}, 'none with media')])
def test_what_leaves_a_choice_is_asked(tmp_path, data, said):
  with pytest.raises(ValueError, match=said) as error:
    chosen(tmp_path, **data)
  assert 'data.columns' in str(error.value)
  assert str(tmp_path / 'x.parquet') in str(error.value)


def test_the_config_decides(tmp_path):
  data = {'a': IMAGES, 'b': IMAGES, 'x': ['1'], 'y': ['2'], 'split': ['test']}
  found = chosen(tmp_path, {'image': 'b', 'caption': 'y', 'id': 'x'}, **data)
  assert found == ('b', 'image', 'y', 'x', 'split')
  assert chosen(tmp_path, {'video': 'a', 'caption': 'y'}, **data)[:2] == (
      'a', 'video')
  for given, said in (({'image': 'z'}, "no column 'z'"),
                      ({'image': 'a', 'video': 'b'}, 'leave one empty')):
    with pytest.raises(ValueError, match=said):
      chosen(tmp_path, given, **data)
