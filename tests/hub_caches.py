"""The cache of huggingface_hub as it lies on a disk, for tests."""
import hashlib
import os

from huggingface_hub import constants

from jaxret.data import hub

COMMIT = '0123456789abcdef0123456789abcdef01234567'
OLDER = 'f' * 40


def snapshot(cache, repository, files, commit=COMMIT, ref='main'):
  """Puts files {name: bytes} as a snapshot; returns its directory."""
  folder = cache / f'datasets--{repository.replace("/", "--")}'
  made = folder / 'snapshots' / commit
  for name, data in files.items():
    blob = folder / 'blobs' / hashlib.sha256(data).hexdigest()
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(data)
    path = made / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(blob, path.parent))
  (folder / 'refs').mkdir(exist_ok=True)
  (folder / 'refs' / ref).write_text(commit)
  return made


def model(cache, name, directory, commit=COMMIT):
  """Makes a directory the snapshot of a model, by a link."""
  folder = cache / f'models--{name.replace("/", "--")}'
  (folder / 'snapshots').mkdir(parents=True)
  (folder / 'refs').mkdir()
  (folder / 'snapshots' / commit).symlink_to(os.path.abspath(directory))
  (folder / 'refs' / 'main').write_text(commit)


def use(monkeypatch, cache, offline=True):
  """Lets the library see a cache, without a network."""
  monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(cache))
  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', offline)
  hub._snapshot.cache_clear()
