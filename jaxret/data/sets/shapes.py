"""Shapes world: rendered clips and stills; every method can be tried on it."""
import hashlib
import json
import os
import pathlib

from jaxret.data import entries
from jaxret.data.sets import caption_files, splits
from jaxret.data.shapes import mixed as shapes_mixed
from jaxret.data.shapes import parallel as shapes_parallel
from jaxret.data.shapes import questions as shapes_questions
from jaxret.data.shapes import tasks as shapes_tasks

SPLITS_APART = True
GROUPS = {
    'text and video': ('text_to_video', 'video_to_text'),
    'text and image': ('text_to_image', 'image_to_text'),
    'text alone': ('text_to_text',),
    'composed': ('image_text_to_image', 'video_text_to_video')}


def root_of(section):
  """Where the corpus of `section` lies; it is built if need be.

  section: `root` (empty = in the cache), sizes, seed, images and renderings,
  as world.build takes them, each optional.
  """
  from jaxret.data.shapes import world
  chosen, root = _chosen(section), _own(section)
  root = root or _in_cache('shapes', chosen)
  world.build(root, **chosen)
  return root


def _chosen(section):
  """What of a section says what the corpus is."""
  chosen = {name: getattr(section, name)
            for name in ('sizes', 'seed', 'images', 'renderings')
            if getattr(section, name, None) is not None}
  for name in {'sizes', 'images'} & set(chosen):
    chosen[name] = dict(chosen[name])
  return chosen


def _own(section):
  root = getattr(section, 'root', None)
  return pathlib.Path(root).expanduser() if root else None


def _in_cache(name, chosen):
  key = json.dumps(chosen, sort_keys=True).encode()
  return cache_dir() / f'{name}-{hashlib.sha256(key).hexdigest()[:12]}'


def cache_dir():
  """Where corpora are built: $JAXRET_CACHE, or ~/.cache/jaxret."""
  chosen = os.environ.get('JAXRET_CACHE')
  return pathlib.Path(chosen or '~/.cache/jaxret').expanduser()


def load(section, split):
  """Clips and their captions."""
  def read(split):
    root = root_of(section)
    return caption_files.rows(root, root / f'captions_{split}.json')
  return splits.open_split('shapes', read, section, split)


def training_pairs(section):
  """The sources of pairs of all modalities, under the names of the tasks."""
  return shapes_tasks.training_pairs(root_of(section), **_grains(section))


def tasks_of_split(section, split):
  """The seven tasks of clips, stills and captions, and those of data.grains."""
  return shapes_tasks.tasks(root_of(section), split, **_grains(section))


def _grains(section):
  # Configs of old work directories have no such field.
  grains = tuple(getattr(section, 'grains', None) or ())
  return {'grains': grains, 'seed': section.seed} if grains else {}


def training_sets(config, names):
  """One for each task over pools of stills and texts, and one of texts."""
  section = config.data
  return shapes_mixed.training_sets(
      root_of(section), section.seed, section.texts['train'])


def benchmark(config, root):
  """The five tasks of `config.eval.split` over stills and texts."""
  section, split = config.data, config.eval.split
  return shapes_mixed.benchmark(
      root_of(section), split, section.seed, section.texts[split])


def questions(section, split):
  """Questions about clips of their own, which are built if need be."""
  chosen, root = _chosen(section), _own(section)
  chosen = {name: chosen[name] for name in ('sizes', 'seed') if name in chosen}
  root = root or _in_cache('questions', chosen)
  shapes_questions.build(root, **chosen)
  return shapes_questions.load(root, split, entries.read_json(
      root / f'questions_{split}.json'))


def parallel(section, split, language):
  """Stills and their captions in two languages."""
  found = shapes_parallel.load(
      root_of(section), split, language, section.seed,
      section.captions_per_image)
  return found, {video.id: f'shapes {split}' for video in found.videos}
