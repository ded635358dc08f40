"""Rehearses UNITE on TPU slices that are not at hand: config.task='plan'.

The training step of each stage and a batch of embeddings are compiled at full
size, see jaxret.rehearsal. Of a checkpoint only config.json is read. A pair is
a text and an image or a video of the sizes in `config.plan`, read as any other.
"""
import functools

import jax
import numpy as np

from jaxret import methods, rehearsal, sharding, tpu_slices
from jaxret.data import pair_examples, types
from jaxret.data.sets import pair_files
from jaxret.methods import embedding_run
from jaxret.models.qwen2_vl import model as model_lib


def plan(config, workdir):
  """Prints a table per slice and writes it to plan.json; returns its content.

  Raises ValueError for a slice that the compiler does not know, media that the
  config's shapes do not hold, or where libtpu is not installed.
  """
  embedding_run.check_config(config)
  stages = {stage.row: rehearsal.build(stage.config)
            for stage in embedding_run.stages(config, workdir)}
  examples = {row: example_of(model) for row, model in stages.items()}
  parts = tpu_slices.open_all(config.plan)
  job = count_job(stages, examples)
  works = [functools.partial(rehearse_training, row, stages[row], examples[row])
           for row in stages] + [rehearse_embedding]
  slices = rehearsal.slices_of(stages[config.method], parts, works, job)
  return rehearsal.publish(config, job, slices, workdir)


def example_of(model):
  """A padded training example of a pair as `config.plan` has it."""
  config, shape = model.config, tuple(model.config.data.shape)
  examples = model.method.examples(
      [_pair(config.plan)], _reader(model), shape and dict.fromkeys(
          pair_examples.SIDES, shape))
  return examples[0]


def _reader(model):
  """The method's own reader, of a tokenizer that makes a token of a word."""
  config = model.config
  return methods.embeds(config.method).reader(
      config, rehearsal.word_tokenizer(config.model.vocab_size))


def _pair(plan):
  query = types.Item('query', text=' '.join(['a'] * plan.query_words))
  frames = np.zeros((plan.candidate_frames, *plan.candidate_px, 3), np.uint8)
  candidate = (
      types.Item('candidate', text=query.text) if not len(frames) else
      types.Item('candidate', image=frames[0]) if len(frames) == 1 else
      types.Item('candidate', video=frames))
  return pair_files.Pair(query, candidate, None)


def count_job(stages, examples):
  """Minimal FLOPs of {'training ...': ..., 'embedding': ...}.

  Of stages that train for whole epochs plan.train_pairs says how many pairs
  there are. Embedded are plan.candidates candidates.
  """
  job = {}
  for row, model in stages.items():
    batch = {name: np.asarray(value)[None]
             for name, value in examples[row].items()}
    size = model.config.train
    pairs = size.steps * size.batch_size or (
        size.epochs * model.config.plan.train_pairs)
    job[f'training {row}'] = pairs * model.method.train_flops(batch)
  sizes = methods.get(model.config.method).model_config(model.config, None)
  rows = pair_examples.sides(batch)['candidate']
  segments = [n for row in rows.get('segments', [[]])[0]
              for n in np.bincount(np.asarray(row, int))[1:]]
  job['embedding'] = model.config.plan.candidates * model_lib.flops(
      sizes, int(rows['length'][0]), segments)
  return job


def rehearse_training(row, stage, example, model, part, mesh, accumulation):
  """{'training ...': ...} of a stage, on the mesh that its own batch fills."""
  del model, mesh, accumulation
  return {f'training {row}': rehearsal.training_step(
      stage, part, *rehearsal.layout(stage.config, part), example, {})}


def rehearse_embedding(model, part, mesh, _):
  """{'embedding': ...} of a batch of candidates, and the largest that fits."""
  config, shards = model.config, sharding.batch_shards(mesh)
  reader = _reader(model)
  inputs = reader(_pair(config.plan).candidate)
  example = {name: array[0] for name, array in reader.pad(
      [inputs], tuple(config.eval.shape) or reader.bucket(inputs)).items()}
  weights = sharding.abstract(mesh, model.params)
  module = methods.get(config.method).model_config(config, None).module()
  def use_of(rows):
    with jax.set_mesh(mesh):
      lowered = jax.jit(module.apply).lower(
          weights, rehearsal.batch_of(example, rows * shards, mesh))
    return tpu_slices.compile_for(
        part, lowered, f'embedding, {rows} rows per chip', weights)[1]
  rows = -(-config.eval.batch_size // shards)
  use = use_of(rows)
  return {'embedding': rehearsal.describe(
      use, weights, (), (), size=rows * shards, largest=shards *
      rehearsal.largest(model, part, use_of, rows, use, 1024))}
