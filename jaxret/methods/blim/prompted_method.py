"""BLiM's training of a model that continues prompts: caption and video.

VTG, the caption behind its medium in the model's own template, and TVG, the
clips behind a request with the caption, by a visual head, weights 1:1
(arXiv 2507.23284; spec §3). The tower stays as it is: what a video is to the
head must not move while it is trained.
"""
import functools
import importlib
import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxret import generator, loading, losses, models, optim, sharding
from jaxret.data import text as text_lib
from jaxret.data.qwen2_vl import reader as reader_lib
from jaxret.methods import base
from jaxret.methods.blim import prompted, prompted_videos, text_prior
from jaxret.models import decoder as decoder_lib
from jaxret.models import model_files, visual_head
from jaxret.models.qwen2_vl import vision as vision_lib

# Of the arrays that examples have, what the backbone reads of a prompt.
PROMPT = ('tokens', 'length', 'positions', 'patches', 'segments',
          'coordinates', 'visual_index')


class Backbone(NamedTuple):
  """What `model.pretrained` of a config names; nothing of it is loaded yet.

  sizes: as GeneratorConfig of its wing, LoRA's numbers in it. opened: the
  module `generator` of the wing.
  """
  sizes: Any
  reader: generator.Reader
  opened: Any


def backbone(config, tokenizer=None):
  """The Backbone of a checked config; ValueError for one of another kind.

  tokenizer: default: that of `model.pretrained`.
  """
  m, path = config.model, config.model.pretrained
  _, found = model_files.read_json(path, models.scoring_types())
  wing = models.generative_wings()[found['model_type']]
  opened = importlib.import_module(f'jaxret.models.{wing}.generator')
  sizes = opened.read_config(path, dtype=m.dtype, param_dtype=m.param_dtype,
                             remat=m.remat, **base.lora_fields(m.lora))
  if sizes.name != m.backbone:
    raise ValueError(f'model.pretrained {path} is a {sizes.name}: set '
                     f'model.backbone={sizes.name!r}')
  open_reader = loading.named(f'data.{wing}.continuations', 'open_reader')
  options = {'alpha': base.alpha(config)}
  if 'alpha' not in inspect.signature(open_reader).parameters:
    if options.pop('alpha') != 'white':
      raise ValueError(f'data.alpha has no effect on a {sizes.name}: leave it '
                       'out')
  return Backbone(sizes, open_reader(
      sizes, tokenizer or text_lib.load_tokenizer(path),
      resolution=prompted.RESOLUTIONS.get(wing),
      cache_bytes=int(config.data.cache_gb * 2 ** 30), **options), opened)


def method(config, found):
  """The Method of a config and its Backbone.

  Its `examples` takes (Split, Visuals of prompted_videos). Raises ValueError
  where the tower is trained, or the head is not.
  """
  lora = config.model.lora
  init_all = functools.partial(base.init, functools.partial(init, found),
                               lora.targets, lora.rank)
  _check_trained(init_all, config.model.trainable)
  return base.Method(
      name='blim', init=init_all,
      load=functools.partial(
          _load, init_all, found, config.model.pretrained),
      loss=functools.partial(
          loss, found.sizes, text_prior_share=text_prior.share(config.train)),
      examples=functools.partial(
          Examples, found.reader, config.eval.instruction or None,
          config.data.max_caption_tokens),
      trainable=tuple(config.model.trainable),
      train_flops=functools.partial(
          train_flops, found.sizes, config.model.clips, bool(lora.rank)),
      tokens=functools.partial(train_tokens, config.model.clips))


def init(found, key):
  """Random parameters: the backbone, and the visual head."""
  params = found.opened.init(found.sizes, key)['params']
  head = visual_head.init(jax.random.fold_in(key, 1), found.sizes.width)
  return {'params': {**params, 'visual_head': head}}


def _check_trained(init_all, trainable):
  """Raises ValueError for what `model.trainable` must have, or must not."""
  trained = sharding.flatten(optim.partition(
      jax.eval_shape(init_all, jax.random.key(0)), trainable)[0])
  tower = [path for path in trained if path.split('/')[1] == 'vision']
  if tower:
    raise ValueError(
        f'model.trainable and model.lora.targets train {tower[0]}, of the '
        'tower, whose features are what the visual head predicts: train the '
        'decoder alone')
  if 'params/visual_head/kernel' not in trained:
    raise ValueError('model.trainable leaves out params/visual_head/.*, which '
                     'starts at random: add it')


def _load(init_all, found, path, key, mesh):
  """Pretrained parameters on the mesh; head and LoRA factors at random."""
  params = found.opened.load(path, found.sizes, mesh)['params']
  places = sharding.shardings(mesh, jax.eval_shape(init_all, key))
  params['visual_head'] = jax.jit(
      lambda key: init_all(key)['params']['visual_head'],
      out_shardings=places['params']['visual_head'])(key)
  return base.add_lora(init_all, {'params': params}, key, mesh)


class Examples:
  """One example per caption of a split, all of one shape; see base.Examples.

  reader: of a Generator. instruction: as for prompted.inputs. max_tokens: of a
  caption, 0 = no limit. features: Visuals of the split's videos, [clips, 1, D].
  [i] -> the arrays PROMPT of the prompt with all labels but the last; start,
  the prompt's last token; int32 labels [L] and text_prefix [S], each with its
  length; the video's index.
  """

  def __init__(self, reader, instruction, max_tokens, split, features):
    self.ids = [text.id for text in split.texts]
    self.constants = {'video_vocabulary': prompted_videos.vocabulary(features)}
    self._reader, self._video = reader, split.text_video
    self._shown = [prompted.shown_of(video, instruction)
                   for video in split.videos]
    self._outlines = prompted.measured(reader, self._shown)
    self._labels = [prompted.labels_of(reader, text, max_tokens)
                    for text in split.texts]
    self._prefixes = prompted_videos.requests(reader, split.texts)[0]
    self._label_size = max(map(len, self._labels))
    self._prefix_size = max(map(len, self._prefixes))
    self._shape = reader_lib.common_shape({
        reader.bucket(_continued(self._outlines[video], labels))
        for video, labels in zip(self._video, self._labels)})

  def __len__(self):
    return len(self.ids)

  def __getitem__(self, index):
    video, labels = int(self._video[index]), self._labels[index]
    prefix, outline = self._prefixes[index], self._outlines[video]
    prompt = prompted.read_as(self._reader, self._shown[video], outline)
    arrays = self._reader.pad([_continued(prompt, labels)], self._shape)
    return {
        **{name: arrays[name][0] for name in PROMPT},
        'start': np.int32(len(prompt.tokens) - 1),
        'labels': _padded(labels, self._label_size),
        'label_length': np.int32(len(labels)),
        'text_prefix': _padded(prefix, self._prefix_size),
        'text_prefix_length': np.int32(len(prefix)),
        'video_index': np.int32(video)}


def _continued(prompt, labels):
  """The prompt with all labels but the last behind it."""
  after = prompt.positions[:, -1:] + 1 + np.arange(len(labels) - 1)
  return prompt._replace(
      tokens=np.concatenate([prompt.tokens, labels[:-1]]),
      positions=np.concatenate([prompt.positions, after], 1).astype(np.int32))


def _padded(tokens, length):
  return np.pad(tokens, (0, length - len(tokens))).astype(np.int32)


def loss(sizes, params, constants, batch, key, text_prior_share=0.0):
  """VTG + TVG, float32 [B], and their means; see base.Method.

  constants: video_vocabulary float32 [N, clips, D]. batch: as Examples give
  it, with a leading B. text_prior_share: of the captions that are read without
  their medium, see text_prior.keys.
  """
  module = sizes.module()
  def apply(method, *args, fold):
    rngs = None if key is None else {'dropout': jax.random.fold_in(key, fold)}
    return module.apply(params, *args, method=method, rngs=rngs)
  labels, length = batch['labels'], batch['label_length']
  rows = apply(visual_head.label_rows, batch, text_prior.keys(
      text_prior_share, key, batch['visual_index'] >= 0), labels.shape[1],
               fold=1)
  vtg = losses.token_mean(
      losses.token_log_likelihood(
          apply('vocabulary_terms', rows, fold=2), labels),
      decoder_lib.length_mask(length, labels.shape[1]))
  vocabulary = constants['video_vocabulary']
  rows = apply(visual_head.clip_rows, batch['text_prefix'],
               batch['text_prefix_length'],
               jnp.take(vocabulary, batch['video_index'], 0),
               fold=4)
  tvg = -jnp.mean(losses.clip_log_likelihood(
      visual_head.queries(params, rows), vocabulary, batch['video_index']), -1)
  return vtg + tvg, {'vtg_loss': jnp.mean(vtg), 'tvg_loss': jnp.mean(tvg)}


def train_flops(sizes, clips, frozen_base, batch):
  """Minimal model FLOPs of a step; padding does not count.

  The tower has no backward pass, a frozen base no weight gradients.
  """
  c, read = sizes.decoder, 0.0
  for length in (*batch['length'], *batch['text_prefix_length'] + clips - 1):
    read += (int(length) * decoder_lib.flops_per_token(c)
             + decoder_lib.attention_flops(c, int(length)))
  read += decoder_lib.head_flops(c) * int(batch['label_length'].sum())
  seen = sum(int(n) * vision_lib.flops_per_patch(sizes.vision, int(n))
             for segments in batch['segments']
             for n in np.bincount(segments.ravel())[1:])
  return seen + read * (2 if frozen_base else 3)


def train_tokens(clips, batch):
  """Tokens that the model reads in one batch, padding aside."""
  return int(batch['length'].sum() + batch['text_prefix_length'].sum()
             + len(batch['length']) * (clips - 1))
