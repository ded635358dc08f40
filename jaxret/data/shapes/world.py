"""Shapes world: the embedded corpus of short clips of moving shapes.

Real H.264 files and their captions, made on the spot, deterministic by seed.
Splits share no scene: a scene's description decides which split it may be in,
whatever the seed and the sizes.
"""
import concurrent.futures
import fcntl
import hashlib
import json
import os
import pathlib
import zlib

import numpy as np

from jaxret import files, own_files
from jaxret.data.shapes import grammar, render

SIZES = {'train': 1500, 'validation': 200, 'test': 200}
VERSION = 8
COLOURS = tuple(render.COLOURS)
SHAPES = ('circle', 'square', 'triangle', 'cross')
MOTIONS = ('right', 'left', 'up', 'down', 'grows', 'stays',
           'shrinks')  # in falling frequency
_REMEDY = 'remove its directory, and the corpus is rendered again'
_SHARES = {'train': (0, 70), 'validation': (70, 85), 'test': (85, 100)}
_QUADRANTS = ((0.27, 0.27), (0.73, 0.73), (0.73, 0.27), (0.27, 0.73))
_FAMILY = 0.06  # of the scenes differ from another one in a single word
_MAX_DRAWS = 20_000


def description(scene):
  """What identifies a scene, as a string: who does what, and the relation.

  The order of objects, their sizes and places and the background do not
  count; two scenes of a corpus never share a description.
  """
  things = sorted([o['colour'], o['shape'], o['motion']]
                  for o in scene['objects'])
  return json.dumps([things, scene['relation']])


def belongs(scene, split):
  """Whether a scene may be in a split, whatever the seed and the sizes."""
  low, high = _SHARES[split]
  return low <= zlib.crc32(description(scene).encode()) % 100 < high


def _draw(rng, words, exponent):
  return words[rng.choice(len(words), p=grammar.zipf(len(words), exponent))]


def _random_object(rng, x, y):
  shape = _draw(rng, SHAPES, 0.7)
  thing = {
      'colour': _draw(rng, COLOURS, 0.25), 'shape': shape,
      'motion': _draw(rng, MOTIONS, 0.7),
      'size': 'small' if rng.random() < 0.45 else 'big',
      'x': round(x + rng.uniform(-0.04, 0.04), 3),
      'y': round(y + rng.uniform(-0.04, 0.04), 3)}
  rng.random()  # what else was drawn before: the scenes stay the same
  return dict(thing, pace=round(rng.uniform(0.8, 1), 3))


def random_scene(rng, n_frames=(24, 32)):
  """Draws a scene -> dict, plain enough for JSON; render.draw draws it.

  n_frames: the least and most frames of a clip.
  """
  n_objects = 2 if rng.random() < 0.94 else 1
  start = 2 * rng.integers(2)  # two objects stand on a diagonal
  corners = [_QUADRANTS[(start + i) % 4] for i in range(n_objects)]
  order = rng.permutation(n_objects)
  things = [_random_object(rng, *corners[i]) for i in order]
  relation = None
  if n_objects == 2 and rng.random() < 0.15:
    relation = 'in front of' if rng.random() < 0.5 else 'behind'
    centre = {'x': 0.5, 'y': 0.5}
    things[0].update(centre, size='small',
                     motion=_draw(rng, ('right', 'left', 'up', 'down'), 0.7))
    things[1].update(centre, size='big', motion='stays')
  return {'background': _draw(rng, tuple(render.BACKGROUNDS), 0.25),
          'n_frames': int(rng.integers(n_frames[0], n_frames[1] + 1)),
          'objects': things, 'relation': relation}


def _relative(rng, scene):
  """A scene that differs from `scene` in one word about one object."""
  things = [dict(thing) for thing in scene['objects']]
  thing = things[rng.integers(len(things))]
  if scene['relation']:
    which, motions = ('colour', 'shape'), ()
  else:
    which, motions = ('colour', 'shape', 'motion'), MOTIONS
  word = rng.choice(which).item()
  values = {'colour': COLOURS, 'shape': SHAPES, 'motion': motions}[word]
  thing[word] = rng.choice([v for v in values if v != thing[word]]).item()
  return dict(scene, objects=things)


def _is_clear(scene):
  """Whether a caption can tell the scene's objects apart."""
  things = scene['objects']
  if scene['relation'] and things[0]['colour'] == things[1]['colour']:
    return False
  return len({(o['colour'], o['shape']) for o in things}) == len(things)


def _frozen(scene):
  """The scene with its objects at rest, each in its own place."""
  things = [dict(thing, motion='stays', x=corner[0], y=corner[1])
            for thing, corner in zip(scene['objects'], _QUADRANTS)]
  return dict(scene, objects=things, relation=None)


def sample_scenes(split, size, seed, n_frames=(24, 32), still=False):
  """The scenes of a split, no two with the same description -> list.

  still: scenes in which nothing moves, for images.
  """
  rng = np.random.default_rng([seed, int(still), list(_SHARES).index(split)])
  scenes, seen, n_failed = [], set(), 0
  while len(scenes) < size:
    if scenes and rng.random() < _FAMILY:
      scene = _relative(rng, scenes[rng.integers(len(scenes))])
    else:
      scene = random_scene(rng, n_frames)
    if still:
      scene = _frozen(scene)
    key = description(scene)
    if _is_clear(scene) and belongs(scene, split) and key not in seen:
      seen.add(key)
      scenes.append(scene)
      n_failed = 0
    elif (n_failed := n_failed + 1) > _MAX_DRAWS:
      raise ValueError(f'shapes: no new scene for {split} after {len(scenes)} '
                       f'of {size}; ask for a smaller split')
  return scenes


def captions(split, scenes, seed, per_clip=1):
  """Captions of a split's scenes -> list of dicts as in captions_*.json.

  No English text stands twice in a validation or test split: there each text
  must have one right answer.
  """
  entries, seen = [], set()
  for i, scene in enumerate(scenes):
    for k in range(per_clip):
      rng = np.random.default_rng([seed, 7, list(_SHARES).index(split), i, k])
      for draw in range(100):
        said = grammar.plan(scene, rng, detail=None if draw < 20
                            else grammar.FULL)
        text = grammar.english(said, rng)
        if split == 'train' or text not in seen:
          break
      seen.add(text)
      entries.append({
          'video': f'{split}{i:05d}.mp4', 'caption': text,
          'captions': grammar.translate(said, rng),
          'detail': said['detail'], 'scene': scene})
  return entries


def paraphrases(split, scenes, seed):
  """Pairs of full captions of one scene, differently put -> list of dicts."""
  entries = []
  for i, scene in enumerate(scenes):
    rng = np.random.default_rng([seed, 8, list(_SHARES).index(split), i])
    first, second = None, None
    while first == second:
      first, second = (
          grammar.english(grammar.plan(scene, rng, grammar.FULL), rng)
          for _ in range(2))
    entries.append({'video': f'{split}{i:05d}.mp4', 'caption': first,
                    'paraphrase': second})
  return entries


def composed(split, scenes, seed, medium='video', names=None):
  """Queries 'this clip, but the circle is red' within a split -> dicts.

  Every ordered pair of clips whose descriptions differ in one word of one
  object: {'video': reference, 'text': the change, 'target': video}. medium,
  names: 'image' and the files of the scenes, where these are still images.
  """
  names = names or [f'{split}{i:05d}.mp4' for i in range(len(scenes))]
  rng = np.random.default_rng([seed, 9, list(_SHARES).index(split)])
  masked = {}
  for i, scene in enumerate(scenes):
    for k, thing in enumerate(scene['objects']):
      for word in ('colour', 'shape', 'motion'):
        things = [dict(o) for o in scene['objects']]
        things[k][word] = ''
        key = description(dict(scene, objects=things))
        masked.setdefault((word, key), []).append((i, thing))
  entries = []
  for group in masked.values():
    for i, old in group:
      for j, new in group:
        if i != j:
          entries.append({medium: names[i],
                          'text': grammar.english_change(old, new, rng),
                          'target': names[j]})
  return sorted(entries, key=lambda e: (e[medium], e['target'], e['text']))


def images(split, size, seed, renderings=1):
  """Still images: scenes of one frame, nothing moves -> list of dicts.

  renderings: images per scene, which differ in background, places and sizes
  and in how they are told; the first does not depend on their number.
  """
  entries = []
  scenes = sample_scenes(split, size, seed, (1, 1), True)
  for n in range(renderings):
    for i, scene in enumerate(scenes):
      stream = [seed, 10, list(_SHARES).index(split), i] + [n] * (n > 0)
      rng = np.random.default_rng(stream)
      scene = redrawn(rng, scene) if n else scene
      said = grammar.plan(scene, rng, motions=False)
      name = f'{split}{i:05d}-{n}.png' if n else f'{split}{i:05d}.png'
      entries.append({'image': name, 'caption': grammar.english(said, rng),
                      'captions': grammar.translate(said, rng),
                      'scene': scene})
  return entries


def composed_images(split, entries, seed):
  """As composed, of still images: each leads to images of its own rendering."""
  groups = {}
  for entry in entries:
    number = entry['image'].rpartition('-')[2] if '-' in entry['image'] else ''
    groups.setdefault(number, []).append(entry)
  found = []
  for group in groups.values():
    found += composed(split, [entry['scene'] for entry in group], seed,
                      'image', [entry['image'] for entry in group])
  return found


def redrawn(rng, scene):
  """The same description with another background, other places and sizes."""
  things = [dict(thing, size='small' if rng.random() < 0.45 else 'big',
                 x=round(thing['x'] + rng.uniform(-0.04, 0.04), 3),
                 y=round(thing['y'] + rng.uniform(-0.04, 0.04), 3))
            for thing in scene['objects']]
  return dict(scene, objects=things, background=_draw(
      rng, tuple(render.BACKGROUNDS), 0.25))


def build(out_dir, sizes=None, seed=0, n_frames=(24, 32), image_px=64,
          captions_per_clip=1, images=None, renderings=1, progress=True,
          n_threads=None):
  """Writes the corpus under `out_dir` unless it is there -> its path.

  sizes: clips per split, default SIZES. n_frames: least and most frames of a
  clip. captions_per_clip: of the train split; the others have one. images:
  still scenes per split, default a tenth as many as clips; given, the queries
  composed of them are written too. renderings: images of each still scene of
  the train split. Files: videos/*.mp4, images/*.png, captions_{split}.json,
  images_, composed_, composed_images_, paraphrases_ and manifest.json.
  A directory appears when it is complete; a killed build goes on where it
  stopped. A directory with something else in it is a ValueError.
  """
  settings = {
      'corpus': 'shapes', 'version': VERSION, 'sizes': dict(sizes or SIZES),
      'seed': seed, 'n_frames': list(n_frames), 'image_px': image_px,
      'captions_per_clip': captions_per_clip}
  if images is not None:  # without, a corpus is the one it was before
    settings |= {'images': dict(images), 'renderings': renderings}
  _check(settings)
  return made(out_dir, settings, lambda directory: _write_corpus(
      directory, settings, progress, n_threads))


def made(out_dir, settings, write):
  """`out_dir` with the corpus of these settings, written if need be.

  settings: JSON-able, what it depends on. write: (directory) -> None, which
  may have been begun there before. See `build`.
  """
  out_dir = pathlib.Path(out_dir)
  out_dir.parent.mkdir(parents=True, exist_ok=True)
  with open(out_dir.parent / f'.{out_dir.name}.lock', 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # one process builds, others wait
    if _is_built(out_dir, settings):
      return out_dir
    digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:8]
    partial = out_dir.parent / f'.{out_dir.name}.{digest}.partial'
    write(partial)
    write_json(partial / 'manifest.json', settings)
    if out_dir.exists():
      out_dir.rmdir()  # it is empty
    partial.rename(out_dir)
  return out_dir


def _check(settings):
  unknown = sorted(set(settings['sizes']) - set(_SHARES))
  if unknown or min(settings['sizes'].values(), default=0) < 1:
    raise ValueError(f'shapes: sizes {settings["sizes"]}, want at least 1 for '
                     f'any of {tuple(_SHARES)}')
  stills = settings.get('images', settings['sizes'])
  if (set(stills) != set(settings['sizes']) or min(stills.values()) < 1
      or settings.get('renderings', 1) < 1):
    raise ValueError(f'shapes: images {stills}, want at least 1 for each of '
                     f'{tuple(settings["sizes"])}, and renderings of 1 or more')
  least, most = settings['n_frames']
  if not 1 <= least <= most:
    raise ValueError(f'shapes: n_frames {least, most}, want 1 <= least <= '
                     'most')
  if settings['image_px'] < 16 or settings['image_px'] % 2:
    raise ValueError(f'shapes: image_px {settings["image_px"]}, want an even '
                     'number, at least 16')


def _is_built(out_dir, settings):
  manifest = out_dir / 'manifest.json'
  if manifest.is_file():
    if own_files.read_object(manifest, _REMEDY) == settings:
      return True
    raise ValueError(f'{out_dir} holds a corpus of other settings; '
                     'delete it or name another directory')
  if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
    raise ValueError(f'{out_dir} exists and is not a shapes corpus; name '
                     'another directory')
  return False


def _write_corpus(directory, settings, progress, n_threads):
  (directory / 'videos').mkdir(parents=True, exist_ok=True)
  (directory / 'images').mkdir(exist_ok=True)
  seed, jobs = settings['seed'], []
  for split, size in settings['sizes'].items():
    scenes = sample_scenes(split, size, seed, settings['n_frames'])
    per_clip = settings['captions_per_clip'] if split == 'train' else 1
    n_stills = settings.get('images', {}).get(split, max(size // 10, 1))
    renderings = settings.get('renderings', 1) if split == 'train' else 1
    stills = images(split, n_stills, seed, renderings)
    tables = {'captions': captions(split, scenes, seed, per_clip),
              'composed': composed(split, scenes, seed),
              'paraphrases': paraphrases(split, scenes, seed),
              'images': stills}
    if 'images' in settings:
      tables['composed_images'] = composed_images(split, stills, seed)
    for name, table in tables.items():
      write_json(directory / f'{name}_{split}.json', table)
    jobs += [(directory / 'videos' / f'{split}{i:05d}.mp4', scene)
             for i, scene in enumerate(scenes)]
    jobs += [(directory / 'images' / entry['image'], entry['scene'])
             for entry in stills]

  render_all(jobs, settings['image_px'], progress, n_threads)


def render_all(jobs, image_px, progress=True, n_threads=None):
  """Writes [(path of an mp4 or a png, scene)] as far as they are not there."""
  from tqdm import tqdm

  def write(job):
    file, scene = job
    if not file.exists():
      frames = render.draw(scene, image_px)
      still = file.suffix == '.png'
      files.write_atomically(file, render.encode_image(frames[0]) if still else
                             render.encode_video(frames), durable=False)

  with concurrent.futures.ThreadPoolExecutor(
      n_threads or os.cpu_count() or 1) as pool:
    for _ in tqdm(pool.map(write, jobs), 'rendering shapes', len(jobs),
                  unit='clip', disable=not progress):
      pass
  files.to_disk()


def write_json(file, value):
  """Writes JSON that can be read, at once."""
  text = json.dumps(value, indent=1, ensure_ascii=False)
  files.write_atomically(file, text.encode())
