"""Rehearses MM-Embed on accelerators that are not at hand: config.task='plan'.

Training with random and mined negatives, embedding, which mining is but for a
search, and reranking. See methods.embedding_plan.
"""
import dataclasses
import functools

import jax
import numpy as np

from jaxret import input_speed, methods, rehearsal, sharding, tpu_slices
from jaxret.data.llava import questions
from jaxret.data.sets import mixed
from jaxret.methods import embedding_plan
from jaxret.methods.mm_embed import rerank_run
from jaxret.models import decoder as decoder_lib
from jaxret.models.llava import mm_embed as model_lib
from jaxret.models.llava import model as llava_next


def plan(config, workdir):
  """Prints a table per slice and writes it to plan.json; returns its content.

  Raises ValueError for a slice that the compiler does not know, media that the
  config's shapes do not hold, or where libtpu is not installed.
  """
  if config.plan.candidate_frames > 1:
    raise ValueError(f'plan.candidate_frames is {config.plan.candidate_frames}:'
                     ' MM-Embed reads no videos, set 1 for images or 0')
  stages = embedding_plan.open_stages(config, workdir, pair_of, flops)
  asked = asked_of(config, stages)
  parts = tpu_slices.open_all(config.plan)
  job = count_job(stages, asked)
  works = [*embedding_plan.rehearse_trainings(stages), functools.partial(
      embedding_plan.rehearse_embedding, stages)]
  if asked:
    works.append(functools.partial(rehearse_reranking, asked))
  slices = rehearsal.slices_of(
      stages.own, parts, works, job, count_inputs(stages, job))
  return rehearsal.publish(config, job, slices, workdir)


def pair_of(config):
  """A pair as `config.plan` has it, with the negatives of its stage."""
  query, candidate = (embedding_plan.query_of(config.plan),
                      embedding_plan.candidate_of(config.plan))
  count = config.mine.negatives if config.negatives else 0
  negatives = tuple(embedding_plan.candidate_of(config.plan, f'negative {n}')
                    for n in range(count))
  teacher = config.loss.distillation_weight and config.negatives
  return mixed.Pair(
      query, candidate, mixed.modality(candidate),
      negatives if count > 1 else negatives[0] if count else None,
      query.text, 0, (0.0,) * (1 + count) if teacher else None)


def flops(model, rows):
  """Forward FLOPs of an item whose padded arrays are `rows`, [1, ...]."""
  sizes = methods.get(model.config.method).model_config(model.config, None)
  return model_lib.flops(sizes, int(rows['length'][0]), int(
      'visual_index' in rows and (rows['visual_index'] >= 0).any()))


def asked_of(config, stages):
  """(sizes, prompts of a query, reader) of reranking, None where none is.

  The query is a composed one, of an image and a text.
  """
  settings = config.rerank
  if not settings.tasks and not settings.pretrained:
    return None
  model, reader = rerank_run.rehearsed(
      settings, rehearsal.word_tokenizer(config.model.vocab_size),
      methods.embeds(config.method).model(stages.own.config, None))
  query = dataclasses.replace(
      embedding_plan.query_of(config.plan),
      image=np.zeros((*config.plan.candidate_px, 3), np.uint8))
  prompts = []
  for number in range(1, 1 + settings.depth):
    candidate = embedding_plan.candidate_of(config.plan, f'candidate {number}')
    if candidate.image is not None:  # all are different
      candidate.image[:] = number
    prompts.append(reader(query, candidate, rerank_run.question_of(
        settings, query, mixed.modality(candidate))))
  return model, prompts, reader


def count_job(stages, asked):
  """embedding_plan.count_job, and FLOPs of mining and of reranking.

  Mined for are the queries of training, among plan.candidates candidates.
  """
  job = embedding_plan.count_job(stages)
  plan = stages.own.config.plan
  mined = [row for row, model in stages.models.items()
           if model.config.negatives]
  if mined:
    sizes = methods.get('mm_embed').model_config(stages.own.config, None)
    length = int(stages.examples[mined[0]]['query_length'])
    job['mining'] = job['embedding'] + plan.train_pairs * (
        model_lib.flops(sizes, length) + 2 * sizes.width * plan.candidates)
  if asked:
    model, prompts, reader = asked
    shape = questions.group_shape([prompts])
    shared = int(questions.pad_groups(
        [prompts], shape, reader.grid)['length'][0])
    def read(tokens):
      return (tokens * decoder_lib.flops_per_token(model.decoder)
              + decoder_lib.attention_flops(model.decoder, tokens))
    crops = shape.crops + len(prompts) * shape.suffix_crops
    job['reranking'] = plan.queries * (
        read(shared) + crops * llava_next.image_flops(model)
        + sum(read(len(one.tokens)) - read(shared) for one in prompts))
  return job


def count_inputs(stages, job):
  """embedding_plan.count_inputs, and of mining and reranking."""
  found = embedding_plan.count_inputs(stages)
  config = stages.own.config
  if not found:
    return {}
  each = found['embedding'].core_seconds
  if 'mining' in job:
    found['mining'] = found['embedding']
  if 'reranking' in job:
    found['reranking'] = input_speed.Input(
        config.plan.queries * config.rerank.depth, each)
  return found


def rehearse_reranking(asked, model, part, mesh, _):
  """{'reranking': ...} of queries with their candidates, and how many fit."""
  sizes, prompts, reader = asked
  settings, shards = model.config.rerank, sharding.batch_shards(mesh)
  shape = (questions.Shape(*settings.shape) if settings.shape else
           questions.group_shape([prompts]))
  example = {name: array[0] for name, array in questions.pad_groups(
      [prompts], shape, reader.grid).items()}
  params = jax.eval_shape(
      functools.partial(llava_next.init, sizes), jax.random.key(0))
  weights = sharding.abstract(mesh, params)
  words = jax.ShapeDtypeStruct((2,), np.int32, sharding=sharding.replicated(
      mesh))
  def use_of(rows):
    with jax.set_mesh(mesh):
      lowered = jax.jit(functools.partial(
          llava_next.p_true_of_suffixes, sizes)).lower(
              weights, rehearsal.batch_of(example, rows * shards, mesh), words)
    return tpu_slices.compile_for(
        part, lowered, f'reranking, {rows} queries per chip', weights)[1]
  rows = -(-settings.batch_size // shards)
  use = use_of(rows)
  return {'reranking': rehearsal.describe(
      use, weights, (), (), rehearsal.proposed(
          use, part, 'rerank.batch_size', rows * shards, shards),
      size=[rows * shards, settings.depth],
      largest=[shards * rehearsal.largest(
          model, part, use_of, rows, use, 1024), settings.depth])}
