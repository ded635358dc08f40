"""A reranker whose scores of mined negatives an embedder is trained on."""
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxret import sharding
from jaxret.data import media
from jaxret.data.sets import mixed
from jaxret.methods.mm_embed import rerank_run


class Teacher(NamedTuple):
  """What scores candidates, and what that depends on besides them.

  ask: (query Items, for each K candidate Items, the positive first) ->
  float32 [Q, K].
  """
  ask: Callable[..., np.ndarray]
  fingerprint: dict[str, Any]


def of_run(run):
  """The Teacher that `config.mine.teacher` asks for, or None."""
  # Configs of old work directories have no such field.
  if not run.config.mine.get('teacher', False):
    return None
  settings = run.config.rerank
  if settings.pretrained:
    model = rerank_run.published(settings, run.mesh)
  else:
    model = rerank_run.restore(
        run.config, run.config.init_from, run.mesh, run.tokenizer,
        run.embeds.model(run.config, run.tokenizer))
  return Teacher(functools.partial(ask, model, settings), {
      'weights': sharding.checksum(model.params), 'reading': media.READING,
      'alpha': settings.get('alpha', 'white'),
      'questions': dict(sorted(settings.questions.to_dict().items()))})


def ask(model, settings, queries, candidates):
  """P(True) of K candidates of each query, the positive first: [Q, K].

  As where it reranks: a candidate of another modality than the positive is not
  asked about, its probability is 0.
  """
  scores = np.zeros((len(queries), len(candidates[0])), np.float32)
  by_question = {}
  for row, (query, own) in enumerate(zip(queries, candidates)):
    question = rerank_run.question_of(
        settings, query, mixed.modality(own[0]))
    by_question.setdefault(question, []).append(row)
  for question, rows in by_question.items():
    places = [[k for k, one in enumerate(candidates[row])
               if mixed.modality(one) == mixed.modality(candidates[row][0])]
              for row in rows]
    found = model.p_true(
        [queries[row] for row in rows],
        [[candidates[row][k] for k in own + own[-1:] * (
            scores.shape[1] - len(own))] for row, own in zip(rows, places)],
        question, show_progress=False)
    for row, own, values in zip(rows, places, found):
      scores[row, own] = values[:len(own)]
  return scores
