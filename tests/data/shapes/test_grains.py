"""Captions of clips that tell less, or all there is to see."""
import json

import pytest

from jaxret.data.shapes import grains, grammar, tasks, world

SIZES = {'train': 40, 'test': 30}
WORDS = {
    'motion': {word for ways in grammar._ENGLISH_MOTION.values()
               for way in ways for word in way[0].split()},
    'size': {word for ways in grammar._ENGLISH_SIZE.values() for word in ways}}


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  """Its files of text alone: nothing here looks at a clip."""
  root = tmp_path_factory.mktemp('corpus')
  for split, size in SIZES.items():
    scenes = world.sample_scenes(split, size, 0)
    for name, table in (
        ('captions', world.captions(split, scenes, 0, 1)),
        ('composed', world.composed(split, scenes, 0)),
        ('paraphrases', world.paraphrases(split, scenes, 0)),
        ('images', stills := world.images(split, 24, 0)),
        ('composed_images', world.composed_images(split, stills, 0))):
      world.write_json(root / f'{name}_{split}.json', table)
  return root


def table(corpus, split):
  return json.loads((corpus / f'captions_{split}.json').read_text())


def test_coarse_ones_say_what_is_there_and_fine_ones_all(corpus):
  found = {grain: grains.captions(corpus, 'test', grain, 0)
           for grain in grains.GRAINS}
  for i, entry in enumerate(table(corpus, 'test')):
    scene, coarse, fine = entry['scene'], *(
        found[grain][i]['caption'] for grain in grains.GRAINS)
    assert found['fine'][i]['video'] == entry['video']
    assert not set(coarse.split()) & (WORDS['motion'] | WORDS['size'])
    assert scene['background'] not in coarse
    n = len(scene['objects'])
    assert fine.count(' in the ') == n and scene['background'] in fine
    assert sum(word in WORDS['size'] for word in fine.split()) == n
    assert len(set(fine.split()) & WORDS['motion']) > 0
    for thing in scene['objects']:
      assert any(colour in text for text in (coarse, fine) for colour in
                 grammar._ENGLISH_COLOUR.get(
                     thing['colour'], (thing['colour'],)))
    if scene['relation']:
      assert scene['relation'] in fine and 'in the centre' in fine
  fine = [entry['caption'] for entry in found['fine']]
  assert len(set(fine)) == len(fine)  # one right answer each
  mean = {grain: sum(len(entry['caption'].split()) for entry in own) / len(own)
          for grain, own in found.items()}
  assert mean['fine'] > 2 * mean['coarse']


def test_places_are_where_things_stand():
  thing = {'colour': 'red', 'shape': 'circle', 'motion': 'up', 'size': 'big'}
  for x, y, words in ((0.27, 0.27, 'upper left'), (0.73, 0.73, 'lower right'),
                      (0.73, 0.27, 'upper right'), (0.5, 0.5, 'centre')):
    assert grains._place({**thing, 'x': x, 'y': y}) == f'in the {words}'


def test_they_are_sources_and_tasks_of_their_own(corpus):
  plain, more = (tasks.training_pairs(corpus, grains=chosen)
                 for chosen in ((), grains.GRAINS))
  assert {name: len(pairs) for name, pairs in more.items()
          if name not in plain} == {
              f'{grain}_text_to_video': 40 for grain in grains.GRAINS} | {
                  f'video_to_{grain}_text': 40 for grain in grains.GRAINS}
  assert all(more[name] == pairs for name, pairs in plain.items())
  pair, caption = more['fine_text_to_video'][3], grains.captions(
      corpus, 'train', 'fine', 0)[3]
  assert (pair.query.text, pair.candidate.id) == (
      caption['caption'], caption['video'])
  found = {task.name: task for task in tasks.tasks(
      corpus, 'test', grains=('fine',))}
  assert list(found)[7:] == ['fine_text_to_video', 'video_to_fine_text']
  task = found['video_to_fine_text']
  assert [place.tolist() for place in task.relevant] == [[i] for i in range(30)]
  with pytest.raises(ValueError, match="data.grains names 'rough'"):
    tasks.tasks(corpus, 'test', grains=('rough',))
