"""All pairs of MSR-VTT's test set, dealt out evenly among processes.

Layouts and placement are the real ones on eight devices; the programs are
replaced by such that note what each device is given, and give zeros.
"""
import collections
import types

import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.scoring.likelihood import kernels, layouts
from jaxret.scoring.likelihood import score as likelihood

VIDEOS, TEXTS, CLIPS = 1000, 1000, 4
RNG = np.random.default_rng(0)
PROMPTS = likelihood.Prompts(
    np.array([5, 9, 9, 7]),
    tuple(np.arange(n) for n in RNG.integers(6, 40, TEXTS)),
    tuple(np.arange(n) for n in RNG.integers(20, 60, TEXTS)), 12, 9)
FEATURES = np.zeros((VIDEOS, CLIPS, 2, 8), np.float32)
MODEL = types.SimpleNamespace(cost=kernels.Cost(1.0, 1.0, 1.0, 1.0, 1.0))


class Devices:
  """What each of the devices is given: {quantity: {device: number}}."""

  def __init__(self):
    self.found = collections.defaultdict(collections.Counter)

  def place(self, *arrays):
    for array in arrays:
      for shard in array.addressable_shards:
        self.found['bytes'][shard.device] += shard.data.nbytes

  def tile(self, rows, columns, tokens):
    """Scores of a tile; tokens: of the suffixes of a row, padding included."""
    for shard in rows.addressable_shards:
      self.found['rows'][shard.device] += len(shard.data)
      self.found['suffix tokens'][shard.device] += len(shard.data) * tokens
    return np.zeros((len(rows), columns), np.float32)

  def prefixes(self, lengths):
    for shard in lengths.addressable_shards:
      self.found['prefix tokens'][shard.device] += int(
          np.asarray(shard.data).sum())

  def of_processes(self, name, count):
    """The numbers of `count` processes with as many devices each."""
    numbers = [self.found[name][device] for device in jax.devices()]
    return np.array(numbers).reshape(count, -1).sum(1)


@pytest.fixture
def devices(monkeypatch):
  found = Devices()
  def visual_prefix(model, params, tokens, features):
    found.place(features)
    return features, features
  def text_prefix(model, params, tokens, positions, lengths):
    found.place(tokens, positions, lengths)
    found.prefixes(lengths)
    return lengths, lengths
  def first_clip(model, params, last, vocabulary):
    return last
  def text_tile(model, nonzero, params, first, cache, start, inputs, labels,
                lengths):
    return found.tile(first, lengths.shape[1], inputs[0].shape[1])
  def clip_tile(model, params, first, cache, start, clips, index, vocabulary):
    return found.tile(first, index.shape[1], index.shape[1] * clips.shape[2])
  def clip_tokens(model, params, features):
    found.place(features)
    return sharding.to_host(features)[:, :, 0]
  for kernel in (visual_prefix, text_prefix, first_clip, text_tile, clip_tile,
                 clip_tokens):
    monkeypatch.setattr(kernels, kernel.__name__, kernel)
  return found


@pytest.mark.parametrize('options, shape', [
    (likelihood.Options(), {'data': 2, 'fsdp': 4}),
    (likelihood.Options(rows=64, columns=128), {'data': 8}),
    (likelihood.Options(invariant=True), {'data': 8})])
def test_work_of_two_to_eight_processes_is_even(
    devices, monkeypatch, options, shape):
  """Rows of tiles, tokens of suffixes and prefixes, bytes that are placed."""
  monkeypatch.setattr(
      likelihood.Options, 'program', lambda self, kernel: kernel)
  mesh = sharding.make_mesh(shape)
  common = MODEL, {}, mesh, PROMPTS
  by_video = np.full((VIDEOS, TEXTS), np.nan, np.float32)
  likelihood.score_texts(*common, FEATURES, options, by_video)
  by_text = np.full((TEXTS, VIDEOS), np.nan, np.float32)
  likelihood.score_videos(
      *common, FEATURES, FEATURES.mean(2), options, by_text)
  assert (by_video == 0).all() and (by_text == 0).all()  # all were scored
  assert set(devices.found) == {
      'bytes', 'rows', 'prefix tokens', 'suffix tokens'}
  for count in (2, 4, 8):
    for name in devices.found:
      shares = devices.of_processes(name, count)
      assert shares.max() <= 1.05 * shares.min(), (name, count, shares)


def test_real_rows_are_dealt_out_evenly():
  """Of a last strip that is filled up, some devices have none."""
  mesh = sharding.make_mesh({'data': 8})
  rows = np.zeros(8)
  for strip in layouts.captions(
      PROMPTS.labels, likelihood.Options(), mesh,
      layouts.visual_prefixes(PROMPTS, VIDEOS), None)[0]:
    real = np.arange(strip.size) < len(strip.rows)
    rows += real.reshape(8, -1).sum(1)
  assert rows.sum() == VIDEOS and rows.max() <= 1.05 * rows.min()
