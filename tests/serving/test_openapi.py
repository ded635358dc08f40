"""The description: whole, and of what there is."""
import json
import re

import pytest

from jaxret.serving import openapi, parameters
from tests import tiny_serving


@pytest.fixture(scope='module')
def described():
  return openapi.description(1234)


def test_every_route_is_described(described):
  app = tiny_serving.part('app')
  routes = {(route.path, method.lower())
            for route in app._Handlers.__dict__['routes'](_Any())
            for method in route.methods}
  inner = {(path, verb) for path, verbs in described['paths'].items()
           for verb in verbs}
  assert inner <= routes
  left = {path for path, verb in routes - inner if verb != 'head'}
  assert left == {'/', '/static/{name}', '/openapi.json'}


class _Any:
  """Has any handler."""

  def __getattr__(self, name):
    async def handler(request):
      return None
    return handler


def test_what_it_refers_to_is_there(described):
  text = json.dumps(described)
  schemas = described['components']['schemas']
  assert set(re.findall('#/components/schemas/([A-Za-z]+)', text)) <= (
      schemas.keys())
  assert '1,234' in text
  for verb in ('get', 'post'):
    found = described['paths']['/api/search'][verb]['parameters']
    assert [one['name'] for one in found] == [
        one.name for one in parameters.PARAMETERS]
  for verbs in described['paths'].values():
    for said in verbs.values():
      assert said['summary'] and '200' in said['responses']
