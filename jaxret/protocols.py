"""What was evaluated, to the row: the protocol manifest of results.json.

Two numbers can be compared where their manifests are alike. Where a data set is
known from papers, a result on other media or texts than theirs says so.
"""
import functools
import hashlib
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from jaxret.data import hub
from jaxret.data.containers import streamed
from jaxret.data.tabular import recipes

# Larger files are hashed where the hub's cache knows the hash, else not.
MOST_BYTES = 256 << 20
# Of how a video is looked at, and of what splits are made of.
_FRAMES = {'n_frames', 'fps', 'min_frames', 'max_frames', 'clips', 'image_px',
           'limit_s', 'released'}
_SPLITS = ('validation_fraction', 'test_fraction', 'train_on_all', 'subsets',
           'splits')


class Paper(NamedTuple):
  """What papers say that they report on: media and texts, () = it varies.

  It is their word: the files of these sets were not counted here.
  """
  name: str
  media: tuple[int, ...]
  texts: tuple[int, ...]


# {data set: its Paper}; two numbers where papers differ.
PAPERS = {
    'msrvtt': Paper('MSR-VTT 1k-A', (1000,), (1000,)),
    'msrvtt_1ka': Paper('MSR-VTT 1k-A', (1000,), (1000,)),
    'msvd': Paper('MSVD', (670,), ()),
    'didemo': Paper('DiDeMo', (1003, 1004), (1003, 1004)),
    'activitynet': Paper('ActivityNet Captions, val_1', (4917,), (4917,)),
    'lsmdc': Paper('LSMDC', (1000,), (1000,)),
    'flickr30k': Paper('Flickr30K', (1000,), (5000,)),
    'mscoco': Paper('MS-COCO 5k', (5000,), (25010,)),
    'urban1k': Paper('Urban1k', (1000,), (1000,))}
# {repository of the hub, in small letters: (data set, what is known of it)}.
# Those of mteb are named by its package, with 879, 660, 993 and 4,884 rows.
REPOSITORIES = {
    'friedrichor/msr-vtt': ('msrvtt_1ka', ''),
    'friedrichor/msvd': ('msvd', ''),
    'friedrichor/didemo': ('didemo', ''),
    'friedrichor/activitynet_captions': (
        'activitynet', 'its videos are said to be encoded anew, which was not '
        'checked'),
    'mteb/msr-vtt': ('msrvtt_1ka', ''),
    'mteb/msvd': ('msvd', ''), 'mteb/didemo': ('didemo', ''),
    'mteb/activitynet_captions_val2': (
        'activitynet', 'it is of val_2, papers report on val_1')}


def add(results: dict[str, Any], config: ConfigDict, root: str,
        tasks: Sequence[Any], counts: tuple[int, int] | None = None,
        pools: Iterable[Sequence[Any]] = (), n_frames: int = 0) -> None:
  """Adds `protocol` to results, and a note where papers differ.

  Args:
    root: of the data set, as the config has it.
    tasks: types.Tasks, or mixed.Tasks with the pools that they search.
    counts: media and texts that were evaluated, of a set of captions.
    n_frames: of a video, where it is not what the config says.
  """
  results['protocol'] = made = manifest(
      results['dataset'], results['split'], config, root, tasks, pools,
      n_frames)
  notes = [results['note']] if 'note' in results else []
  notes += differences(made, counts)
  if notes:
    results['note'] = '; '.join(notes)


def counts_of(results: dict[str, Any]) -> tuple[int, int] | None:
  """Media and texts that results are of, None where it is no such task."""
  if 'videos' in results['sizes']:
    return results['sizes']['videos'], results['sizes']['texts']
  task = next((facts for name, facts in results.get('tasks', {}).items()
               if name.startswith('text_to_')), None)
  return task and (task['candidates'], task['queries'])


def manifest(dataset: str, split: str, config: ConfigDict, root: str,
             tasks: Sequence[Any], pools: Iterable[Sequence[Any]] = (),
             n_frames: int = 0) -> dict[str, Any]:
  """What was read, from where and how; see `add`.

  content_sha256: of all ids, texts and answers, wherever they lie. recipe:
  what is known of the repository, and counts where the config is silent.
  """
  files = list(dict.fromkeys(
      path for task in tasks for path in getattr(task, 'files', ())))
  place = _place(root, files)
  origin = hub.origin(place) if place is not None else None
  sections = config.to_dict()
  frames = {
      f'{section}.{name}': value
      for section in ('media', 'vision', 'model', 'data')
      for name, value in (sections.get(section) or {}).items()
      if name in _FRAMES and not isinstance(value, dict)}
  return {
      'dataset': dataset, 'split': split, 'source': root or 'made here',
      'repository': origin and origin.repository,
      'revision': origin and origin.revision,
      'rows': {task.name: {
          'queries': len(task.queries),
          'candidates': len(getattr(task, 'candidates', ())) or None,
          'relevant': sum(map(len, task.relevant))} for task in tasks},
      'content_sha256': content_sha256(tasks, pools),
      'files': [_file(place, path) for path in files],
      'frames': frames | ({'media.n_frames': n_frames} if n_frames else {}),
      'splits': {name: sections['data'][name] for name in _SPLITS
                 if name in sections['data']},
      'recipe': recipes.of(place) if place is not None else {}}


def differences(made: dict[str, Any], counts: tuple[int, int] | None
                ) -> list[str]:
  """What of a manifest is not the paper's, in words.

  counts: media and texts that were evaluated, None where it is no such task.
  """
  name, known = REPOSITORIES.get(
      (made['repository'] or '').lower(), (made['dataset'], ''))
  paper = PAPERS.get(name)
  if paper is None:
    return []
  said, counted = [known] if known else [], []
  for what, got, wanted in zip(('media', 'texts'), counts or (), (
      paper.media, paper.texts)):
    if wanted and got not in wanted:
      counted.append(f'{got:,} {what}, papers say '
                     f'{" or ".join(f"{one:,}" for one in wanted)}')
  if counted:
    said.append(f'{", ".join(counted)} (by their word, not counted here)')
  return [f'not the protocol of papers on {paper.name}: {", ".join(said)}'
          ] if said else []


def content_sha256(tasks: Sequence[Any],
                   pools: Iterable[Sequence[Any]] = ()) -> str:
  """Of the ids and texts of all items, and of what answers what."""
  digest = hashlib.sha256()
  for items in (*pools, *(side for task in tasks for side in (
      task.queries, getattr(task, 'candidates', ())))):
    for item in items:
      digest.update(repr((item.id, item.text)).encode(
          errors='surrogatepass'))
    digest.update(b'|')
  for task in tasks:
    for answers in task.relevant:
      answers = (sorted(answers.items()) if isinstance(answers, dict)
                 else np.asarray(answers).tolist())
      digest.update(repr(answers).encode())
  return digest.hexdigest()


def _place(root, files):
  """The directory that a root stands for, None where there is none."""
  if root and not hub.is_name(root):
    return pathlib.Path(root).expanduser()
  if root:
    return next((parent for file in files for parent in pathlib.Path(
        file).parents if parent.parent.name == 'snapshots'), hub.local(root))
  return None


def _file(place, path):
  state = os.stat(path)
  try:
    name = pathlib.Path(path).relative_to(place).as_posix()
  except (ValueError, TypeError):
    name = pathlib.Path(path).name
  return {'name': name if name != '.' else pathlib.Path(path).name,
          'bytes': state.st_size,
          'sha256': _sha256(path, state.st_size, state.st_mtime_ns)}


@functools.lru_cache(maxsize=256)
def _sha256(path, size, time_ns):
  known = hub.known_sha256(path)
  if known or size > MOST_BYTES or streamed.is_place(path):
    return known
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
