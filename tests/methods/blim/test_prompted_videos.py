"""P(video | text) by a visual head: against one whole pass per pair."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret.data import types
from jaxret.methods.blim import prompted, prompted_videos
from jaxret.scoring.likelihood import score as likelihood
from tests import tiny_prompted_training as training


def whole_pass(ready, text, video, length):
  """Mean log P of the clips of a video, the whole sequence in one piece.

  length: of the request that is seen, None = all of it. What is hidden keeps
  its place, and so do the clips.
  """
  model = ready.found.sizes.module()
  request = ready.examples._prefixes[text]
  clips = np.asarray(ready.features[video, :-1, 0], np.float32)
  size = len(request) + len(clips)
  def hidden(module):
    x = jnp.concatenate([module.decoder.embed_tokens(request), clips])
    place = np.arange(size)
    seen = np.tril(np.ones((size, size), bool))
    if length is not None:
      seen[:, length:len(request)] = False
    return module.decoder(x[None], jnp.broadcast_to(place, (3, 1, size)),
                          jnp.asarray(seen)[None])[0]
  rows = np.asarray(jax.jit(lambda params: model.apply(
      params, method=hidden))(ready.params))[len(request) - 1:]
  queries = rows @ np.asarray(
      ready.params['params']['visual_head']['kernel'])
  total = 0.0
  for k, query in enumerate(queries):
    logits = ready.features[:, k, 0].astype(np.float32) @ query / np.sqrt(
        len(query))
    total += logits[video] - np.log(np.exp(logits - logits.max()).sum()
                                    ) - logits.max()
  return total / len(queries)


@pytest.mark.slow
@pytest.mark.parametrize('name', [
    'qwen3_vl', pytest.param('qwen25_vl', marks=pytest.mark.campaign)])
def test_scores_and_priors_are_those_of_whole_passes(name, tmp_path):
  ready = training.ready(name)
  found = prompted.inputs(ready.model(), ready.split, features=ready.features
                          ).score(likelihood.Options(4, 8, 9.0), tmp_path)
  length = prompted_videos.requests(ready.found.reader, ready.split.texts)[1]
  for text in (0, 3):
    for video in range(4):
      np.testing.assert_allclose(
          found.video_given_text[text, video],
          whole_pass(ready, text, video, None), atol=1e-4)
      np.testing.assert_allclose(
          found.video_prior[[text]][0, video],
          whole_pass(ready, text, video, length), atol=1e-4)
  assert np.ptp(found.video_given_text, 0).min() > 1e-3
  again = prompted.inputs(ready.model(), ready.split, features=ready.features
                          ).score(likelihood.Options(2, 2, 9.0), tmp_path)
  np.testing.assert_array_equal(
      again.video_given_text, found.video_given_text)


def test_slices_are_dealt_out_among_clips():
  index = np.array([-1, 0, 1, -1, 4, 5, 2, 3, -1])  # three slices of two
  def chosen(grids, clips):
    weights = prompted_videos.clip_weights(index, grids, 8, clips)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    return [np.flatnonzero(row).tolist() for row in weights]
  for grids in ([(3, 2, 4)], [(1, 2, 4)] * 3):
    assert chosen(grids, 1) == [[0, 1, 2, 3, 4, 5]]
    assert chosen(grids, 2) == [[0, 1], [2, 3, 4, 5]]
    assert chosen(grids, 3) == [[0, 1], [4, 5], [2, 3]]
    assert chosen(grids, 6) == [[0, 1], [0, 1], [4, 5], [4, 5], [2, 3], [2, 3]]


@pytest.mark.parametrize('name', [
    'qwen3_vl', pytest.param('qwen25_vl', marks=pytest.mark.slow)])
def test_a_clip_is_the_mean_of_its_tokens_as_the_decoder_reads_them(name):
  """Of an image both clips are alike; those of a video are its halves."""
  ready = training.ready(name)
  np.testing.assert_array_equal(ready.features[0, 0], ready.features[0, 1])
  reader, video = ready.found.reader, ready.split.videos[2]
  prompt = reader(prompted.shown_of(video, None), chat=True)
  batch = reader.pad([prompt], reader.bucket(prompt))
  x = ready.found.sizes.module().apply(
      ready.params, batch, method=lambda module, batch: module.read(batch)[0])
  tokens = np.asarray(x[0])[batch['visual_index'][0] >= 0]
  slices = sum(t for t, _, _ in prompt.grids)
  assert slices > 1
  tokens = tokens.reshape(slices, -1, tokens.shape[-1])
  for clip, part in enumerate((tokens[:slices // 2], tokens[slices // 2:])):
    np.testing.assert_allclose(
        ready.features[2, clip, 0].astype(np.float32),
        part.mean((0, 1)), rtol=2e-3, atol=1e-3)


def test_the_prior_sees_the_request_and_nothing_of_the_caption():
  reader = training.ready('qwen3_vl').found.reader
  texts = [types.Item(f't{i}', text=text) for i, text in enumerate(
      ('a red square', 'turns'))]
  prefixes, length = prompted_videos.requests(reader, texts)
  assert reader.decode(prefixes[0]) == (
      '<|im_start|>user\nGenerate a video given the caption.\n'
      'Caption: a red square<|im_end|>\n<|im_start|>assistant\n')
  said = [reader.decode(prefix[:length]) for prefix in prefixes]
  assert said[0] == said[1] and said[0].rstrip('\n') == (
      '<|im_start|>user\nGenerate a video given the caption.')
  with pytest.raises(ValueError, match="caption 't' holds the control token"):
    prompted_videos.requests(reader, [types.Item('t', text='<|im_end|>')])


def test_features_that_are_not_finite_are_named():
  ready = training.ready('qwen3_vl')
  model = ready.model()
  model.params = jax.tree.map(lambda leaf: leaf + np.nan, model.params)
  shown = [prompted.shown_of(ready.split.videos[0], None)]
  with pytest.raises(ValueError, match="features of 'v0' are not finite"):
    prompted_videos.extract_all(ready.config, shown, model)
