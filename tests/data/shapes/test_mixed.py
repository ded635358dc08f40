"""Shapes world as mixed pools: who answers whom."""
import json

import pytest

from jaxret.data.sets import mixed
from jaxret.data.shapes import mixed as shapes_mixed
from jaxret.data.shapes import world as shapes

SIZES = {'train': 1, 'validation': 1, 'test': 1}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  return shapes.build(
      tmp_path_factory.mktemp('shapes') / 'corpus', SIZES,
      images={'train': 20, 'validation': 2, 'test': 24}, renderings=2,
      progress=False)


def scenes(root, split):
  """{picture: description}, for other drawings too."""
  table = json.loads((root / f'images_{split}.json').read_text())
  found = {e['image']: shapes.description(e['scene']) for e in table}
  return found | {name.replace('.png', '-again.png'): key
                  for name, key in found.items()}


def test_answers_are_in_the_pools(root):
  found = shapes_mixed.benchmark(root, 'test', 0, 7)
  assert [len(pool) for pool in found.pools.values()] == [24, 24, 7, 24]
  ids = [item.id for pool in found.pools.values() for item in pool]
  assert len(ids) == len(set(ids))
  for task in found.tasks:
    own = {item.id: mixed.modality(item) for item in found.pools[task.pool]}
    assert set(own.values()) == {task.modality}
    for relevant, out in zip(task.relevant, task.excluded):
      assert own.keys() & relevant.keys() and not relevant.keys() & set(out)


def test_pictures_that_answer_show_the_same_shapes(root):
  found = {t.name: t for t in shapes_mixed.benchmark(root, 'test', 0, 7).tasks}
  of = scenes(root, 'test')
  for query, relevant in zip(found['image_to_image'].queries,
                             found['image_to_image'].relevant):
    assert {of[name] for name in relevant} == {of[query.id]}
  composed = found['image_text_to_image']
  for query, relevant, out in zip(
      composed.queries, composed.relevant, composed.excluded):
    reference, target = query.id.split('>')
    assert {of[name] for name in relevant} == {of[target]} != {of[reference]}
    assert out == (reference,)
    assert {name for name, key in of.items() if key == of[target]} == (
        set(relevant))


def test_another_drawing_is_made_once(root):
  again = sorted((root / 'images').glob('test*-again.png'))
  times = [path.stat().st_mtime_ns for path in again]
  shapes_mixed.benchmark(root, 'test', 0, 7)
  assert [path.stat().st_mtime_ns for path in again] == times
  for path in again:
    first = path.with_name(path.name.replace('-again', ''))
    assert path.read_bytes() != first.read_bytes()


def test_training_sets_share_one_pool(root):
  found = shapes_mixed.training_sets(root, 0, 9)
  first = found['text_to_image']
  assert set(found) == {*shapes_mixed.INSTRUCTIONS, 'texts'}
  for name in shapes_mixed.INSTRUCTIONS:
    assert found[name].pool is first.pool
    place = mixed.places(found[name].pool)
    for query in found[name].queries:
      kinds = {mixed.modality(first.pool[place[p]]) for p in query.positives}
      assert kinds == set(query.instructions)
  assert len(found['text_to_text'].queries) == shapes_mixed.FEW_TEXTS
  assert len(found['texts'].queries) == len(found['texts'].pool) == 9
  assert not mixed.places(found['texts'].pool).keys() & (
      mixed.places(first.pool).keys())
  pairs = mixed.Pairs(found['image_to_image'], 0)
  of = {e['image']: shapes.description(e['scene']) for e in json.loads(
      (root / 'images_train.json').read_text())}
  for i in range(len(pairs)):
    assert of[pairs[i].query.id] == of[pairs[i].candidate.id]
    assert pairs[i].query.id != pairs[i].candidate.id


def test_a_corpus_without_stills_is_refused(tmp_path):
  with pytest.raises(ValueError, match='build the shapes corpus with `images`'):
    shapes_mixed.benchmark(tmp_path, 'test', 0, 7)
