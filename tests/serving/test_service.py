"""Ids, refreshing, and what is said of a hit."""
import dataclasses

import pytest

from jaxret.indexing import hits
from jaxret.serving.refusals import Refused
from tests import tiny_index, tiny_prompted, tiny_serving

service = tiny_serving.part('service')


@pytest.fixture(scope='module')
def serves(tmp_path_factory):
  return service.Service(tiny_serving.made(tmp_path_factory.mktemp('service')))


def test_an_id_leads_to_its_row(serves):
  found = serves.index.search('a dog', 40)
  names = {service.id_of(hit) for hit in found}
  assert len(names) == len(found)
  for hit in found:
    again = serves.hit(service.id_of(hit))
    assert (again.row, again.path, again.start_s, again.file) == (
        hit.row, hit.path, hit.start_s, hit.file)
    assert hit.path not in service.id_of(hit)
  for name in ('', '0', '0-', 'x-000000000000', '0-000000000000',
               '-1-000000000000', f'{found[0].file:x}-{"0" * 12}\n',
               f'{10 ** 17:x}-000000000000'):
    with pytest.raises(Refused, match='no such row') as error:
      serves.hit(name)
    assert error.value.status == 404


def test_an_id_is_of_a_moment():
  one = hits.Hit('a', 'video', 1.0, 0.0, 2.0, file=3)
  other = dataclasses.replace(one, start_s=2.0)
  assert service.id_of(one) != service.id_of(other)
  assert service.id_of(one).startswith('3-')
  assert service.id_of(one) == service.id_of(
      dataclasses.replace(one, score=0.5, row=9))


def test_the_approximate_index_has_the_same_ids(tmp_path, monkeypatch):
  import jaxret
  from jaxret.indexing import store
  from jaxret.serving import parameters
  for number in range(12):
    tiny_index.picture(tmp_path / 'media' / f'{number}.png', number)
  jaxret.index(tmp_path / 'media', tiny_index.model(), tmp_path / 'index',
               ann=True, show_progress=False)
  exact = service.Service(jaxret.open_index(
      tmp_path / 'index', tiny_index.model()))
  asked = parameters.Asked('a dog', k=3)
  want = exact.search(asked)['hits']
  like = exact.search(parameters.Asked(like=want[0]['id'], k=3))['hits']
  monkeypatch.setattr(store, 'MOST_EXACT', 5)
  monkeypatch.setattr(store, 'is_current', lambda path: False)
  near = service.Service(jaxret.open_index(
      tmp_path / 'index', tiny_index.model()))
  assert near.about()['rows'] == 12 and near.index._version is None
  assert [hit['id'] for hit in near.search(asked)['hits']] == [
      hit['id'] for hit in want]
  assert near.hit(want[0]['id']).path == want[0]['path']
  assert [hit['id'] for hit in near.search(parameters.Asked(
      like=want[0]['id'], k=3))['hits']] == [hit['id'] for hit in like]


def test_what_is_said_of_a_hit(serves):
  text = hits.Hit('a.txt', 'text', float('nan'), text='x' * 9999, file=1)
  said = serves.shown(text)
  assert said['score'] is None and len(said['text']) == service.SHOWN_LETTERS
  assert not said['gone']
  assert serves.shown(hits.Hit('b.png', 'image', 0.5))['gone']
  assert serves.shown(hits.Hit('../secret.txt', 'image', 0.5))['gone']


def test_both_looks_at_once_or_one_that_is_not_open(serves):
  both = service.parameters.Asked('a dog', rerank=True, likelihood=True)
  for asked, said in (
      (both, 'each sort the hits; ask for one'),
      (both._replace(rerank=False), 'serve with --likelihood=MODEL')):
    with pytest.raises(Refused, match=said):
      serves.search(asked)
  assert not serves.about()['likelihood']


@pytest.mark.slow
def test_likelihood_ranks_what_it_can(serves):
  """A text what is seen, an image texts; both scores are shown."""
  model = tiny_prompted.qwen3_vl()
  looks = service.Service(serves.index, likelihood=model)
  assert looks.about()['likelihood']
  asked = service.parameters.Asked('a dog', k=3, kind='video', likelihood=True)
  found = looks.search(asked)['hits']
  hits = serves.index.search('a dog', 3, kind='video', likelihood=model)
  assert [(one['path'], one['start_s'], one['score'], one['likelihood'])
          for one in found] == [
              (hit.path, hit.start_s, hit.score, pytest.approx(
                  hit.likelihood, abs=1e-6)) for hit in hits]
  like = next(one for one in serves.search(service.parameters.Asked(
      'a dog', kind='image'))['hits'])
  asked = service.parameters.Asked(like=like['id'], likelihood=True)
  assert [one['kind'] for one in looks.search(asked)['hits']] == ['text']
  with pytest.raises(Refused, match='ranks text for such a query'):
    looks.search(asked._replace(kind='image'))


def test_it_looks_for_what_is_new_now_and_then(serves, monkeypatch):
  looks = []
  monkeypatch.setattr(serves.index, 'refresh', lambda: looks.append(1))
  serves._refresh_at = 0.0
  for _ in range(5):
    serves._refresh()
  assert len(looks) == 1
