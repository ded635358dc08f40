"""Rehearses a run on TPU slices that are not at hand: config.task='plan'.

With libtpu installed any machine runs the TPU compiler. The training step and
the tiles of scoring are compiled at full size for each slice of
`config.plan.topology`: the real programs, for arrays that are not there. The
compiler says what a chip must hold; FLOPs and hours are counted.
"""
import math

import numpy as np

from jaxret import rehearsal, sharding, tpu_slices
from jaxret.data import types
from jaxret.methods.blim import evaluator, prompted_plan, prompted_run
from jaxret.scoring.likelihood import abstract, layouts
from jaxret.scoring.likelihood import cost as cost_lib


def plan(config, workdir):
  """Prints a table per slice and writes it to plan.json; returns its content.

  Raises ValueError for a slice that the compiler does not know, a config that
  says too little to be planned, or where libtpu is not installed.
  """
  if prompted_run.is_chosen(config):
    return prompted_plan.plan(config, workdir)
  model = build(config)  # cheap, and says what is wrong with the config
  parts = tpu_slices.open_all(config.plan)
  job = count_job(model)
  return rehearsal.publish(config, job, rehearse(model, parts, job), workdir)


def build(config):
  """The Model of a config at the sizes written in it: nothing is read."""
  if config.method != 'blim':
    raise ValueError(f"task 'plan' got method {config.method!r}, wanted 'blim':"
                     ' it plans likelihood scoring')
  config = config.copy_and_resolve_references().unlock()
  config.model.pretrained = ''
  return rehearsal.build(config)


def caption(tokens):
  return types.Item('caption', text=' '.join(['a'] * tokens))


def example_of(model, tokens):
  """(example, constants) of the training set, for a caption of that length."""
  split = types.Split('plan', 'train', (types.Item('video'),),
                      (caption(tokens),), np.zeros(1, np.int32))
  features = np.zeros((1, *model.method.scorer.feature_shape), np.float16)
  examples = model.method.examples(split, features)
  return examples[0], examples.constants


def split_sizes(config):
  """{split: (videos, texts)} of what is trained on and scored."""
  p = config.plan
  if config.data.name == 'shapes':
    return {name: (size, size) for name, size in config.data.sizes.items()}
  share = config.data.validation_fraction
  return {'train': (p.train_videos, p.train_texts),
          'validation': (round(share * p.train_videos),
                         round(share * p.train_texts)),
          'test': (p.videos, p.texts)}


def count_job(model):
  """Minimal FLOPs of {'training': ..., 'scoring': ...}."""
  config, scorer = model.config, model.method.scorer
  sizes = split_sizes(config)
  mean = config.plan.caption_tokens
  count = {}
  if not config.eval.zero_shot:
    example, _ = example_of(model, mean)
    batch = {name: np.asarray(value)[None] for name, value in example.items()}
    texts = sizes['train'][1]
    updates = config.train.steps * config.train.batch_size
    count['training'] = model.method.train_flops(batch) * (
        updates or texts * config.train.epochs)
  count['scoring'] = 0.0
  for name in config.eval.splits:
    videos, texts = sizes[name]
    works = cost_lib.minimal(
        scorer.model.cost, some_prompts(scorer, texts, mean), videos,
        scorer.feature_shape[0])
    if config.eval.zero_shot:
      works = {part: works[part] for part in ('text_given_video', 'text_prior')}
    count['scoring'] += cost_lib.total(works).flops
  return count


def some_prompts(scorer, texts, mean):
  """likelihood.Prompts of captions of 1 to 2 * mean - 1 tokens, in turn."""
  distinct = scorer.prompts([
      caption(1 + n) for n in range(min(texts, 2 * mean - 1))])
  which = [n % len(distinct.labels) for n in range(texts)]
  return distinct._replace(
      labels=tuple(distinct.labels[n] for n in which),
      text_prefixes=tuple(distinct.text_prefixes[n] for n in which))


def rehearse(model, parts, job):
  """What plan.json says of each slice, see rehearsal.slices_of."""
  works = [rehearse_training, rehearse_captions, rehearse_clips]
  if model.config.eval.zero_shot:
    works = [rehearse_captions]
  return rehearsal.slices_of(model, parts, works, job)


def rehearse_training(model, part, mesh, accumulation):
  """{'training step': ...}, with the largest micro-batch that fits."""
  example, constants = example_of(
      model, model.config.plan.longest_caption_tokens)
  constants = {name: (value.shape, value.dtype)
               for name, value in constants.items()}
  shape, dtype = constants['video_vocabulary']
  videos = split_sizes(model.config)['train'][0]
  constants['video_vocabulary'] = (videos, *shape[1:]), dtype
  return {'training step': rehearsal.training_step(
      model, part, mesh, accumulation, example, constants)}


def rehearse_captions(model, part, mesh, _):
  """{program: ...} of log P(text | video): prefixes and tile."""
  return rehearse_direction(model, part, mesh, 'caption',
                            abstract.visual_prefix, abstract.text_tile)


def rehearse_clips(model, part, mesh, _):
  """{program: ...} of log P(video | text): prefixes and tile."""
  return rehearse_direction(model, part, mesh, 'clip', abstract.text_prefix,
                            abstract.clip_tile)


def rehearse_direction(model, part, mesh, name, lower_prefix, lower_tile):
  """{program: ...}, with the most columns of a tile that fit."""
  shapes, weights = scoring_shapes(model, mesh), sharding.abstract(
      mesh, model.params)
  common = model.method.scorer.model, weights, mesh
  lowered = lower_prefix(*common, shapes)
  compiled, use = tpu_slices.compile_for(
      part, lowered, f'{name} prefixes', weights)
  found = {f'{name} prefixes': rehearsal.describe(
      use, weights, (), (), rehearsal.proposed(
          use, part, 'eval.rows', shapes.rows, sharding.batch_shards(mesh)),
      size=shapes.rows)}
  if not use.fits:
    return found
  prefix = abstract.outputs(lowered, compiled)
  def use_of(columns):
    tile = shapes._replace(columns=columns)
    return tpu_slices.compile_for(part, lower_tile(*common, tile, prefix),
                              f'{name} tile, {columns} columns',
                              (weights, prefix))[1]
  columns = min(shapes.columns, shapes.texts, shapes.videos)
  sizes, use = {'size': [shapes.rows, columns]}, use_of(columns)
  # Both tiles have eval.columns; captions, the longer, say how many fit.
  if name == 'caption':
    sizes['largest'] = [shapes.rows, rehearsal.largest(
        model, part, use_of, columns, use, shapes.texts)]
  return found | {f'{name} tile': rehearsal.describe(
      use, weights, (), prefix,
      rehearsal.proposed(use, part, 'eval.columns', columns), **sizes)}


def scoring_shapes(model, mesh):
  """The tile of the config, at the longest caption."""
  config, scorer = model.config, model.method.scorer
  shards = sharding.batch_shards(mesh)
  longest = scorer.prompts([caption(config.plan.longest_caption_tokens)])
  videos, texts = split_sizes(config)[config.eval.splits[-1]]
  limits = layouts.limits(evaluator.options_of(config), mesh)
  return abstract.Shapes(
      rows=math.ceil(limits.rows / shards) * shards,
      columns=limits.columns, visual_prefix=len(longest.visual_prefix),
      text_prefix=len(longest.text_prefixes[0]),
      labels=len(longest.labels[0]), videos=videos, texts=texts,
      features=scorer.feature_shape)
