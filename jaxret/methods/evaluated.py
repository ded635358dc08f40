"""What embedders are evaluated on: the tasks of data sets and benchmarks."""
import pathlib
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxret.data import sets


class Evaluated(NamedTuple):
  """What is evaluated: tasks, and how videos are looked at for them.

  n_frames: of a video, 0 = as the config says. groups: {name: names of tasks}
  whose means are reported. split: a types.Split that may have been trained on.
  root: of its files, as the config has it.
  """
  name: str
  tasks: tuple
  recall_at: tuple[int, ...] = (1, 5, 10)
  groups: Any = None
  n_frames: int = 0
  split: Any = None
  root: str = ''

  @property
  def left_out(self):
    """What the files of its tasks hold and cannot be used."""
    return tuple(dict.fromkeys(
        one for task in self.tasks for one in task.left_out))


def evaluated(config):
  """[Evaluated] that config.eval.benchmarks names, their files found.

  Their files lie in eval.root (empty = data.root), of several each in a
  directory of its name; those of data.name itself in data.root, unless it is
  a published benchmark.
  """
  return [_evaluated(config, name) for name in config.eval.benchmarks]


def _evaluated(config, name):
  module = sets.get(name, 'tasks', 'tasks_of_split', 'load',
                    field='eval.benchmarks')
  root = config.eval.root or config.data.root
  if len(config.eval.benchmarks) > 1 and root:
    root = str(pathlib.Path(root) / name)
  groups = getattr(module, 'GROUPS', None)
  if hasattr(module, 'tasks'):
    return Evaluated(
        name, sets.tasks(name, root, config.eval.tasks or None),
        getattr(module, 'RECALL_AT', (1, 5, 10)), groups or {},
        getattr(module, 'N_FRAMES', 0), root=str(root))
  section = config.data
  if name != section.name:
    section = ConfigDict({**section.to_dict(), 'name': name, 'root': root})
  if hasattr(module, 'tasks_of_split'):
    return Evaluated(
        name, module.tasks_of_split(section, config.eval.split), groups=groups,
        root=section.root)
  split = sets.load(section, config.eval.split)
  return Evaluated(name, (split.text_to_video(), split.video_to_text()),
                   groups=groups, split=split, root=section.root)
