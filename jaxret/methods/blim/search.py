"""Searches the best pairs of a split in the matrices that scoring fills."""
import numpy as np

from jaxret.methods.blim import evaluator
from jaxret.scoring.likelihood import search


def slack_of(config):
  """`eval.bound_slack`, or where it is 0 what the model's dtype asks for."""
  return config.eval.get('bound_slack', 0.0) or search.SLACK[config.model.dtype]


def best(model, params, mesh, inputs, options, directory, direction, weights, k,
         budget=None, slack=search.SLACK['float32']):
  """search.Found of one direction of a split; None on all processes but 0.

  It goes on in the matrices in `directory`, which are those of
  evaluator.score: what either has computed the other finds.

  inputs: evaluator.LikelihoodInputs; the others as search.best takes them.
  """
  found = _matrices(model, params, mesh, inputs, options, directory)
  job = search.Job(model, params, mesh, inputs.prompts, inputs.features,
                   inputs.vocabulary, options)
  try:
    return search.best(job, found, direction, weights, k, budget, slack)
  finally:
    for matrix in found[:2] if found else ():
      if matrix is not None:
        matrix.flush()


def scores(model, params, mesh, inputs, options, directory, direction, weights):
  """All scores [Q, C] that are known, -inf elsewhere; as for `best`."""
  found = _matrices(model, params, mesh, inputs, options, directory)
  job = search.Job(model, params, mesh, inputs.prompts, inputs.features,
                   inputs.vocabulary, options)
  return found and search.scores(job, found, direction, weights)


def _matrices(model, params, mesh, inputs, options, directory):
  """search.Matrices with all that is free; None on all processes but 0."""
  if options.mode == 'reference':
    raise ValueError("mode 'reference' scores all pairs by full passes: a "
                     "search takes 'shared' or 'canonical'")
  common = model, params, mesh, inputs, options, directory
  nothing = np.zeros((len(inputs.vocabulary), len(inputs.prompts.labels)), bool)
  scored = evaluator.score(*common, nothing)
  labels = evaluator.first_labels(*common)
  clips = None if inputs.zero_shot else evaluator.first_clips(*common)
  return scored and search.Matrices(
      scored.text_given_video, scored.video_given_text, labels, clips,
      np.asarray(scored.text_prior), scored.video_prior)
