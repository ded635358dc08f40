"""Splits ready for use: their files checked, their frames or features read.

The extraction pass runs a video tower over a data set once and stores what it
gives; it is sharded over devices and processes and goes on where it stopped.
"""
import contextlib
import functools
import json
import pathlib
from concurrent import futures
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from jaxret import processes, run, sharding
from jaxret.data import features as features_lib
from jaxret.data import media, records, sets
from jaxret.methods import base
from jaxret.models import names, pretrained
from jaxret.models.videochat import files as videochat
from jaxret.models.videochat import vision as vision_lib
from jaxret.models.videochat.vision import vision_config


class Tower(NamedTuple):
  """A video tower: its VisionConfig, parameters, tokens that it leaves.

  name: what the stored features are fingerprinted with.
  """
  config: vision_lib.VisionConfig
  params: Any
  tokens_per_clip: int
  name: str


def has_stored_features(config):
  """Whether `data.features` is a finished data set, an imported one say."""
  return bool(config.data.features) and records.exists(config.data.features)


def feature_shape(config):
  """(clips, tokens, width) of the features that this run will see."""
  if has_stored_features(config):
    return features_lib.stored_shape(config.data.features)
  vision = config.vision
  if 'tower' in config.before:
    return vision.clips, vision.tokens_per_clip, vision.width
  sizes = _tower_sizes(config)
  return vision.clips, sizes['tokens_per_clip'], sizes['vision']['width']


def open_splits(config, workdir, names):
  """The named splits: as their files have them, what can be used, Visuals.

  Three dicts {name: ...}; of stored features the Visuals are these, else the
  frames. What is left out is listed in the workdir.
  """
  whole = {name: sets.load(config.data, name)
           for name in dict.fromkeys(names)}
  for name, split in whole.items():
    run.leave_out_entries(config, workdir, name, split.left_out)
  open_split = open_features if has_stored_features(config) else open_frames
  opened = {name: open_split(config, split, workdir)
            for name, split in whole.items()}
  return (whole, *({name: pair[side] for name, pair in opened.items()}
                   for side in (0, 1)))


def open_features(config, split, workdir):
  """(Split, FeatureStore) of a Split whose features were stored elsewhere.

  As the authors, training leaves out videos without features. A test video
  without them is an error, or zeros with `data.missing_features='zeros'`.
  """
  missing = features_lib.missing_ids(config.data.features, split.videos)
  if missing and split.name == 'train':
    run.list_skipped(workdir, split.name, [
        {'id': video, 'reason': 'no stored features'} for video in missing])
    if len(missing) == len(split.videos):
      raise ValueError(
          f'{config.data.features} has features of none of the '
          f'{len(missing)} videos of {split.dataset} train, whose first id '
          f'is {missing[0]!r}: it belongs to another data set')
    split = split.without(missing)
  return split, features_lib.FeatureStore(
      config.data.features, split.videos, config.data.missing_features)


def trained_tower(config, params):
  """The tower of a dual encoder that was trained here."""
  weights = params['params']['vision']
  return Tower(vision_config(config.vision, attention=_attention(config)),
               weights,
               config.vision.tokens_per_clip, sharding.checksum(weights))


def _attention(config):
  # Configs of old work directories have no such field.
  return config.model.get('attention', 'xla')


def pretrained_tower(config, mesh):
  """The tower of the checkpoint `model.pretrained`, read from its files."""
  directory, sizes = config.model.pretrained, _tower_sizes(config)
  tower = vision_lib.VisionConfig(
      **sizes['vision'], dtype=config.vision.dtype,
      param_dtype=config.vision.param_dtype, attention=_attention(config))
  pixels = jax.ShapeDtypeStruct(
      (1, tower.n_frames, tower.image_px, tower.image_px, 3), np.float32)
  abstract = {'vision': jax.eval_shape(
      vision_lib.VisionTower(tower).init, jax.random.key(0), pixels)['params']}
  places = sharding.shardings(mesh, {'params': abstract})['params']
  params, _ = pretrained.load(
      pretrained.open_checkpoint(directory), names.VIDEOCHAT_FLASH, abstract,
      places)
  return Tower(tower, params['vision'], sizes['tokens_per_clip'],
               sharding.checksum(params['vision']))


def _tower_sizes(config):
  """videochat.read_config of `model.pretrained`, which must have a tower."""
  directory = config.model.pretrained
  if not directory:
    raise ValueError(
        'no features and no vision tower: set data.features to stored '
        'features, or model.pretrained to a model that has a tower')
  sizes = videochat.read_config(directory)
  if sizes['vision'] is None:
    raise ValueError(f'{directory} has no vision tower (no mm_vision_tower in '
                     'its config.json): set data.features to stored features')
  return sizes


def open_frames(config, split, workdir):
  """(Split, Visuals of its frames) less the files that cannot be read.

  Those are listed in `skipped.jsonl` with their reasons. With
  `data.store_videos` the media are read from one array_record data set, which
  is made first; pods read few large files better than many small ones.
  """
  workdir = pathlib.Path(workdir)
  skipped, videos, n_files = [], split.videos, len(split.videos)
  if config.data.store_videos:
    stored = workdir / 'videos' / split.name
    skipped = processes.one_then_all(
        lambda: features_lib.write_videos(
            stored, split, progress=processes.first()))
    split = split.without([record['id'] for record in skipped])
    videos = features_lib.VideoStore(stored, split.videos)
  frames = frames_of(config, videos)
  bad = run.unreadable([video.id for video in split.videos], frames,
                       workdir / 'media' / f'{split.name}.json')
  skipped += [{'id': video, 'reason': reason} for video, reason in bad.items()]
  run.leave_out(workdir, split.name, skipped, n_files,
                f'files of {split.dataset} {split.name}')
  if not bad:
    return split, frames
  rows = [i for i, video in enumerate(split.videos) if video.id not in bad]
  return split.without(bad), _Chosen(frames, rows)


class _Chosen:
  """Visuals of some rows of others."""

  def __init__(self, visuals, rows):
    self._visuals, self._rows = visuals, rows

  def __len__(self):
    return len(self._rows)

  def __getitem__(self, index):
    return self._visuals[self._rows[index]]


def frames_of(config, videos):
  """media.Frames of `videos` as `config.vision` samples them."""
  vision = config.vision
  return media.Frames(
      videos, vision.clips * vision.n_frames, vision.image_px,
      config.data.limit_s or None, int(config.data.cache_gb * 2 ** 30),
      base.alpha(config))


def store_features(config, workdir, split, frames, tower):
  """FeatureStore of a split, extracted by `tower` unless it is stored.

  The directory is `data.features`/<split> or features/<split> in the workdir;
  with several processes all of them must see it.
  """
  directory = pathlib.Path(
      config.data.features or pathlib.Path(workdir) / 'features') / split.name
  ids = [video.id for video in split.videos]
  writer = features_lib.FeatureWriter(directory, ids, {
      'tower': tower.name, 'data': split.dataset,
      # Two fields that never had an effect are still said, as features that
      # were stored while there were such fields say them.
      'vision': {'pretrained': '', 'remat': False,
                 **json.loads(json.dumps(config.vision.to_dict()))},
      'limit_s': config.data.limit_s, **base.media_fingerprint(config)})
  if writer.pending():
    # Each process extracts whole parts on its own devices.
    with _extractor(config, frames, tower) as (extract, batch_size):
      writer.run(extract, batch_size, jax.process_index(),
                 jax.process_count(), progress=processes.first())
  processes.wait_for_all()  # for their parts
  processes.one_then_all(writer.finish)
  return features_lib.FeatureStore(directory, split.videos)


def extract_all(config, frames, tower):
  """Features of all frames in memory, float16 [V, clips, tokens, width]."""
  with _extractor(config, frames, tower) as (extract, batch_size):
    parts = []
    for start in tqdm(range(0, len(frames), batch_size), 'extracting batches',
                      disable=not processes.first()):
      index = np.arange(start, min(start + batch_size, len(frames)))
      parts.append(extract(np.resize(index, batch_size))[:len(index)])
  return np.concatenate(parts).astype(np.float16)


@contextlib.contextmanager
def _extractor(config, frames, tower):
  """Gives (indices [batch_size] -> features, batch_size)."""
  mesh = sharding.local_mesh()
  batch_size = config.data.extract_batch_size
  batch_size = -(-batch_size // mesh.size) * mesh.size
  params = jax.device_put(
      sharding.to_host(tower.params), sharding.replicated(mesh))
  with futures.ThreadPoolExecutor() as pool:
    yield (functools.partial(_extract, tower, params, mesh, frames, pool),
           batch_size)


def _extract(tower, params, mesh, frames, pool, indices):
  batch = np.stack(list(pool.map(lambda i: frames[int(i)], indices)))
  batch = jax.device_put(batch, sharding.batch_sharding(mesh))
  encoded = _encode(tower.config, tower.tokens_per_clip, params, batch)
  return np.asarray(encoded, np.float32)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _encode(config, tokens_per_clip, params, frames):
  return vision_lib.encode_clips(config, params, frames, tokens_per_clip)
