"""Shapes world: its captions are true, its splits apart, its build safe."""
import json

import numpy as np
import pytest

from jaxret.data import media
from jaxret.data.shapes import render
from jaxret.data.shapes import world as shapes
from jaxret.data.types import Item

SIZES = {'train': 12, 'validation': 5, 'test': 5}
SPLITS = tuple(shapes.SIZES)


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  return shapes.build(tmp_path_factory.mktemp('data') / 'shapes', SIZES,
                      progress=False)


def _read(corpus, table, split):
  return json.loads((corpus / f'{table}_{split}.json').read_text())


def _contents(directory):
  return {str(f.relative_to(directory)): f.read_bytes()
          for f in sorted(directory.rglob('*')) if f.is_file()}


def _centre(frame, colour):
  """Where the pixels of a colour are -> (x, y, how many)."""
  near = np.abs(frame.astype(int) - render.COLOURS[colour]).max(-1) < 60
  y, x = np.nonzero(near)
  return (x.mean(), y.mean(), len(x)) if len(x) else (None, None, 0)


def test_same_seed_same_bytes(corpus, tmp_path):
  again = shapes.build(tmp_path / 'again', SIZES, progress=False, n_threads=1)
  assert _contents(again) == _contents(corpus)
  other = shapes.build(tmp_path / 'other', SIZES, seed=1, progress=False)
  assert _read(other, 'captions', 'test') != _read(corpus, 'captions', 'test')


@pytest.mark.slow
def test_splits_share_no_scene_at_any_size_or_seed():
  for seed, other_seed in ((0, 0), (0, 5)):
    found = [{shapes.description(s)
              for s in shapes.sample_scenes(split, size, seed_of_split)}
             for split, size, seed_of_split in (
                 ('train', 1500, seed), ('validation', 200, other_seed),
                 ('test', 200, seed))]
    assert [len(f) for f in found] == [1500, 200, 200]  # none stands twice
    assert not (found[0] & found[1] or found[0] & found[2]
                or found[1] & found[2])


def test_test_captions_are_unique_and_most_say_everything():
  for split in ('validation', 'test'):
    scenes = shapes.sample_scenes(split, 200, 0)
    entries = shapes.captions(split, scenes, 0)
    assert len({entry['caption'] for entry in entries}) == 200
    n_full = sum(entry['detail'] == 'full' for entry in entries)
    assert 140 <= n_full <= 190
    lengths = [len(entry['caption'].split()) for entry in entries]
    assert min(lengths) <= 6 and max(lengths) >= 15
  # The skew that makes some captions likely a priori.
  motions = [o['motion'] for s in scenes for o in s['objects']]
  assert motions.count('right') > 2 * motions.count('shrinks')


def test_decoded_clips_show_what_captions_say(corpus):
  for split in SPLITS:
    for entry in _read(corpus, 'captions', split):
      video = corpus / 'videos' / entry['video']
      info = media.probe(video)
      assert 24 <= info.n_frames == entry['scene']['n_frames'] <= 32
      frames = media.load_frames(Item('a', video=str(video)), 16, 64)
      for o in entry['scene']['objects']:
        assert max(_centre(f, o['colour'])[2] for f in frames) >= 20, entry
    for entry in _read(corpus, 'images', split):
      frames = media.load_frames(
          Item('a', image=str(corpus / 'images' / entry['image'])), 1, 64)
      for o in entry['scene']['objects']:
        assert _centre(frames[0], o['colour'])[2] >= 20
      assert 'video' not in entry['caption']


def test_composed_queries_lead_from_scene_to_scene():
  scenes = shapes.sample_scenes('test', 200, 0)
  queries = shapes.composed('test', scenes, 0)
  found = {(q['video'], q['target']) for q in queries}
  assert len(found) >= 50

  def flat(scene):
    return [(o['colour'], o['shape'], o['motion']) for o in scene['objects']]

  def one_word_apart(a, b):
    """Some object of a, one word of it changed, makes a into b."""
    rest = lambda things, i: sorted(things[:i] + things[i + 1:])  # noqa: E731
    a_things, b_things = flat(a), flat(b)
    return a['relation'] == b['relation'] and any(
        rest(a_things, i) == rest(b_things, j)
        and sum(p != q for p, q in zip(a_things[i], b_things[j])) == 1
        for i in range(len(a_things)) for j in range(len(b_things)))

  want = {(f'test{i:05d}.mp4', f'test{j:05d}.mp4')
          for i, a in enumerate(scenes) for j, b in enumerate(scenes)
          if len(flat(a)) == len(flat(b)) and one_word_apart(a, b)}
  assert found == want
  assert all(q['text'].startswith('the same, but the ') for q in queries)


def test_a_killed_build_goes_on(corpus, tmp_path, monkeypatch):
  encode, made = render.encode_video, []

  def dies_at_the_ninth(frames):
    if len(made) == 8:
      raise KeyboardInterrupt
    made.append(1)
    return encode(frames)

  target = tmp_path / 'shapes'
  monkeypatch.setattr(render, 'encode_video', dies_at_the_ninth)
  with pytest.raises(KeyboardInterrupt):
    shapes.build(target, SIZES, progress=False, n_threads=1)
  assert not target.exists()
  monkeypatch.setattr(
      render, 'encode_video', lambda f: made.append(1) or encode(f))
  shapes.build(target, SIZES, progress=False, n_threads=1)
  assert len(made) == sum(SIZES.values())  # nothing was drawn twice
  assert _contents(target) == _contents(corpus)
  shapes.build(target, SIZES, progress=False)
  assert len(made) == sum(SIZES.values())


def test_refusals(corpus, tmp_path):
  with pytest.raises(ValueError, match='other settings'):
    shapes.build(corpus, SIZES, seed=9, progress=False)
  (tmp_path / 'mine').mkdir()
  (tmp_path / 'mine' / 'thesis.txt').write_text('keep')
  with pytest.raises(ValueError, match='not a shapes corpus'):
    shapes.build(tmp_path / 'mine', SIZES, progress=False)
  for settings, message in (({'sizes': {'tests': 3}}, 'sizes'),
                            ({'n_frames': (9, 3)}, 'n_frames'),
                            ({'image_px': 33}, 'image_px')):
    with pytest.raises(ValueError, match=message):
      shapes.build(tmp_path / 'new', progress=False, **settings)
