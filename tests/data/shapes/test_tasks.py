"""Embedding tasks of shapes world: true, complete, and apart from training."""
import json
import pathlib

import ml_collections
import numpy as np
import pytest

from jaxret.data import media, mixture, sets
from jaxret.data.sets import shapes as shapes_set
from jaxret.data.shapes import tasks as shapes_tasks
from jaxret.data.shapes import world as shapes

SIZES = {'train': 60, 'test': 40}
IMAGES = {'train': 30, 'test': 24}
NAMES = ['text_to_video', 'video_to_text', 'text_to_image', 'image_to_text',
         'text_to_text', 'image_text_to_image', 'video_text_to_video']


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  return shapes.build(tmp_path_factory.mktemp('data') / 'shapes', SIZES,
                      images=IMAGES, renderings=2, captions_per_clip=2,
                      progress=False)


def read(corpus, table, split):
  return json.loads((corpus / f'{table}_{split}.json').read_text())


def by_name(corpus, split='test'):
  return {task.name: task for task in shapes_tasks.tasks(corpus, split)}


def flat(scene):
  return sorted((o['colour'], o['shape'], o['motion'])
                for o in scene['objects'])


def one_word_apart(a, b):
  """Some object of a, one word of it changed, makes a into b."""
  first, second = flat(a), flat(b)
  return a['relation'] == b['relation'] and len(first) == len(second) and any(
      sorted(first[:i] + first[i + 1:]) == sorted(second[:j] + second[j + 1:])
      and sum(p != q for p, q in zip(first[i], second[j])) == 1
      for i in range(len(first)) for j in range(len(second)))


def test_seven_tasks_over_the_files(corpus):
  tasks = by_name(corpus)
  assert list(tasks) == NAMES
  sizes = {name: (len(t.queries), len(t.candidates))
           for name, t in tasks.items()}
  assert sizes['text_to_video'] == sizes['video_to_text'] == (40, 40)
  assert sizes['text_to_image'] == sizes['image_to_text'] == (24, 24)
  assert sizes['text_to_text'] == (40, 40)
  assert sizes['image_text_to_image'][1] == 24
  assert sizes['video_text_to_video'][1] == 40
  captions = {e['video']: e['caption']
              for e in read(corpus, 'captions', 'test')}
  task = tasks['video_to_text']
  for query, relevant in zip(task.queries, task.relevant):
    assert [task.candidates[c].text for c in relevant] == [captions[query.id]]
    assert pathlib.Path(query.video).is_file()
  for item in tasks['text_to_image'].candidates:
    assert media.load_frames(item, 1, 64).shape == (1, 64, 64, 3)


@pytest.mark.parametrize('kind, table', [('image', 'images'),
                                         ('video', 'captions')])
def test_composed_queries_lead_to_every_scene_one_word_away(
    corpus, kind, table):
  task = by_name(corpus)[f'{kind}_text_to_{kind}']
  scenes = {e[kind]: e['scene'] for e in read(corpus, table, 'test')}
  found = set()
  for query, relevant, excluded in zip(
      task.queries, task.relevant, task.excluded):
    reference = pathlib.Path(getattr(query, kind)).name
    assert [task.candidates[c].id for c in excluded] == [reference]
    assert query.text.startswith('the same, but the ')
    found |= {(reference, task.candidates[c].id) for c in relevant}
  assert found == {(a, b) for a in scenes for b in scenes
                   if one_word_apart(scenes[a], scenes[b])}
  asked = [(getattr(q, kind), q.text) for q in task.queries]
  assert len(set(asked)) == len(asked) > 3


def test_training_pairs_of_every_kind(corpus):
  found = shapes_tasks.training_pairs(corpus)
  assert sorted(found) == sorted(NAMES)
  assert len(found['text_to_video']) == 120  # two captions per clip
  assert len(found['text_to_image']) == 60  # two renderings per scene
  for name, of_source in found.items():
    query, _, candidate = name.partition('_to_')
    for pair in of_source:
      for words, item in ((query, pair.query), (candidate, pair.candidate)):
        assert [m for m in ('text', 'image', 'video')
                if getattr(item, m) is not None] == sorted(
                    words.split('_'), key=('text', 'image', 'video').index)
      assert pair.target_modality == candidate
  stills = {str(corpus / 'images' / e['image']): e['scene']
            for e in read(corpus, 'images', 'train')}
  for pair in found['image_text_to_image']:
    a, b = stills[pair.query.image], stills[pair.candidate.image]
    assert one_word_apart(a, b)
    assert ('-1.png' in pair.query.image) == ('-1.png' in pair.candidate.image)
  assert len(mixture.Mixture(found)) == sum(map(len, found.values()))


def test_training_and_test_share_no_scene(corpus):
  for table in ('images', 'captions'):
    train, test = ({shapes.description(e['scene'])
                    for e in read(corpus, table, split)} for split in SIZES)
    assert not train & test


def test_renderings_differ_in_looks_alone(corpus):
  entries = read(corpus, 'images', 'train')
  first, second = entries[:30], entries[30:]
  assert [shapes.description(e['scene']) for e in first] == [
      shapes.description(e['scene']) for e in second]
  assert all(a['scene'] != b['scene'] for a, b in zip(first, second))
  looks = [(corpus / 'images' / e['image']).read_bytes() for e in entries]
  assert len(set(looks)) == 60
  # The first ones are those of a corpus with one rendering.
  assert first == shapes.images('train', 30, 0)


def test_a_corpus_without_images_is_as_before(tmp_path):
  plain = shapes.build(tmp_path / 'plain', {'test': 20}, progress=False)
  assert 'images' not in json.loads((plain / 'manifest.json').read_text())
  assert len(read(plain, 'images', 'test')) == 2
  with pytest.raises(ValueError, match='no composed_images_test.json'):
    shapes_tasks.tasks(plain, 'test')
  for images, message in (({'train': 3}, 'images'), ({'test': 0}, 'images')):
    with pytest.raises(ValueError, match=message):
      shapes.build(tmp_path / 'new', {'test': 20}, images=images,
                   progress=False)


def test_the_config_names_the_images(tmp_path, monkeypatch):
  monkeypatch.setenv('JAXRET_CACHE', str(tmp_path))
  config = ml_collections.ConfigDict({
      'name': 'shapes', 'sizes': {'test': 12}, 'images': {'test': 12},
      'renderings': 1, 'seed': 0}).lock()
  root = shapes_set.root_of(config)
  assert root.parent == tmp_path
  assert len(read(root, 'images', 'test')) == 12
  split = sets.load(config, 'test')
  tasks = by_name(root)
  np.testing.assert_array_equal(
      [v.id for v in split.videos],
      [q.id for q in tasks['video_to_text'].queries])
