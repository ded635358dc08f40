"""Questions of shapes world: right by the scene, skewed in training alone."""
import collections
import json

import numpy as np
import pytest

from jaxret.data import media
from jaxret.data.shapes import questions, render, world


def asked(split, size=400, seed=0):
  """[(scene, {kind: entry})] of a split."""
  found = []
  for i, scene in enumerate(questions.sample_scenes(split, size, seed)):
    entries = questions.ask(scene, np.random.default_rng([seed, i]),
                            split == 'train')
    found.append((scene, {entry['kind']: entry for entry in entries}))
  return found


@pytest.fixture(scope='module')
def splits():
  return {split: asked(split) for split in questions.SIZES}


def said(entry):
  return entry['choices'][entry['answer']]


def test_answers_are_those_of_the_scene(splits):
  """Read anew from question and scene, by words."""
  for scene, entries in splits['test']:
    things = {thing['shape']: thing for thing in scene['objects']}
    assert len(things) == len(scene['objects'])
    words = entries['colour']['question'].rstrip('?').split()
    assert said(entries['colour']) == things[words[-1]]['colour']
    words = entries['motion']['question'].split()
    assert said(entries['motion']) == questions.MOTIONS[
        things[words[3]]['motion']]
    assert said(entries['count']) == ('one', 'two', 'three')[len(things) - 1]
    words = entries['is_there']['question'].rstrip('?').split()
    there = things.get(words[-1], {}).get('colour') == words[-2]
    assert said(entries['is_there']) == ('yes' if there else 'no')
    if 'first' in entries:
      words = entries['first']['question'].rstrip('?').split()
      starts = {words[i]: things[words[i]].get('start', 0.0) for i in (-4, -1)}
      assert said(entries['first']) == f'the {min(starts, key=starts.get)}'
      assert len(set(starts.values())) == 2
    for entry in entries.values():
      assert len(set(entry['choices'])) == len(entry['choices'])


def shares(found, kind):
  counts = collections.Counter(
      said(entries[kind]) for _, entries in found if kind in entries)
  return np.array(sorted(counts.values())) / sum(counts.values())


def given_shape(found, kind):
  """The largest share of one answer, of the questions about circles."""
  counts = collections.Counter(
      said(entries[kind]) for _, entries in found
      if 'circle' in entries[kind]['question'])
  return max(counts.values()) / sum(counts.values())


def test_training_is_skewed_and_the_test_is_not(splits):
  for kind, fair in (('count', 1 / 3), ('is_there', 1 / 2)):
    assert shares(splits['train'], kind)[-1] > fair + 0.2
    assert abs(shares(splits['test'], kind)[-1] - fair) < 0.1
  for kind in ('colour', 'motion'):
    assert given_shape(splits['train'], kind) > 0.3
    assert given_shape(splits['test'], kind) < 0.25
  def in_order(found):
    order = [f'the {shape}' for shape in world.SHAPES]
    hits = [order.index(said(e['first'])) == min(
        map(order.index, e['first']['choices'])) for _, e in found
            if 'first' in e]
    return np.mean(hits)
  assert in_order(splits['train']) > 0.75
  assert abs(in_order(splits['test']) - 0.5) < 0.1


def test_no_scene_is_in_two_splits(splits):
  keys = [{world.description(scene) for scene, _ in found}
          for found in splits.values()]
  assert not keys[0] & keys[1] and not keys[0] & keys[2] and (
      not keys[1] & keys[2])


def test_what_comes_later_is_not_there_before():
  scene = {'background': 'black', 'n_frames': 20, 'relation': None, 'objects': [
      {'colour': 'red', 'shape': 'square', 'motion': 'stays', 'size': 'big',
       'x': 0.5, 'y': 0.5, 'pace': 1.0, 'start': 0.4}]}
  frames = render.draw(scene, 32)
  red = frames[:, 16, 16, 0] > 200
  assert not red[:8].any() and red[8:].all()


def test_built_once_and_read_back(tmp_path):
  sizes = {'train': 3, 'test': 2}
  root = questions.build(tmp_path / 'q', sizes, progress=False)
  entries = json.loads((root / 'questions_train.json').read_text())
  found = questions.load(root, 'train', entries)
  assert len(found.items) == 3
  assert media.probe(found.items[0].video).n_frames >= 12
  assert [q.text for q in found.questions] == [
      entry['question'] for entry in entries]
  assert all(found.items[q.item].id in q.id for q in found.questions)
  video = (root / 'videos' / 'train00000.mp4').read_bytes()
  assert questions.build(root, sizes, progress=False) == root
  again = questions.build(tmp_path / 'again', sizes, progress=False)
  assert (again / 'videos' / 'train00000.mp4').read_bytes() == video
  with pytest.raises(ValueError, match='of other settings'):
    questions.build(root, sizes, seed=1, progress=False)
  with pytest.raises(ValueError, match='want at least 1'):
    questions.build(tmp_path / 'none', {'train': 0})
