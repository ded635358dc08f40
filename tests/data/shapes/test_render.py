"""Drawings show what scenes say, in the same bytes at every call."""
import numpy as np
import pytest

from jaxret.data.shapes import render
from jaxret.data.shapes import world as shapes


def _thing(**changes):
  thing = {'colour': 'red', 'shape': 'circle', 'motion': 'stays',
           'size': 'big', 'x': 0.5, 'y': 0.5, 'pace': 1.0}
  return dict(thing, **changes)


def _scene(*things, relation=None, background='black', n_frames=24):
  return {'background': background, 'n_frames': n_frames,
          'objects': list(things), 'relation': relation}


def _centre(frame, colour):
  """Where the pixels of a colour are -> (x, y, how many)."""
  near = np.abs(frame.astype(int) - render.COLOURS[colour]).max(-1) < 60
  y, x = np.nonzero(near)
  return (x.mean(), y.mean(), len(x)) if len(x) else (None, None, 0)


def test_sixty_scenes_twice_are_the_same_bytes():
  scenes = shapes.sample_scenes('train', 60, 0)
  clips = [render.draw(scene, 64) for scene in scenes]
  first, again = ([render.encode_video(clip) for clip in clips]
                  for _ in range(2))
  differ = [i for i, (a, b) in enumerate(zip(first, again)) if a != b]
  assert not differ
  assert len(set(first)) == 60


def test_motions_are_as_they_are_called():
  def walk(motion):
    frames = render.draw(_scene(_thing(motion=motion)), 64)
    return [_centre(frame, 'red') for frame in frames]

  for motion, axis, sign in (('right', 0, 1), ('left', 0, -1),
                             ('down', 1, 1), ('up', 1, -1)):
    spots = walk(motion)
    steps = np.diff([spot[axis] for spot in spots]) * sign
    assert (steps > 0).all() and steps.sum() > 30
    assert np.ptp([spot[1 - axis] for spot in spots]) < 1
  areas = [spot[2] for spot in walk('grows')]
  assert areas[-1] > 5 * areas[0] and (np.diff(areas) >= 0).all()
  areas = [spot[2] for spot in walk('shrinks')]
  assert areas[0] > 5 * areas[-1] and (np.diff(areas) <= 0).all()
  assert len({spot for spot in walk('stays')}) == 1


def test_shapes_differ_and_fill_what_geometry_says():
  areas = {}
  for shape in render.SHAPES:
    frame = render.draw(_scene(_thing(shape=shape)), 256)[0]
    areas[shape] = _centre(frame, 'red')[2] / (render.RADIUS['big'] * 256) ** 2
  assert areas['circle'] == pytest.approx(np.pi, rel=0.03)
  assert areas['square'] == pytest.approx((2 * 0.86) ** 2, rel=0.03)
  assert areas['cross'] == pytest.approx(4 * (2 * 0.33 - 0.33**2), rel=0.03)
  # Regular triangle of inradius 0.55.
  assert areas['triangle'] == pytest.approx(3 * 3**0.5 * 0.55**2, rel=0.03)
  assert len({round(area, 2) for area in areas.values()}) == 4


def test_in_front_and_behind():
  things = (_thing(colour='yellow', motion='right', size='small'),
            _thing(colour='blue', shape='square'))
  middle = [render.draw(_scene(*things, relation=relation), 64)[12]
            for relation in ('in front of', 'behind')]
  assert _centre(middle[0], 'yellow')[2] > 80
  assert _centre(middle[1], 'yellow')[2] == 0
