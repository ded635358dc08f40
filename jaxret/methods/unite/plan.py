"""Rehearses UNITE on accelerators that are not at hand: config.task='plan'.

See methods.embedding_plan.
"""
import functools

import numpy as np

from jaxret import methods, rehearsal, tpu_slices
from jaxret.data.sets import pair_files
from jaxret.methods import embedding_plan
from jaxret.models.qwen2_vl import model as model_lib


def plan(config, workdir):
  """Prints a table per slice and writes it to plan.json; returns its content.

  Raises ValueError for a slice that the compiler does not know, media that the
  config's shapes do not hold, or where libtpu is not installed.
  """
  stages = embedding_plan.open_stages(config, workdir, pair_of, flops)
  parts = tpu_slices.open_all(config.plan)
  job = embedding_plan.count_job(stages)
  works = [*embedding_plan.rehearse_trainings(stages), functools.partial(
      embedding_plan.rehearse_embedding, stages)]
  slices = rehearsal.slices_of(
      stages.own, parts, works, job, embedding_plan.count_inputs(stages))
  return rehearsal.publish(config, job, slices, workdir)


def pair_of(config):
  """A pair as `config.plan` has it."""
  return pair_files.Pair(embedding_plan.query_of(config.plan),
                         embedding_plan.candidate_of(config.plan), None)


def flops(model, rows):
  """Forward FLOPs of an item whose padded arrays are `rows`, [1, ...]."""
  sizes = methods.get(model.config.method).model_config(model.config, None)
  segments = [n for row in rows.get('segments', [[]])[0]
              for n in np.bincount(np.asarray(row, int))[1:]]
  return model_lib.flops(sizes, int(rows['length'][0]), segments)
