"""Rehearses methods that embed on slices that are not at hand.

The training step of each stage and a batch of embeddings are compiled at full
size, see jaxret.rehearsal. Of a checkpoint only config.json is read. A pair is
a text and an image or a video of the sizes in `config.plan`, read as any other.
"""
import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxret import input_speed, methods, rehearsal, sharding, tpu_slices
from jaxret.data import pair_examples, types
from jaxret.methods import embedding_run


class Stages(NamedTuple):
  """What is planned for.

  models, pairs, examples: of each row that is trained, in their order, the
  method's own last: a rehearsal.Model, a pair, and its padded arrays. flops:
  (model, arrays [1, ...] of an item) -> forward FLOPs of it.
  """
  models: dict[str, rehearsal.Model]
  pairs: dict[str, Any]
  examples: dict[str, dict]
  flops: Any

  @property
  def own(self):
    """The Model of the method itself."""
    return list(self.models.values())[-1]


def open_stages(config, workdir, pair_of, flops):
  """The Stages of a config; pair_of: (its stage's config) -> a pair.

  Raises ValueError for media that the config's shapes do not hold.
  """
  embedding_run.check_config(config)
  models = {stage.row: rehearsal.build(stage.config)
            for stage in embedding_run.stages(config, workdir)}
  pairs = {row: pair_of(model.config) for row, model in models.items()}
  return Stages(models, pairs, {
      row: example_of(model, pairs[row]) for row, model in models.items()},
                flops)


def example_of(model, pair):
  """A padded training example of a pair."""
  shape = tuple(model.config.data.shape)
  examples = model.method.examples(
      [pair], reader_of(model), shape and dict.fromkeys(
          pair_examples.SIDES, shape))
  return examples[0]


def reader_of(model):
  """The method's own reader, of a tokenizer that makes a token of a word."""
  config = model.config
  return methods.embeds(config.method).reader(
      config, rehearsal.word_tokenizer(config.model.vocab_size))


def query_of(plan):
  """The text of a pair."""
  return types.Item('query', text=' '.join(['a'] * plan.query_words))


def candidate_of(plan, name='candidate'):
  """A text, an image or a video, as `plan` has candidates."""
  frames = np.zeros((plan.candidate_frames, *plan.candidate_px, 3), np.uint8)
  return (types.Item(name, text=query_of(plan).text) if not len(frames) else
          types.Item(name, image=frames[0]) if len(frames) == 1 else
          types.Item(name, video=frames))


def count_job(stages):
  """Minimal FLOPs of {'training ...': ..., 'embedding': ..., 'indexing': ...}.

  Of stages that train for whole epochs plan.train_pairs says how many pairs
  there are. Embedded are plan.candidates candidates; indexed, windows of
  plan.video_hours that look as these do.
  """
  job = {}
  for row, model in stages.models.items():
    batch = {name: np.asarray(value)[None]
             for name, value in stages.examples[row].items()}
    job[f'training {row}'] = pairs_of(model) * model.method.train_flops(batch)
  rows = pair_examples.sides(batch)['candidate']
  each, plan = stages.flops(stages.own, rows), stages.own.config.plan
  job['embedding'] = plan.candidates * each
  if plan.get('video_hours', 0.0):
    job['indexing'] = windows_of(plan) * each
  return job


def pairs_of(model):
  """How many pairs a stage is trained on."""
  size = model.config.train
  return size.steps * size.batch_size or (
      size.epochs * model.config.plan.train_pairs)


def windows_of(plan):
  """How many rows an index of plan.video_hours has."""
  return plan.video_hours * 3600 / input_speed.SECONDS


def count_inputs(stages):
  """{job: input_speed.Input} of what is read for it, measured here."""
  plan, reader = stages.own.config.plan, reader_of(stages.own)
  if not plan.candidate_frames:
    return {}
  candidate = input_speed.medium(plan.candidate_frames, plan.candidate_px)
  each = input_speed.core_seconds(lambda: reader(candidate))
  found = {'embedding': input_speed.Input(plan.candidates, each)}
  for row, model in stages.models.items():
    media = [item for item in pair_examples.items_of(stages.pairs[row]).values()
             if item.image is not None or item.video is not None]
    found[f'training {row}'] = input_speed.Input(
        pairs_of(model), len(media) * each)
  if plan.get('video_hours', 0.0):
    found['indexing'] = input_speed.Input(windows_of(plan), each)
  return found


def rehearse_trainings(stages):
  """Functions for rehearsal.slices_of, one for each row that is trained."""
  return [functools.partial(rehearse_training, row, stages.models[row],
                            stages.examples[row]) for row in stages.models]


def rehearse_training(row, stage, example, model, part, mesh, accumulation):
  """{'training ...': ...} of a stage, on the mesh that its own batch fills."""
  del model, mesh, accumulation
  return {f'training {row}': rehearsal.training_step(
      stage, part, *rehearsal.layout(stage.config, part), example, {})}


def rehearse_embedding(stages, model, part, mesh, _):
  """{'embedding': ...} of a batch of candidates, and the largest that fits."""
  config, shards = model.config, sharding.batch_shards(mesh)
  embeds, reader = methods.embeds(config.method), reader_of(model)
  inputs = reader(list(stages.pairs.values())[-1].candidate)
  example = {name: array[0] for name, array in reader.pad(
      [inputs], tuple(config.eval.shape) or reader.bucket(inputs)).items()}
  sizes, params = _served(embeds, embeds.model(config, None), model.params)
  weights, module = sharding.abstract(mesh, params), sizes.module()
  def use_of(rows):
    with jax.set_mesh(mesh):
      lowered = jax.jit(module.apply).lower(
          weights, rehearsal.batch_of(example, rows * shards, mesh))
    return tpu_slices.compile_for(
        part, lowered, f'embedding, {rows} rows per chip', weights)[1]
  rows = -(-config.eval.batch_size // shards)
  use = use_of(rows)
  return {'embedding': rehearsal.describe(
      use, weights, (), (), rehearsal.proposed(
          use, part, 'eval.batch_size', rows * shards, shards),
      size=rows * shards, largest=shards * rehearsal.largest(
          model, part, use_of, rows, use, 1024))}


def _served(embeds, sizes, params):
  """(sizes, abstract parameters) in the form that embeds."""
  found = []
  def served(params):
    sizes_served, params = embeds.served(sizes, params)
    found.append(sizes_served)
    return params
  shapes = jax.eval_shape(served, params)
  return found[-1], shapes
