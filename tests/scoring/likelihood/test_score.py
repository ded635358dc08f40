"""The scorer against one full pass per pair, with the authors' key masks."""
import logging

import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.scoring.likelihood import filling, kernels
from jaxret.scoring.likelihood import score as likelihood
from tests.tiny_likelihood import (
  ATOL,
  CONFIG,
  MODEL,
  TEXTS,
  VIDEOS,
  Scores,
  clip_values,
  one_device,
  token_values,
)

# All texts in one bucket; columns 0:3, 3:6 and 6:7 of three blocks of rows.
COARSE = likelihood.Options(rows=2, columns=3, max_padding=9.0)
# A bucket for each length.
FINE = COARSE._replace(max_padding=0.0)


def compute(params, prompts, features, options, mesh, model=MODEL):
  params = jax.device_put(params, sharding.shardings(mesh, params))
  common = model, params, mesh, prompts
  vocabulary = features.mean(2)
  shape = len(features), len(prompts.labels)
  text_given_video = np.full(shape, np.nan, np.float32)
  likelihood.score_texts(*common, features, options, text_given_video)
  video_given_text = np.full(shape[::-1], np.nan, np.float32)
  likelihood.score_videos(
      *common, features, vocabulary, options, video_given_text)
  by_length, index, _ = likelihood.video_priors(
      *common, features, vocabulary, options)
  return Scores(text_given_video, video_given_text,
                likelihood.text_priors(*common, options)[0], by_length[index])


@pytest.mark.parametrize('options, mesh_shape, shuffled', [
    (likelihood.Options(), {'data': 1}, False),
    pytest.param(FINE, {'data': 1}, True, marks=pytest.mark.slow),
    pytest.param(likelihood.Options(invariant=True), {'data': 8}, True,
                 marks=pytest.mark.slow),
    pytest.param(likelihood.Options(rows=1, columns=2, max_padding=9.0),
                 {'data': 8}, True, marks=pytest.mark.slow),
    pytest.param(
        likelihood.Options(rows=4, columns=1, max_padding=0.3),
        {'data': 2, 'fsdp': 2, 'tensor': 2}, False, marks=pytest.mark.slow),
])
def test_scores_are_those_of_full_passes(
    params, features, prompts, wanted, options, mesh_shape, shuffled):
  """Whatever the tiles, the padding, the order and the devices."""
  mesh = sharding.make_mesh(
      mesh_shape, jax.devices()[:int(np.prod(list(mesh_shape.values())))])
  videos, texts = np.arange(VIDEOS), np.arange(TEXTS)
  if shuffled:
    rng = np.random.default_rng(2)
    videos, texts = rng.permutation(videos), rng.permutation(texts)
  got = compute(params, prompts._replace(
      labels=tuple(prompts.labels[t] for t in texts),
      text_prefixes=tuple(prompts.text_prefixes[t] for t in texts)),
                features[videos], options, mesh)
  by_text = np.ix_(texts, videos)
  for name, place in (
      ('text_given_video', np.ix_(videos, texts)), ('text_prior', texts),
      ('video_given_text', by_text), ('video_prior', by_text)):
    np.testing.assert_allclose(
        getattr(got, name), getattr(wanted, name)[place], atol=ATOL,
        err_msg=name)


@pytest.mark.slow
def test_nothing_is_compiled_after_the_first_block_of_rows(
    params, features, prompts, caplog):
  common, options = (MODEL, params, one_device(), prompts), FINE
  vocabulary = features.mean(2)

  def run(n_videos):
    by_video = np.full((n_videos, TEXTS), np.nan, np.float32)
    likelihood.score_texts(*common, features[:n_videos], options, by_video)
    by_text = np.full((TEXTS, VIDEOS), np.nan, np.float32)
    likelihood.score_videos(*common, features, vocabulary, options, by_text)
    likelihood.text_priors(*common, options)
    likelihood.video_priors(*common, features, vocabulary, options)
  run(options.rows)
  with jax.log_compiles(), caplog.at_level(logging.WARNING):
    jax.jit(lambda x: x + 1)(1)
    assert any('Compiling' in record.getMessage() for record in caplog.records)
    caplog.clear()
    run(VIDEOS)
  assert not [record.getMessage() for record in caplog.records
              if 'Compiling' in record.getMessage()]


@pytest.fixture
def calls(monkeypatch):
  """{name: how often} of the scorer's compiled parts."""
  counts = {}
  def counted(name, function):
    def call(*args):
      counts[name] = counts.get(name, 0) + 1
      return function(*args)
    return call
  for name in ('visual_prefix', 'text_prefix', 'text_tile', 'clip_tile'):
    monkeypatch.setattr(
        kernels, name, counted(name, getattr(kernels, name)))
  return counts


def test_half_filled_matrices_are_finished_with_the_missing_tiles(
    params, features, prompts, wanted, calls):
  common, options = (MODEL, params, one_device(), prompts, features), COARSE
  by_video = wanted.text_given_video.astype(np.float32)
  by_video[2, 4] = by_video[3, 6] = np.nan
  by_video[0, 0] = 123  # kept, whatever it is
  likelihood.score_texts(*common, options, by_video)
  assert calls == {'visual_prefix': 1, 'text_tile': 2}
  assert by_video[0, 0] == 123
  by_video[0, 0] = wanted.text_given_video[0, 0]
  np.testing.assert_allclose(by_video, wanted.text_given_video, atol=ATOL)

  calls.clear()
  by_text = wanted.video_given_text.astype(np.float32)
  by_text[2:4] = np.nan
  likelihood.score_videos(*common, features.mean(2), options, by_text)
  assert calls == {'text_prefix': 1, 'clip_tile': 2}
  np.testing.assert_allclose(by_text, wanted.video_given_text, atol=ATOL)
  calls.clear()
  likelihood.score_texts(*common, options, by_video)
  likelihood.score_videos(*common, features.mean(2), options, by_text)
  assert not calls


def test_a_cascade_fills_only_the_pairs_that_are_kept(
    params, features, prompts, wanted, calls):
  keep = np.random.default_rng(3).random((VIDEOS, TEXTS)) < 0.3
  keep[2:4] = False  # a block of rows without any pair
  common, options = (MODEL, params, one_device(), prompts, features), COARSE
  by_video = np.full(keep.shape, np.nan, np.float32)
  likelihood.score_texts(*common, options, by_video, keep)
  np.testing.assert_array_equal(np.isnan(by_video), ~keep)
  np.testing.assert_allclose(
      by_video[keep], wanted.text_given_video[keep], atol=ATOL)
  assert calls['visual_prefix'] == 2  # of 4 rows that keep any
  by_text = np.full(keep.T.shape, np.nan, np.float32)
  likelihood.score_videos(
      *common, features.mean(2), options, by_text, keep.T)
  np.testing.assert_array_equal(np.isnan(by_text), ~keep.T)
  np.testing.assert_allclose(
      by_text[keep.T], wanted.video_given_text[keep.T], atol=ATOL)


def random_keep(seed):
  """Rows that keep nothing, one, some and all columns."""
  rng = np.random.default_rng(seed)
  keep = rng.random((VIDEOS, TEXTS)) < rng.random((VIDEOS, 1))
  keep[rng.integers(VIDEOS)], keep[rng.integers(VIDEOS)] = False, True
  return keep


def score_kept(params, prompts, features, options, mesh, keep, filled=None):
  """Both matrices of the kept pairs, from those that are filled already."""
  by_video, by_text = filled or (np.full(shape, np.nan, np.float32)
                                 for shape in (keep.shape, keep.T.shape))
  params = jax.device_put(params, sharding.shardings(mesh, params))
  common = MODEL, params, mesh, prompts, features
  likelihood.score_texts(*common, options, by_video, keep)
  likelihood.score_videos(
      *common, features.mean(2), options, by_text, keep.T)
  return by_video, by_text


@pytest.mark.slow
@pytest.mark.parametrize('seed, mesh_shape', [
    (0, {'data': 1}),
    *(pytest.param(seed, {'data': 1}, marks=pytest.mark.slow)
      for seed in range(1, 5)),
    pytest.param(5, {'data': 8}, marks=pytest.mark.slow),
    pytest.param(6, {'data': 2, 'fsdp': 2, 'tensor': 2},
                 marks=pytest.mark.slow)])
def test_packed_pairs_have_the_scores_of_full_passes(
    params, features, prompts, wanted, seed, mesh_shape):
  mesh = sharding.make_mesh(
      mesh_shape, jax.devices()[:int(np.prod(list(mesh_shape.values())))])
  keep = random_keep(seed)
  options = likelihood.Options(
      1 + seed % 3, 2 + seed, max_padding=(0.0, 0.1, 9.0)[seed % 3])
  by_video, by_text = score_kept(
      params, prompts, features, options, mesh, keep)
  np.testing.assert_array_equal(np.isnan(by_video), ~keep)
  np.testing.assert_array_equal(np.isnan(by_text), ~keep.T)
  np.testing.assert_allclose(
      by_video[keep], wanted.text_given_video[keep], atol=ATOL)
  np.testing.assert_allclose(
      by_text[keep.T], wanted.video_given_text[keep.T], atol=ATOL)


def test_a_cascade_that_is_resumed_ends_with_the_same_bits(
    params, features, prompts, calls):
  """Whichever cells were there: tiles are those of the kept pairs."""
  common = params, prompts, features, COARSE, one_device()
  keep, rng = random_keep(7), np.random.default_rng(7)
  whole = score_kept(*common, keep)
  first = dict(calls)
  half = tuple(np.where(rng.random(x.shape) < 0.05, np.nan, x).astype(
      np.float32) for x in whole)
  assert any((np.isnan(x) != np.isnan(y)).any() for x, y in zip(half, whole))
  calls.clear()
  for got, wanted in zip(score_kept(*common, keep, half), whole):
    np.testing.assert_array_equal(got, wanted)
  assert 0 < sum(calls.values()) < sum(first.values())
  calls.clear()
  score_kept(*common, keep, whole)
  assert not calls


def test_labels_that_are_certain_leave_the_released_denominator(
    params, features, prompts):
  """Their loss is exactly 0 in float32, which the authors do not count."""
  kernel = params['params']['decoder']['lm_head']['kernel'] * 1e3
  sharp = {'params': {**params['params'], 'decoder': {
      **params['params']['decoder'], 'lm_head': {'kernel': kernel}}}}
  # The caption's first token becomes the one that the model is sure of.
  options = [prompts._replace(
      labels=(np.array([token, *prompts.labels[0][1:]], np.int32),),
      text_prefixes=prompts.text_prefixes[:1]) for token in range(40)]
  values = [token_values(sharp, option, features, 0, 0, False)
            for option in options]
  best = int(np.argmax([value[0] for value in values]))
  certain = values[best] > -1e-8
  assert certain[0] and not certain.all()
  for released, count in ((True, (~certain).sum()), (False, len(certain))):
    matrix = np.full((1, 1), np.nan, np.float32)
    likelihood.score_texts(
        MODEL, sharp, one_device(), options[best], features[:1],
        likelihood.Options(nonzero_denominator=released), matrix)
    np.testing.assert_allclose(
        matrix[0, 0], values[best].sum() / count, rtol=1e-5)


def test_a_feature_that_is_not_a_number_is_named(params, features, prompts):
  broken = features.copy()
  broken[4, 1, 0, 2] = np.nan
  matrix = np.full((VIDEOS, TEXTS), np.nan, np.float32)
  with pytest.raises(ValueError, match='of row 4, column . is nan') as caught:
    likelihood.score_texts(
        MODEL, params, one_device(), prompts, broken, COARSE, matrix)
  assert '\n' not in str(caught.value)
  assert np.isfinite(matrix[:4]).all()  # what was finished stays


def test_one_clip_per_video(params, features, prompts):
  """Its only clip is predicted by the prefix: no suffix is run."""
  prompts = prompts._replace(labels=prompts.labels[:2],
                             text_prefixes=prompts.text_prefixes[:2])
  one_clip = features[:, :1]
  common = (MODEL, params, one_device(), prompts, one_clip, one_clip.mean(2),
            COARSE)
  by_text = np.full((2, VIDEOS), np.nan, np.float32)
  likelihood.score_videos(*common, by_text)
  prior, index, _ = likelihood.video_priors(*common)
  for text, video in np.ndindex(by_text.shape):
    for masked, got in ((False, by_text), (True, prior[index])):
      values = clip_values(params, prompts, features, video, text, masked)
      np.testing.assert_allclose(got[text, video], values[0], atol=ATOL)


def test_canonical_mode_takes_the_prior_of_the_median_length(
    params, features, prompts, wanted):
  options = likelihood.Options(mode='canonical')
  prior, index, _ = likelihood.video_priors(
      MODEL, params, one_device(), prompts, features, features.mean(2), options)
  assert prior.shape == (1, VIDEOS) and not index.any()
  lengths = [len(prefix) for prefix in prompts.text_prefixes]
  middle = lengths.index(int(np.median(lengths)))
  np.testing.assert_allclose(prior[0], wanted.video_prior[middle], atol=ATOL)
  assert np.abs(prior - wanted.video_prior).max() > 1e-3


def live_bytes_while_scoring(monkeypatch, params, prompts, features):
  """{matrix: the most bytes that were alive on the device at any tile}."""
  most, name = {}, None
  put = filling.Filling.put

  def measured(self, *args):
    put(self, *args)
    alive = sum(array.nbytes for array in jax.live_arrays())
    most[name] = max(most.get(name, 0), alive)
  monkeypatch.setattr(filling.Filling, 'put', measured)
  common = MODEL, params, one_device(), prompts, features
  shape = len(features), len(prompts.labels)
  before = sum(array.nbytes for array in jax.live_arrays())
  name = 'text_given_video'
  likelihood.score_texts(*common, COARSE, np.full(shape, np.nan, np.float32))
  name = 'video_given_text'
  likelihood.score_videos(*common, features.mean(2), COARSE,
                          np.full(shape[::-1], np.nan, np.float32))
  return {name: value - before for name, value in most.items()}


def test_memory_is_bounded_by_the_tile(monkeypatch, params, features, prompts):
  """Four times as many videos and texts; only the video vocabulary grows."""
  def repeated(times):
    return prompts._replace(
        labels=prompts.labels * times,
        text_prefixes=prompts.text_prefixes * times), np.tile(
            features, (times, 1, 1, 1))
  small = live_bytes_while_scoring(monkeypatch, params, *repeated(1))
  large = live_bytes_while_scoring(monkeypatch, params, *repeated(4))
  tile = 2 * 3 * 4 * 10  # float32 values and labels of one tile, at most
  assert large['text_given_video'] <= small['text_given_video'] + tile
  more = 3 * VIDEOS
  vocabulary = more * CONFIG.clips * CONFIG.visual_width * 4
  first = COARSE.rows * more * 4  # log P of clip 1 of every video
  assert large['video_given_text'] <= (
      small['video_given_text'] + vocabulary + first + tile)


@pytest.mark.parametrize('mesh_shape', [
    {'data': 1}, pytest.param({'data': 8}, marks=pytest.mark.slow)])
def test_what_comes_with_the_prefixes_is_that_of_full_passes(
    params, features, prompts, mesh_shape):
  mesh = sharding.make_mesh(
      mesh_shape, jax.devices()[:mesh_shape['data']])
  placed = jax.device_put(params, sharding.shardings(mesh, params))
  labels = np.full((VIDEOS, TEXTS), np.nan, np.float32)
  clips = np.full((TEXTS, VIDEOS), np.nan, np.float32)
  common = MODEL, placed, mesh, prompts
  tokens = likelihood.first_labels(*common, features, COARSE, labels)
  rows = max(VIDEOS, mesh_shape['data'])  # a row a device at least
  assert tokens == rows * len(prompts.visual_prefix)
  likelihood.first_clips(*common, features.mean(2), COARSE, clips)
  for video, text in np.ndindex(labels.shape):
    pair = params, prompts, features, video, text, False
    np.testing.assert_allclose(
        labels[video, text], token_values(*pair)[0], atol=ATOL)
    np.testing.assert_allclose(
        clips[text, video], clip_values(*pair)[0], atol=ATOL)


def test_first_labels_and_clips_are_finished_where_they_are_open(
    params, features, prompts, calls):
  common = MODEL, params, one_device(), prompts
  labels = np.full((VIDEOS, TEXTS), 5, np.float32)
  labels[3, 2] = np.nan
  likelihood.first_labels(*common, features, COARSE, labels)
  assert calls == {'visual_prefix': 1}
  assert (labels != 5).sum() == 1 and labels[3, 2] < 0
  clips = np.full((TEXTS, VIDEOS), 5, np.float32)
  clips[6, 0] = np.nan
  likelihood.first_clips(*common, features.mean(2), COARSE, clips)
  assert calls == {'visual_prefix': 1, 'text_prefix': 1}
  assert (clips != 5).sum() == 1 and clips[6, 0] < 0
