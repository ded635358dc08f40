"""One module a data set: what there is to train on and to find.

`config.data.name` and the entries of `config.eval.benchmarks` are names of
modules here, or dotted names of modules from elsewhere on Python's path, as
'mypackage.myset'. A module offers what it can of these; one that offers none,
such as nrccr, is a layout of files that data sets have in common.

  load(section, split) -> types.Split
    texts and their videos or images, to train on and to search: BLiM, UNITE.
    section: the config's `data`, with `name` and `root` among others; split:
    'train', 'validation' or 'test'. See splits.open_split for shares that are
    held out.
  training_pairs(section) -> {source: sequence of pair_files.Pair}
    what UNITE trains on; without it, the pairs of `load`, both ways.
  tasks(root, names) -> [types.Task]
    a published benchmark of UNITE, whose files lie in `root`, a directory.
    names: of the tasks whose files must be there, None = all.
  tasks_of_split(section, split) -> [types.Task]
    the same of what `section` says; without it, those of `load`, both ways.
  training_sets(config, names) -> {source: mixed.TrainingSet}
    what MM-Embed trains on and mines in; names: only these, () = all.
  benchmark(config, root) -> mixed.Benchmark
    what MM-Embed is evaluated on; `config.eval` says what of it, root: the
    directory of its files, '' = not given.
  parallel(section, split, language) -> (nrccr.ParallelSplit, {id: where})
    captions in two languages: LECCR. where: 'file, line n' of each visual, for
    messages.
  questions(section, split) -> questions.Questions
    multiple-choice questions about images or videos: answers.

and beside them, if there is need:

  INSTRUCTION: what BLiM asks of its videos; default INSTRUCTION below.
  SPLITS_APART: True = no medium is in two splits, whoever wrote the files; then
    nobody looks for results on what was trained on.
  WANTED: which files `tasks` expects and where they come from, for messages.
  N_FRAMES: of a video, for `tasks`; default what the config says.
  RECALL_AT: depths that are reported of `tasks`; default 1, 5 and 10.
  GROUPS: {name: names of tasks} whose means are reported.
  file_names(section, split) -> {id: name of its file}
    of a ParallelSplit whose descriptions are named by these, not by the ids.

What is wrong with files is a ValueError of one line that names file and entry.
Where others of the same published file can be used, an entry that cannot is
left out: types.LeftOut of it goes into `left_out` of the Split, Task, Benchmark
or TrainingSet, and a run lists it, or refuses it where `data.strict` is set.
See entries.usable. No data set imports JAX.
"""
import difflib
import importlib
import os
import pkgutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxret import outside
from jaxret.data import closed, entries, types

if TYPE_CHECKING:
  from ml_collections import ConfigDict

INSTRUCTION = 'Describe this video briefly.'
SPLITS = ('train', 'validation', 'test')
# {function: what it gives}
OFFERS = {
    'load': 'texts with their videos or images',
    'training_pairs': "UNITE's training pairs",
    'tasks': "tasks of UNITE's benchmarks",
    'tasks_of_split': 'tasks of UNITE',
    'training_sets': "MM-Embed's training sets",
    'benchmark': 'pools of mixed modalities',
    'parallel': 'captions in two languages',
    'questions': 'multiple-choice questions',
}


def get(name: str, *needed: str, field: str = 'data.name') -> Any:
  """The module of a data set.

  needed: functions of OFFERS, of which it must have one at least. field: of
  the config, for messages.
  Errors: ValueError that says which data sets there are, or have them; later,
  from its functions, for a split that is closed, see data.closed.
  """
  module = _imported(name, field)
  if module is None:
    known = offering(*needed)
    near = difflib.get_close_matches(name, known, 1)
    raise ValueError(
        f'{field} {name!r} is unknown; '
        + (f'did you mean {near[0]!r}? ' if near else '')
        + f'choose from {", ".join(known)}, or give the dotted name of a '
        'module')
  if not _offers(module, needed):
    wanted = needed or tuple(OFFERS)
    raise ValueError(
        f'{field} {name!r} has no {" and no ".join(wanted)}'
        + (f' ({OFFERS[needed[0]]})' if needed else '')
        + f': choose from {", ".join(offering(*needed))}')
  return closed.guarded(module, name)


def offering(*functions: str) -> list[str]:
  """The data sets of jaxret that have one of these functions; () = any."""
  modules = [info.name for info in pkgutil.iter_modules(__path__)]
  return [name for name in modules if _offers(
      importlib.import_module(f'{__name__}.{name}'), functions)]


def load(section: 'ConfigDict', split: str) -> types.Split:
  """The types.Split of the data set that `section` names.

  section: with `name`, `root` and what the data set wants besides.
  Media files are not opened: one that is missing keeps its path here.
  Errors: ValueError for an unknown name, for what is wrong in the files, and
  for a split without entries.
  """
  if split not in SPLITS:
    raise ValueError(f'split {split!r} is unknown; choose from {SPLITS}')
  return get(section.name, 'load').load(section, split)


def tasks(name: str, root: str | os.PathLike,
          names: Sequence[str] | None = None) -> tuple[types.Task, ...]:
  """The tasks of a published benchmark whose files lie under `root`.

  name: of a data set that has `tasks`. names: of the tasks, to evaluate only
  some.
  Media files are not opened: one that is missing keeps its path here.
  Returns a tuple of types.Task.
  Errors: ValueError for a missing directory or file, with what is expected and
  where to get it; for an entry of another form, with its file and number.
  """
  module = get(name, 'tasks', field='eval.benchmarks')
  root = entries.root_of(
      root, name, getattr(module, 'WANTED', f'see {module.__name__}'))
  found = module.tasks(root, names)
  if names is not None:
    known = [task.name for task in found]
    unknown = [n for n in names if n not in known]
    if unknown:
      raise ValueError(f'{name} has no task {unknown[0]!r}; choose from '
                       f'{", ".join(known)}')
    found = [task for task in found if task.name in names]
  return tuple(found)


def instruction(name: str) -> str:
  """What BLiM asks of the videos of a data set."""
  return getattr(get(name), 'INSTRUCTION', INSTRUCTION)


def _offers(module, functions):
  return any(hasattr(module, function) for function in functions or OFFERS)


def _imported(name, field):
  """The module, None where jaxret has no data set of that name."""
  if '.' not in name:
    if name not in (info.name for info in pkgutil.iter_modules(__path__)):
      return None
    module = importlib.import_module(f'{__name__}.{name}')
    return module if _offers(module, ()) else None
  return outside.imported(name, name, field)
