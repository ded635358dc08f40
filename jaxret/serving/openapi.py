"""The API as OpenAPI 3.1 describes it."""
from typing import Any

import jaxret
from jaxret.serving import parameters

_ID = {'name': 'id', 'in': 'path', 'required': True, 'description': 'Of a hit.',
       'schema': {'type': 'string', 'pattern': '^[0-9a-f]+-[0-9a-f]{12}$'}}
_NONE = {'type': ['string', 'null']}
_NUMBER = {'type': ['number', 'null']}
_HIT = {'type': 'object', 'required': ['id', 'path', 'kind', 'gone'],
        'properties': {
            'id': {'type': 'string', 'description': 'For like, media, thumb.'},
            'path': {'type': 'string', 'description': 'Below the folder that '
                     'was indexed.'},
            'kind': {'type': 'string'}, 'gone': {
                'type': 'boolean', 'description': 'Its file is no more.'},
            'score': {'type': 'number', 'description': 'Cosine of the '
                      'embeddings.'}, 'rerank': _NUMBER, 'likelihood': _NUMBER,
            'start_s': _NUMBER, 'end_s': _NUMBER, 'duration_s': _NUMBER,
            'moment': {'type': 'string'}, 'caption': _NONE, 'text': _NONE,
            'size': {'type': 'integer'}, 'mtime_ns': {'type': 'integer'}}}


def description(most_bytes: int) -> dict[str, Any]:
  """The whole of it. most_bytes: of an upload."""
  asked = [{'name': one.name, 'in': 'query', 'description': one.said,
            'schema': one.schema} for one in parameters.PARAMETERS]
  found = {'200': _answer('The hits, the best one first.', _of('Found')),
           **_refused('400', '403', '421', '503')}
  upload = {'application/octet-stream': {
      'schema': {'type': 'string', 'format': 'binary'}}}
  return {
      'openapi': '3.1.0',
      'info': {'title': 'jaxret serve', 'version': jaxret.__version__},
      'paths': {
          '/api/search': {
              'get': {'summary': 'Search by a text, or by a hit.',
                      'parameters': asked, 'responses': found},
              'post': {'summary': 'Search by an image or a video; its bytes '
                       f'are the body, {most_bytes:,} at most.',
                       'parameters': asked,
                       'requestBody': {'required': True, 'content': upload},
                       'responses': found | _refused('408', '411', '413')}},
          '/api/index': {'get': {
              'summary': 'What is searched.', 'responses': {
                  '200': _answer('Of the index.', {'type': 'object'})}}},
          '/media/{id}': _of_file('The file of a hit, whole or a range of it; '
                                  'of a text its text.',
                                  ('200', '206', '304'), ('404', '416')),
          '/thumb/{id}': _of_file('A picture of a hit, a JPEG.',
                                  ('200', '304'), ('404',), size=True)},
      'components': {'schemas': {
          'Hit': _HIT,
          'Found': {'type': 'object', 'required': ['hits'], 'properties': {
              'hits': {'type': 'array', 'items': _of('Hit')},
              'seconds': {'type': 'number'}}},
          'Error': {'type': 'object', 'required': ['error'],
                    'properties': {'error': {'type': 'string'}}}}}}


def _of(name):
  return {'$ref': f'#/components/schemas/{name}'}


def _answer(said, schema):
  return {'description': said, 'content': {
      'application/json': {'schema': schema}}}


def _refused(*codes):
  return {code: _answer('Refused, and why.', _of('Error')) for code in codes}


def _of_file(said, good, bad, size=False):
  """GET and HEAD of what an id names."""
  asked = [_ID] + ([{'name': 'size', 'in': 'query', 'schema': {
      'type': 'integer', 'enum': [320, 1280], 'default': 320}}] if size else [])
  answers = {code: {'description': said} for code in good} | _refused(*bad)
  return {verb: {'summary': said, 'parameters': asked, 'responses': answers}
          for verb in ('get', 'head')}
