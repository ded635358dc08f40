"""Rehearses scoring with a model that continues prompts: config.task='plan'.

As methods.blim.plan, of P(text | image or video) by `model.backbone`: a batch
of prompts, and a tile of texts behind them. Of `model.pretrained` config.json
alone is read; what a prompt shows has the size that `config.plan` says.
"""
import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxret import generator, loading, models, rehearsal, sharding, tpu_slices
from jaxret.data import types
from jaxret.methods.blim import prompted, prompted_run
from jaxret.models import decoder as decoder_lib
from jaxret.models import model_files
from jaxret.models.qwen2_vl import model as model_lib
from jaxret.scoring.likelihood import abstract, kernels, prefixes


class Model(NamedTuple):
  """What is planned for.

  sizes: of the backbone. params: abstract, with an output head. continuation:
  what the kernels of scoring take. example: arrays [1, ...] of a prompt.
  """
  config: Any
  sizes: Any
  params: dict
  continuation: kernels.Continuation
  example: dict


def plan(config, workdir):
  """As methods.blim.plan.plan; ValueError for what cannot be scored so."""
  model = build(config)
  parts = tpu_slices.open_all(config.plan)
  job = count_job(model)
  slices = rehearsal.slices_of(model, parts, [rehearse], job)
  return rehearsal.publish(config, job, slices, workdir)


def build(config):
  """The Model of a config; ValueError for what is not scored as it is."""
  if not config.eval.zero_shot:
    raise ValueError(
        f"task 'plan' rehearses a {config.model.backbone} that is scored as it "
        'is, no training of it: set eval.zero_shot=True')
  whole = config.copy_and_resolve_references().unlock()
  whole.task = 'evaluate'  # what is rehearsed
  prompted_run.check(whole)
  m = config.model
  path, found = model_files.read_json(m.pretrained, models.scoring_types())
  wing = models.generative_wings()[found['model_type']]
  sizes = loading.named(f'models.{wing}.files', 'read_config')(
      m.pretrained, 'mrope', dtype=m.dtype, param_dtype=m.param_dtype).config
  if sizes.name != m.backbone:
    raise ValueError(f'{path} is of a {sizes.name}: set model.backbone='
                     f'{sizes.name!r}')
  init = loading.named(f'models.{wing}.model', 'init')
  return Model(
      config, sizes, jax.eval_shape(lambda key: init(sizes, key),
                                    jax.random.key(0)),
      generator.continuation(sizes), example_of(config, wing, sizes))


def example_of(config, wing, sizes):
  """The padded arrays [1, ...] of a prompt as `config.plan` has it."""
  reader = loading.named(f'data.{wing}.continuations', 'open_reader')(
      sizes, rehearsal.word_tokenizer(sizes.decoder.vocab_size),
      resolution=prompted.RESOLUTIONS.get(wing))
  count = config.plan.frames
  if count > 1:  # all of them are looked at
    reader.resolution = dataclasses.replace(
        reader.resolution, min_frames=count, max_frames=count)
  frames = np.zeros((count, *config.plan.px, 3), np.uint8)
  kind = 'video' if count > 1 else 'image'
  text = config.eval.instruction or prompted.INSTRUCTIONS[kind]
  prompt = reader.outline(types.Item('plan.px', text, **{
      kind: frames if count > 1 else frames[0]}), chat=True)
  return reader.pad([prompt], (
      len(prompt.tokens), *reader.bucket(prompt)[1:]))


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
  return {'scoring': p.videos * (
      model_lib.flops(sizes, length, slices) + behind(length))
          + model_lib.flops(sizes, unseen, ()) + behind(unseen)}


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
