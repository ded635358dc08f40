"""Rehearses a model that continues prompts: config.task='plan'.

As methods.blim.plan, of P(text | image or video) by `model.backbone`: a batch
of prompts, and a tile of texts behind them; where it is trained, the training
step and a tile of clips as well. Of `model.pretrained` config.json alone is
read; what a prompt shows has the size that `config.plan` says.
"""
import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxret import (
  generator,
  input_speed,
  loading,
  models,
  rehearsal,
  sharding,
  tpu_slices,
)
from jaxret.data import types
from jaxret.methods.blim import (
  prompted,
  prompted_method,
  prompted_run,
  prompted_videos,
)
from jaxret.models import decoder as decoder_lib
from jaxret.models import model_files
from jaxret.models.qwen2_vl import model as model_lib
from jaxret.scoring.likelihood import abstract, kernels, prefixes


class Model(NamedTuple):
  """What is planned for.

  sizes: of the backbone. params: abstract, with an output head. continuation:
  what the kernels of scoring take. example: arrays [1, ...] of a prompt.
  method: the base.Method that trains it, None where it is scored as it is.
  training: (a training example, its constants).
  """
  config: Any
  sizes: Any
  params: dict
  continuation: kernels.Continuation
  example: dict
  method: Any = None
  training: tuple = ()


def plan(config, workdir):
  """As methods.blim.plan.plan; ValueError for what cannot be run so."""
  model = build(config)
  parts = tpu_slices.open_all(config.plan)
  job = count_job(model)
  works = [rehearse_training, rehearse, rehearse_clips]
  slices = rehearsal.slices_of(
      model, parts, works if model.method else [rehearse], job,
      count_inputs(model))
  return rehearsal.publish(config, job, slices, workdir)


def build(config):
  """The Model of a config; ValueError for what is not run as it is."""
  whole = config.copy_and_resolve_references().unlock()
  whole.task = ('evaluate' if config.eval.zero_shot  # what is rehearsed
                else 'train_and_evaluate')
  prompted_run.check(whole)
  m = config.model
  path, found = model_files.read_json(m.pretrained, models.scoring_types())
  wing = models.generative_wings()[found['model_type']]
  sizes = loading.named(f'models.{wing}.files', 'read_config')(
      m.pretrained, 'mrope', dtype=m.dtype, param_dtype=m.param_dtype).config
  if sizes.name != m.backbone:
    raise ValueError(f'{path} is of a {sizes.name}: set model.backbone='
                     f'{sizes.name!r}')
  example = example_of(config, wing, sizes)
  if not config.eval.zero_shot:
    return _trained(config, example)
  init = loading.named(f'models.{wing}.model', 'init')
  return Model(
      config, sizes, jax.eval_shape(lambda key: init(sizes, key),
                                    jax.random.key(0)),
      generator.continuation(sizes), example)


def _trained(config, example):
  """The Model of a config that is trained."""
  m = config.model
  _, found = model_files.read_json(m.pretrained, models.scoring_types())
  text = found.get('text_config') or found
  backbone = prompted_method.backbone(
      config, rehearsal.word_tokenizer(text['vocab_size']))
  _show(backbone.reader, config)
  method = prompted_method.method(config, backbone)
  caption = types.Item('caption', text=' '.join(
      ['a'] * config.plan.longest_caption_tokens))
  split = types.Split('plan', 'train', (_seen(config),), (caption,),
                      np.zeros(1, np.int32))
  examples = method.examples(split, np.zeros(
      (1, m.clips, 1, backbone.sizes.width), np.float16))
  return Model(
      config, backbone.sizes, jax.eval_shape(method.init, jax.random.key(0)),
      generator.continuation(backbone.sizes), example, method,
      (examples[0], examples.constants))


def example_of(config, wing, sizes):
  """The padded arrays [1, ...] of a prompt as `config.plan` has it."""
  reader = loading.named(f'data.{wing}.continuations', 'open_reader')(
      sizes, rehearsal.word_tokenizer(sizes.decoder.vocab_size),
      resolution=prompted.RESOLUTIONS.get(wing))
  _show(reader, config)
  item = _seen(config)
  kind = 'video' if item.video is not None else 'image'
  text = config.eval.instruction or prompted.INSTRUCTIONS[kind]
  prompt = reader.outline(dataclasses.replace(item, text=text), chat=True)
  return reader.pad([prompt], (
      len(prompt.tokens), *reader.bucket(prompt)[1:]))


def _show(reader, config):
  """Makes a reader look at all frames that `config.plan` has."""
  count = config.plan.frames
  if count > 1:
    reader.resolution = dataclasses.replace(
        reader.resolution, min_frames=count, max_frames=count)


def _seen(config):
  """The Item of an image or a video of the size that `config.plan` says."""
  count = config.plan.frames
  frames = np.zeros((count, *config.plan.px, 3), np.uint8)
  return types.Item('plan.px', **(
      {'video': frames} if count > 1 else {'image': frames[0]}))


def count_job(model):
  """Minimal FLOPs of {'scoring': ...}, with P(text) by the key mask."""
  config, example, sizes = model.config, model.example, model.sizes
  p, length = config.plan, int(example['length'][0])
  slices = [n for row in example['segments'][0]
            for n in np.bincount(row)[1:] if n]
  unseen = int((example['visual_index'][0, :length] < 0).sum())
  # All tokens of a text but the one that ends it go through the layers.
  own = p.caption_tokens
  logits = decoder_lib.head_flops(sizes.decoder)
  attention = functools.partial(decoder_lib.attention_flops, sizes.decoder)
  def behind(prefix):
    return logits + p.texts * (
        own * (decoder_lib.flops_per_token(sizes.decoder) + logits)
        + attention(prefix + own) - attention(prefix))
  job = {'scoring': p.videos * (
      model_lib.flops(sizes, length, slices) + behind(length))
         + model_lib.flops(sizes, unseen, ()) + behind(unseen)}
  if model.method:
    job['scoring'] += _clip_flops(model)
    updates = config.train.steps * config.train.batch_size
    job = {'training': model.method.train_flops({
        name: np.asarray(value)[None]
        for name, value in model.training[0].items()}) * (
            updates or config.train.epochs * p.train_texts)} | job
  return job


def _clip_flops(model):
  """Minimal FLOPs of log P(video | text) and its prior."""
  config, c, p = model.config, model.sizes.decoder, model.config.plan
  own, width = config.model.clips - 1, model.sizes.width
  prefix = int(model.training[0]['text_prefix_length']) + (
      p.caption_tokens - p.longest_caption_tokens)
  def read(tokens):
    return (tokens * decoder_lib.flops_per_token(c)
            + decoder_lib.attention_flops(c, tokens))
  pair = read(prefix + own) - read(prefix) + (own + 1) * 2 * width
  lengths = min(p.texts, 2 * p.caption_tokens - 1)  # a prior of each
  return p.texts * read(prefix) + (p.texts + lengths) * p.videos * pair


def count_inputs(model):
  """{job: input_speed.Input} of what is read for it, measured here."""
  p, config = model.config.plan, model.config
  reader = loading.named(
      f'data.{_wing(config)}.continuations', 'open_reader')(
          model.sizes, rehearsal.word_tokenizer(model.sizes.decoder.vocab_size),
          resolution=prompted.RESOLUTIONS.get(_wing(config)))
  _show(reader, config)
  medium = dataclasses.replace(
      input_speed.medium(p.frames, p.px), text='What is it?')
  each = input_speed.core_seconds(lambda: reader(medium, chat=True))
  found = {'scoring': input_speed.Input(p.videos, each)}
  if model.method:
    updates = config.train.steps * config.train.batch_size
    found['training'] = input_speed.Input(
        updates or config.train.epochs * p.train_texts, each)
  return found


def _wing(config):
  _, found = model_files.read_json(
      config.model.pretrained, models.scoring_types())
  return models.generative_wings()[found['model_type']]


def rehearse_training(model, part, mesh, accumulation):
  """{'training step': ...}, with the largest micro-batch that fits."""
  example, constants = model.training
  shapes = {name: (value.shape, value.dtype)
            for name, value in constants.items()}
  shape, dtype = shapes['video_vocabulary']
  shapes['video_vocabulary'] = (
      (model.config.plan.train_videos, *shape[1:]), dtype)
  return {'training step': rehearsal.training_step(
      model, part, mesh, accumulation, example, shapes)}


def rehearse_clips(model, part, mesh, _):
  """{program: ...} of log P(video | text): prefixes and tile."""
  config, p = model.config, model.config.plan
  weights, shards = sharding.abstract(mesh, model.params), (
      sharding.batch_shards(mesh))
  columns = min(config.eval.columns, p.videos)
  shapes = abstract.Shapes(
      rows=-(-config.eval.rows // shards) * shards, columns=columns,
      visual_prefix=0, labels=0, videos=p.videos, texts=p.texts,
      text_prefix=int(model.training[0]['text_prefix_length']),
      features=(config.model.clips, 1, model.sizes.width))
  common = prompted_videos.likelihood_model(model.sizes), weights, mesh, shapes
  lowered = abstract.text_prefix(*common)
  compiled, use = tpu_slices.compile_for(
      part, lowered, 'requests for videos', weights)
  found = {'requests': rehearsal.describe(
      use, weights, (), (), rehearsal.proposed(
          use, part, 'eval.rows', shapes.rows, shards), size=shapes.rows)}
  if not use.fits:
    return found
  prefix = abstract.outputs(lowered, compiled)
  _, use = tpu_slices.compile_for(
      part, abstract.clip_tile(*common, prefix),
      f'tile of clips, {columns} columns', (weights, prefix))
  return found | {'tile of clips': rehearsal.describe(
      use, weights, (), prefix,
      rehearsal.proposed(use, part, 'eval.columns', columns),
      size=[shapes.rows, columns])}


def rehearse(model, part, mesh, _):
  """{program: ...}: the prompts, and the most columns of a tile that fit."""
  config, weights = model.config, sharding.abstract(mesh, model.params)
  rows = rows_of(model, mesh)
  common = model.continuation, weights, mesh
  lowered = abstract.prompts(*common, rehearsal.batch_of(
      {name: array[0] for name, array in model.example.items()}, rows, mesh))
  compiled, use = tpu_slices.compile_for(part, lowered, 'prompts', weights)
  found = {'prompts': rehearsal.describe(
      use, weights, (), (), rehearsal.proposed(
          use, part, 'eval.rows', rows, sharding.batch_shards(mesh)),
      size=rows)}
  if not use.fits:
    return found
  last, cache, _ = abstract.outputs(lowered, compiled)
  lowered = abstract.next_token(*common, last)
  compiled, _ = tpu_slices.compile_for(
      part, lowered, 'next tokens', (weights, cache))
  prefix = abstract.outputs(lowered, compiled), cache
  def use_of(columns):
    shapes = abstract.Shapes(
        rows=rows, columns=columns, visual_prefix=0, text_prefix=0,
        labels=config.plan.longest_caption_tokens + 1,
        videos=config.plan.videos, texts=config.plan.texts, features=())
    return tpu_slices.compile_for(
        part, abstract.text_tile(*common, shapes, prefix),
        f'tile of texts, {columns} columns', (weights, prefix))[1]
  columns = min(config.eval.columns, config.plan.texts)
  use = use_of(columns)
  return found | {'tile of texts': rehearsal.describe(
      use, weights, (), prefix,
      rehearsal.proposed(use, part, 'eval.columns', columns),
      size=[rows, columns], largest=[
          rows, rehearsal.largest(
              model, part, use_of, columns, use, config.plan.texts)])}


def rows_of(model, mesh):
  """How many prompts are read together, as scoring.likelihood.prefixes does."""
  shards = sharding.batch_shards(mesh)
  room = prefixes.TOKENS_AT_ONCE * shards
  rows = min(model.config.eval.rows, model.config.plan.videos,
             room // model.example['tokens'].shape[1])
  return math.ceil(max(1, rows) / shards) * shards
