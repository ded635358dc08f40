"""Data sets of the Hugging Face hub by name: hf://owner/name[@revision][/folder].

The name is that of huggingface_hub's own file system, with or without
`datasets/` in front. Files lie where that library keeps them, and its settings
count: HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE. By hf+stream://owner/name
parquet files are not fetched but read by ranges, see containers.streamed.
"""
import functools
import os
import pathlib
import re
from typing import NamedTuple

from jaxret.data.containers import streamed

# One slash, too: pathlib makes one of two.
_NAME = re.compile(
    r'hf(?P<stream>\+stream)?:/{1,2}(?:datasets/)?(?P<repository>[\w.-]+/[\w.-]+)'
    r'(?:@(?P<revision>refs/(?:pr|convert)/[^/@]+|[^/@]+))?'
    r'(?:/(?P<folder>.*))?')
# Of the library's cache: a snapshot, named after its commit.
_SNAPSHOT = re.compile(
    r'datasets--(?P<owner>[\w.-]+?)--(?P<name>[\w.-]+)/snapshots/'
    r'(?P<commit>[0-9a-f]{40})(?:/|$)')
_BLOB = re.compile(r'[0-9a-f]{64}')  # of large files it is the SHA-256


class Origin(NamedTuple):
  """Where a snapshot is from."""
  repository: str
  revision: str


def is_name(root):
  """Whether a root names a repository of the hub, and no directory."""
  return str(root).startswith(('hf:', 'hf+stream:'))


def local(root, patterns=()):
  """The path of a root: of a hub's name its snapshot, which is fetched.

  patterns: of the repository's files that are fetched, () = all.
  Errors: ValueError of one line where the hub gives nothing.
  """
  if not is_name(root):
    return pathlib.Path(root).expanduser()
  found = _NAME.fullmatch(str(root))
  if found is None:
    raise ValueError(f'{root!r} names no data set of the hub: write '
                     'hf://owner/name, hf://owner/name@revision or '
                     'hf://owner/name/folder, hf+stream:// to read parquet '
                     'without fetching it')
  path = (_places if found['stream'] else _snapshot)(
      found['repository'], found['revision'], tuple(patterns))
  folder = found['folder'] or ''
  if os.pardir in folder.split('/'):
    raise ValueError(f'{root!r} leads out of the repository')
  return path / folder


@functools.lru_cache(maxsize=64)
def _snapshot(repository, revision, patterns, ignored=()):
  """Once in a process, so that all splits of a run are of one revision."""
  import huggingface_hub  # slow to import
  try:
    return pathlib.Path(huggingface_hub.snapshot_download(
        repository, repo_type='dataset', revision=revision,
        allow_patterns=list(patterns) or None,
        ignore_patterns=list(ignored) or None))
  except Exception as error:  # of many kinds: offline, no such data set, gated
    reason = f'{type(error).__name__}: {error}'.strip().splitlines()[0]
    at = f'@{revision}' if revision else ''
    raise ValueError(
        f'hf://{repository}{at}: the hub gave nothing and the cache has no '
        f'snapshot ({reason}): download it where there is a network, `hf '
        f'download --repo-type dataset {repository}`, log in where it asks '
        'for that, or name a directory') from None


@functools.lru_cache(maxsize=64)
def _places(repository, revision, patterns):
  """The same with places of the parquet files, the others fetched."""
  import huggingface_hub
  try:
    info = huggingface_hub.HfApi().dataset_info(
        repository, revision=revision, files_metadata=True)
  except Exception as error:  # of many kinds: offline, no such data set, gated
    reason = f'{type(error).__name__}: {error}'.strip().splitlines()[0]
    raise ValueError(
        f'hf+stream://{repository}: the hub did not say what it holds '
        f'({reason}), and nothing of it is in a cache: write hf:// for what is'
        ) from None
  chosen = huggingface_hub.utils.filter_repo_objects(
      info.siblings, allow_patterns=list(patterns) or None,
      key=lambda one: one.rfilename)
  made, others = streamed.place(repository, info.sha), []
  for one in chosen:
    if os.pardir in one.rfilename.split('/') or one.rfilename.startswith('/'):
      raise ValueError(f'hf+stream://{repository} holds {one.rfilename!r}, '
                       'which leads out of it')
    if one.rfilename.lower().endswith('.parquet'):
      streamed.make(made / one.rfilename, one.size,
                    one.lfs and one.lfs.sha256)
    else:
      others.append(one.rfilename)
  if others:
    fetched = _snapshot(repository, info.sha, patterns, ('*.parquet',))
    for name in others:
      path, target = made / name, os.path.realpath(fetched / name)
      path.parent.mkdir(parents=True, exist_ok=True)
      if os.path.realpath(path) != target:
        path.unlink(missing_ok=True)
        path.symlink_to(target)
  return made


def origin(path):
  """The Origin of a path in a snapshot of the library's cache, or None."""
  found = _SNAPSHOT.search(pathlib.Path(path).expanduser().as_posix())
  return found and Origin(f'{found["owner"]}/{found["name"]}', found['commit'])


def known_sha256(path):
  """The SHA-256 of a large file, which is the name of its blob, or None.

  Of a file that is read by ranges what the hub says.
  """
  if streamed.is_place(path):
    return streamed.known_sha256(path)
  name = pathlib.Path(os.path.realpath(path))
  if name.parent.name == 'blobs' and _BLOB.fullmatch(name.name):
    return name.name
  return None
