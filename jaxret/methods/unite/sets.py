"""What embedders are trained and evaluated on, from a config."""
import pathlib
from typing import Any, NamedTuple

from jaxret.data.sets import benchmarks
from jaxret.data.sets import pair_files as pairs
from jaxret.data.sets import splits as sources
from jaxret.data.shapes import tasks as shapes_tasks

# Means over tasks of shapes world.
SHAPES_GROUPS = {
    'text and video': ('text_to_video', 'video_to_text'),
    'text and image': ('text_to_image', 'image_to_text'),
    'text alone': ('text_to_text',),
    'composed': ('image_text_to_image', 'video_text_to_video')}


class Evaluated(NamedTuple):
  """What is evaluated: tasks, and how videos are looked at for them.

  n_frames: of a video, 0 = as the config says. groups: as in
  benchmarks.Benchmark. split: a types.Split that may have been trained on.
  """
  name: str
  tasks: tuple
  recall_at: tuple[int, ...] = (1, 5, 10)
  groups: Any = None
  n_frames: int = 0
  split: Any = None


def training_pairs(config):
  """{source: pairs} of the config's data set."""
  if config.data.name == 'shapes':
    return shapes_tasks.training_pairs(sources.shapes_root(config.data))
  if config.data.name == 'pairs':
    if not config.data.pairs:
      raise ValueError('data.pairs names no file: give training files of '
                       "UNITE in data.root, as ('train.json',)")
    root = pathlib.Path(config.data.root).expanduser()
    return {name: pairs.PairFile(root / name, root)
            for name in config.data.pairs}
  return pairs.of_split(sources.load(config.data, 'train'))


def evaluated(config):
  """[Evaluated] that config.eval.benchmarks names, their files found.

  Their files lie in eval.root, of several each in a directory of its name.
  """
  names, found = config.eval.benchmarks, []
  for name in names:
    if name == 'shapes':
      tasks = shapes_tasks.tasks(
          sources.shapes_root(config.data), config.eval.split)
      found.append(Evaluated(name, tasks, groups=SHAPES_GROUPS))
    elif name == 'folder':
      split = sources.load(config.data, config.eval.split)
      found.append(Evaluated(
          name, (split.text_to_video(), split.video_to_text()),
          split=split))
    else:
      root = config.eval.root or config.data.root
      if len(names) > 1 and root:
        root = str(pathlib.Path(root) / name)
      tasks = benchmarks.load(name, root, config.eval.tasks or None)
      known = benchmarks.BENCHMARKS[name]
      found.append(Evaluated(name, tasks, known.recall_at, known.groups,
                             known.n_frames or 0))
  return found
