"""P(video | text) by a visual head on a model that continues prompts.

As BLiM (arXiv 2507.23284): the model is asked for the video in its own
template, and predicts its clips, each against those of all videos. A clip is
what the model's own tower gives of a part of the video, see
models.visual_head. Departures from the authors: the clips of a video share all
its frames among them, however many there are, and stand in the sequence as the
features that they are, without a projector of their own.
"""
import functools
import pathlib
from concurrent import futures
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from jaxret import generator, processes, sharding
from jaxret.data import features as features_lib
from jaxret.data import types
from jaxret.data.videochat import prompts as videochat
from jaxret.methods import base
from jaxret.methods.blim import prompts as prompts_lib
from jaxret.models import decoder as decoder_lib
from jaxret.models import visual_head
from jaxret.scoring.likelihood import kernels
from jaxret.scoring.likelihood import score as likelihood


class Videos(NamedTuple):
  """What scoring V videos against T texts takes, besides a Generator.

  features: Visuals, [clips, 1, D] each, of the model's tower. vocabulary:
  float32 [V, clips, D]. prompts: a likelihood.Prompts, of which the labels of
  the texts and what stands before them are not read.
  """
  features: types.Visuals
  vocabulary: np.ndarray
  prompts: likelihood.Prompts


def videos(reader, texts, features):
  """The Videos of texts (Items) and Visuals; ValueError as `requests`."""
  prefixes, prior_length = requests(reader, texts)
  return Videos(features, vocabulary(features), likelihood.Prompts(
      np.zeros(0, np.int32), (), prefixes, prior_length, types.VISUAL))


def vocabulary(features):
  """Visuals [clips, 1, D] -> float32 [V, clips, D]."""
  return np.stack([np.asarray(features[i], np.float32)[:, 0]
                   for i in range(len(features))])


def requests(reader, texts):
  """(tokens before the first clip of each text, how many the prior sees).

  The prior sees what stands before the caption, as the authors' code has it:
  as many tokens as a request without a caption has in front of its end. Raises
  ValueError naming a text that the template cannot hold.
  """
  def asked(name, text):
    return reader.outline(types.Item(name, text), chat=True).tokens
  prefixes = tuple(asked(item.id, (
      f'{videochat.GENERATE}\nCaption: '
      f'{prompts_lib.checked(item.text, item.id)}')) for item in texts)
  bare = asked('the request for a video', videochat.GENERATE)
  length = int(np.flatnonzero(bare == reader.ends[0])[-1])
  for item, prefix in zip(texts, prefixes):
    if not np.array_equal(prefix[:length], prefixes[0][:length]):
      raise ValueError(f'{item.id}: its tokens merge with the request before '
                       'it; change its first character')
  return prefixes, length


@functools.lru_cache
def likelihood_model(config):
  """What scoring clips needs of a model; cached, so that `jit` compiles once.

  config: its sizes. Prompts with media are of its Continuation.
  """
  module, own = config.module(), generator.continuation(config)
  def text_prefix(params, *args):
    return module.apply(params, *args, method=visual_head.text_prefix)
  return kernels.LikelihoodModel(
      None, text_prefix, own.suffix, own.embed,
      lambda params, features: features.astype(np.float32).mean(-2),
      own.vocabulary_terms, visual_head.queries, None, cost(config.decoder))


def cost(sizes):
  """The kernels.Cost of a decoder whose clips have its own width."""
  return kernels.Cost(
      token=decoder_lib.flops_per_token(sizes),
      key=4 * sizes.layers * sizes.heads * sizes.head_width,
      logits=decoder_lib.head_flops(sizes),
      clip_query=2 * sizes.width ** 2, clip_logit=2 * sizes.width)


def clip_weights(visual_index, grids, n_tokens, clips):
  """Which visual tokens a clip is the mean of, float32 [clips, n_tokens].

  The temporal slices of a medium are dealt out in order, none is left out;
  where there are fewer than clips, some are in several.

  Args:
    visual_index: int [T], -1 for text, see data.qwen2_vl.layout. grids: (t, h,
      w) of the one medium, or of each of its slices.
  """
  slices = sum(int(t) for t, _, _ in grids)
  tokens = visual_index[visual_index >= 0].reshape(slices, -1)
  weights = np.zeros((clips, n_tokens), np.float32)
  for clip, row in enumerate(weights):
    first = clip * slices // clips
    chosen = tokens[first:max(first + 1, (clip + 1) * slices // clips)]
    row[chosen] = np.float32(1 / chosen.size)
  return weights


def store(config, workdir, split, shown, model):
  """FeatureStore of a split's videos, extracted unless it is there.

  It lies in features/<split> of the workdir; with several processes all of
  them must see it. shown: the Items of the prompts. model: a Generator.
  """
  writer = features_lib.FeatureWriter(
      pathlib.Path(workdir) / 'features' / split.name,
      [video.id for video in split.videos], {
          'tower': sharding.checksum(model.params['params']['vision']),
          'sizes': repr(model.config.vision), 'data': split.dataset,
          'clips': config.model.clips, 'media': repr(model.reader.resolution),
          **base.media_fingerprint(config)})
  if writer.pending():
    with futures.ThreadPoolExecutor() as pool:
      extract, batch_size = _extractor(config, shown, model, pool)
      writer.run(extract, batch_size, jax.process_index(),
                 jax.process_count(), progress=processes.first())
  processes.wait_for_all()  # for their parts
  processes.one_then_all(writer.finish)
  return features_lib.FeatureStore(writer.out_dir, split.videos)


def extract_all(config, shown, model):
  """The same in memory, float16 [V, clips, 1, D]; ValueError if not finite."""
  parts = []
  with futures.ThreadPoolExecutor() as pool:
    extract, batch_size = _extractor(config, shown, model, pool)
    for start in tqdm(range(0, len(shown), batch_size), 'extracting batches',
                      disable=not processes.first()):
      index = np.arange(start, min(start + batch_size, len(shown)))
      parts.append(extract(np.resize(index, batch_size))[:len(index)])
  with np.errstate(over='ignore'):
    found = np.concatenate(parts).astype(np.float16)
  for item, features in zip(shown, found):
    if not np.isfinite(features).all():
      raise ValueError(f'the features of {item.id!r} are not finite in '
                       'float16: look at the item and the weights')
  return found


def _extractor(config, shown, model, pool):
  """(indices [batch_size] -> features, batch_size), on devices of its own."""
  mesh = sharding.local_mesh()
  size = -(-config.data.extract_batch_size // mesh.size) * mesh.size
  params = jax.device_put(
      {'params': {'vision': sharding.to_host(
          model.params['params']['vision'])}}, sharding.replicated(mesh))
  reader = model.reader

  def extract(indices):
    prompts = list(pool.map(
        lambda i: reader(shown[int(i)], chat=True), indices))
    shape = tuple(map(max, zip(*map(reader.bucket, prompts))))
    batch = reader.pad(prompts, shape)
    n_tokens = batch['segments'][0].size // model.config.vision.merge ** 2
    weights = np.stack([
        clip_weights(index, prompt.grids, n_tokens, config.model.clips)
        for index, prompt in zip(batch['visual_index'], prompts)])
    seen = {name: batch[name]
            for name in ('patches', 'segments', 'coordinates')}
    return np.asarray(_clip_features(model.config, params, *jax.device_put(
        (seen, weights), sharding.batch_sharding(mesh))))
  return extract, size


@functools.partial(jax.jit, static_argnums=0)
def _clip_features(config, params, batch, weights):
  return config.module().apply(
      params, batch, weights, method=visual_head.clip_features)
