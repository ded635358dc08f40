"""What a search may be asked for in the query of a URL."""
import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from jaxret.indexing import hits
from jaxret.serving.refusals import Refused

MOST_HITS = 200
MOST_LETTERS = 4000  # of a text or a folder


class Parameter(NamedTuple):
  """One of them. schema: its type, as OpenAPI says it."""
  name: str
  schema: dict[str, Any]
  said: str


_TEXT = {'type': 'string', 'minLength': 1, 'maxLength': MOST_LETTERS}
_NUMBER = {'type': 'number'}
PARAMETERS = (
    Parameter('text', _TEXT, 'What to find, in words.'),
    Parameter('like', {'type': 'string'},
              'The id of a hit, to find what is like it.'),
    Parameter('k', {'type': 'integer', 'minimum': 1, 'maximum': MOST_HITS,
                    'default': 40}, 'How many hits.'),
    Parameter('kind', {'type': 'string', 'enum': list(hits.KINDS)},
              'Find these alone.'),
    Parameter('folder', _TEXT, 'Find what is below it.'),
    Parameter('min_duration_s', _NUMBER, 'Of a whole video, in seconds.'),
    Parameter('max_duration_s', _NUMBER, 'Of a whole video, in seconds.'),
    Parameter('after', _NUMBER,
              'Changed since then, in seconds since 1970.'),
    Parameter('before', _NUMBER,
              'Changed before that, in seconds since 1970.'),
    Parameter('rerank', {'type': 'boolean', 'default': False},
              'Look at the best again with the reranker that was opened.'),
    Parameter('likelihood', {'type': 'boolean', 'default': False},
              'Rank the best images and videos for a text, or texts for an '
              'image or a video, by the likelihood of the model that was '
              'opened.'))
FILTERS = ('kind', 'folder', 'min_duration_s', 'max_duration_s', 'after',
           'before')


class Asked(NamedTuple):
  """The same, read; see PARAMETERS."""
  text: str | None = None
  like: str | None = None
  k: int = 40
  kind: str | None = None
  folder: str | None = None
  min_duration_s: float | None = None
  max_duration_s: float | None = None
  after: float | None = None
  before: float | None = None
  rerank: bool = False
  likelihood: bool = False

  @property
  def look(self) -> str:
    """'rerank' or 'likelihood', where one is asked for."""
    return 'rerank' if self.rerank else 'likelihood' if self.likelihood else ''

  @property
  def filters(self) -> dict[str, Any]:
    """As Index.search takes them."""
    return {name: getattr(self, name) for name in FILTERS}


def read(pairs: Iterable[tuple[str, str]]) -> Asked:
  """The Asked of (name, value) pairs; Refused says what is wrong.

  An empty value is none: a form sends all of its fields.
  """
  known = {one.name: one for one in PARAMETERS}
  found: dict[str, Any] = {}
  for name, value in pairs:
    if name not in known:
      raise Refused(400, f'unknown parameter {name[:40]!r}; want '
                    f'{", ".join(known)}')
    if name in found:
      raise Refused(400, f'{name} is given twice; give it once')
    if value.strip():
      found[name] = _value(known[name], value)
  return Asked(**found)


def _value(parameter, value):
  """A value as its type has it."""
  name, schema, _ = parameter
  got = f'{name}: got {value[:40]!r}, want '
  if schema['type'] == 'boolean':
    if value not in ('true', 'false'):
      raise Refused(400, got + 'true or false')
    return value == 'true'
  if schema['type'] == 'integer':
    low, high = schema['minimum'], schema['maximum']
    if not re.fullmatch('[0-9]{1,9}', value) or not low <= int(value) <= high:
      raise Refused(400, f'{got}a whole number from {low} to {high}')
    return int(value)
  if schema['type'] == 'number':
    try:
      number = float(value)
    except ValueError:
      number = math.nan
    if not abs(number) < 9e9:  # in nanoseconds it fits into 64 bits
      raise Refused(400, got + 'a number')
    return number
  if 'enum' in schema and value not in schema['enum']:
    raise Refused(400, got + ' or '.join(schema['enum']))
  if len(value) > MOST_LETTERS:
    raise Refused(400, f'{name} has {len(value):,} letters; want '
                  f'{MOST_LETTERS:,} at most')
  return value
