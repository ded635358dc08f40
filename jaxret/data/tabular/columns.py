"""Which column of a table holds the media, which the captions, which the ids.

What the config says; else the types of the columns, what `datasets` wrote of
them, and the names that people give them. Where that leaves a choice the
message says between what.
"""
from typing import NamedTuple

from jaxret.data.tabular import tables

CAPTIONS = ('caption', 'captions', 'text', 'texts', 'sentence', 'sentences',
            'description', 'descriptions', 'raw', 'prompt')
FIELDS = 'image', 'video', 'caption', 'id', 'split'
_WORDS = {'video': ('video', 'clip', 'frame', 'movie', 'mp4'),
          'image': ('image', 'img', 'picture', 'photo', 'jpg', 'png')}
IMAGES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff', '.gif',
          '.avif', '.heic', '.ppm')
VIDEOS = ('.mp4', '.avi', '.mkv', '.webm', '.mov', '.flv', '.wmv', '.mpg',
          '.mpeg', '.m4v', '.ts', '.ogv', '.3gp')


class Columns(NamedTuple):
  """Names of columns; modality: 'image' or 'video', what the medium is.

  id, split: '' = there is none.
  """
  medium: str
  modality: str
  caption: str
  id: str
  split: str


def chosen(table, given):
  """The Columns of a tables.Table.

  given: the config's data.columns, '' = to be found.
  Errors: ValueError that lists the columns.
  """
  for field in FIELDS:
    name = given[field]
    if name and name not in table.names:
      raise _wrong(table, f'no column {name!r}, which data.columns.{field} '
                   'names', 'one of these')
  if given['image'] and given['video']:
    raise ValueError('data.columns names an image and a video; the media of '
                     'one run are of one column: leave one empty')
  medium, modality = _medium(table, given)
  return Columns(medium, modality, _caption(table, given, medium), given['id'],
                 given['split'] or ('split' if 'split' in table.names and
                                    table.kinds['split'] == 'text' else ''))


def _medium(table, given):
  for modality in ('image', 'video'):
    if given[modality]:
      return given[modality], modality
  found = [name for name in table.names
           if table.kinds[name] in ('medium', 'media')
           and table.hints.get(name) != 'audio' and 'audio' not in name.lower()]
  found = found or [name for name in table.names if _names_media(table, name)]
  if not found:
    raise _wrong(table, 'none with media', 'encoded images or videos, or names '
                 'of their files; say which by data.columns.image or '
                 'data.columns.video')
  if len(found) > 1:
    raise _wrong(table, f'the media {", ".join(found)}', 'one: say which by '
                 'data.columns.image or data.columns.video')
  return found[0], _modality(table, found[0])


def _names_media(table, name):
  """Whether a column of texts holds names of media files."""
  if table.kinds[name] not in ('text', 'texts'):
    return False
  first = first_text(table, name)
  return first is not None and first.lower().endswith(IMAGES + VIDEOS)


def first_text(table, name):
  """The first text of a column, the first of a list; None where none is."""
  for value in table.values(name):
    if isinstance(value, list):
      value = value[0] if value else None
    if isinstance(value, str) and value.strip():
      return value
  return None


def _modality(table, name):
  hint = table.hints.get(name)
  is_list = table.kinds[name] in ('media', 'texts')
  if hint == 'video' or hint == 'image' and not is_list:
    return hint
  words = [modality for modality, known in _WORDS.items()
           if any(word in name.lower() for word in known)]
  if len(words) == 1 and (words[0] == 'video' or not is_list):
    return words[0]
  first = _first_name(table, name)
  if first and first.lower().endswith(VIDEOS):
    return 'video'
  if first and first.lower().endswith(IMAGES) and not is_list:
    return 'image'
  raise _wrong(
      table, f'the media {name}, '
      + ('lists of images, perhaps the frames of videos' if is_list else
         'which are images or videos'),
      'to be told: name it as data.columns.video'
      + ('' if is_list else ' or data.columns.image'))


def _first_name(table, name):
  if table.kinds[name] in ('text', 'texts'):
    return first_text(table, name)
  for one in table.media(name):
    one = one[0] if isinstance(one, list) and one else one
    if isinstance(one, tables.Medium):
      return one.name
  return None


def _caption(table, given, medium):
  if given['caption']:
    return given['caption']
  texts = [name for name in table.names if name != medium
           and table.kinds[name] in ('text', 'texts')]
  known = [name for name in texts if name.lower() in CAPTIONS]
  if sum(name.lower() in CAPTIONS[:2] for name in known) == 1:  # as is usual
    known = [name for name in known if name.lower() in CAPTIONS[:2]]
  if len(known) == 1 or not known and len(texts) == 1:
    return (known or texts)[0]
  raise _wrong(table, f'the texts {", ".join(known or texts) or "none"}',
               'one that holds the captions: say which by '
               'data.columns.caption')


def _wrong(table, got, wanted):
  return ValueError(f'{table.path} has the columns {", ".join(table.names)}: '
                    f'got {got}, wanted {wanted}')
