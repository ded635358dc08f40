"""What a run sees: images or frame features, opened once for all languages.

The models of a run differ in the language of their texts, not in what these
are about. So all its languages and splits read from one store, and the memory
that it may take is given once.
"""
import pathlib

from jaxret import run as run_lib
from jaxret.data import bigfile, media
from jaxret.methods import base


class Images:
  """Some of the images of a media.Frames, [i] -> uint8 [1, H, W, 3] (Visuals).

  store: what decodes and keeps the images of all who read from it. indices:
  int of each image here, its index there.
  """

  def __init__(self, store, indices):
    self._store, self._indices = store, tuple(indices)

  def __len__(self):
    return len(self._indices)

  def __getitem__(self, index):
    return self._store[self._indices[index]]

  def scan(self, indices, progress=True):
    """As media.Frames.scan, by the indices of these images."""
    indices = [int(i) for i in indices]
    reasons = self._store.scan([self._indices[i] for i in indices], progress)
    return {i: reasons[self._indices[i]] for i in indices
            if self._indices[i] in reasons}


def open_images(config, workdir, splits):
  """(splits, {the same keys: Images}), less what cannot be read.

  splits: {(language, name of the split): ParallelSplit}. What is left out is
  listed in skipped.jsonl. `data.cache_gb` bounds what is kept of all of them
  together. Errors: ValueError for a split of which nothing can be read.
  """
  index = {}  # of each image in the store; the same file has one
  for split in splits.values():
    for image in split.videos:
      index.setdefault(image, len(index))
  store = media.Frames(tuple(index), 1, config.model.image_px,
                       cache_bytes=cache_bytes(config),
                       alpha=base.alpha(config))
  def images(items):
    return Images(store, map(index.get, items))
  bad = {}
  for name in dict.fromkeys(name for _, name in splits):
    items = tuple(dict.fromkeys(
        image for key, split in splits.items() if key[1] == name
        for image in split.videos))
    bad[name] = run_lib.unreadable(
        [image.id for image in items], images(items),
        pathlib.Path(workdir) / 'media' / f'{name}.json')
  kept = {key: _without(workdir, split, bad[key[1]])
          for key, split in splits.items()}
  return kept, {key: images(split.videos) for key, split in kept.items()}


def _without(workdir, split, reasons):
  """`split` less its images in {id: why it cannot be read}."""
  skipped = [{'id': image.id, 'reason': reasons[image.id]}
             for image in split.videos if image.id in reasons]
  run_lib.leave_out(workdir, split.name, skipped, len(split.videos),
                    f'images of {split.dataset} {split.name}')
  return split.without(reasons)


def cache_bytes(config):
  """How many bytes of media the whole run may keep in memory."""
  return int(config.data.cache_gb * 2 ** 30)


def spare_bytes(config, splits):
  """What the images of `splits` leave of `cache_bytes`, for other readers."""
  if config.data.features:
    return cache_bytes(config)
  images = {image for split in splits.values() for image in split.videos}
  return max(0, cache_bytes(config) - (
      len(images) * config.model.image_px ** 2 * 3))


def open_features(config, splits, where):
  """{key: FrameFeatures} of the splits, from the files of one directory.

  where: {key: {video id: 'file, line n'}}, for messages.
  """
  features = bigfile.FeatureSet(config.data.features)
  return {key: features.frames_of(
      split.videos, where[key], config.data.max_frames)
          for key, split in splits.items()}
