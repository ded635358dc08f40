"""`jaxret.search_pairs`: the best candidates of each query, without all pairs.
"""
import dataclasses

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxret import workdir_lock
from jaxret.methods.blim import evaluator, score
from jaxret.methods.blim import scores as scores_lib
from jaxret.methods.blim import search as search_lib
from jaxret.scoring.likelihood import cpn, search
from jaxret.scoring.likelihood import score as likelihood


@dataclasses.dataclass(frozen=True)
class TopK:
  """The best k candidates of Q queries, and what proves it.

  index int64 [Q, k], score float32 [Q, k]: best first.
  certified: bool [Q], these are the best of all candidates, in this order: no
    score that was not computed can reach them.
  margin: float32 [Q], nats by which the k-th best is above what any other
    candidate has or can have; inf where there are no others.
  pairs_scored_whole, token_share: of all pairs, and of the tokens that scoring
    all pairs takes, padding included; above 1 where a search was in vain.
  expected_share, least_share: of the tokens, as told before the search from a
    sample of pairs, see scoring.likelihood.bounds; None with a budget.
  query_ids, candidate_ids: in order. weights: alpha and c of the ranking;
    chosen_on: 'validation', 'paper' or 'given'.
  """
  index: np.ndarray
  score: np.ndarray
  certified: np.ndarray
  margin: np.ndarray
  pairs_scored_whole: float
  token_share: float
  expected_share: float | None
  least_share: float | None
  query_ids: tuple[str, ...]
  candidate_ids: tuple[str, ...]
  weights: cpn.Weights
  chosen_on: str

  def top(self, k: int | None = None) -> dict[str, list[tuple[str, float]]]:
    """The best k candidates of each query, {query: [(candidate, score)]}.

    None = all that were searched. Raises ValueError for k below 1, or more
    than were searched.
    """
    most = self.index.shape[1]
    k = most if k is None else k
    if not 1 <= k <= most:
      raise ValueError(f'top: got k = {k}, want 1 to {most}, as many as were '
                       'searched')
    return {query: [(self.candidate_ids[c], float(value))
                    for c, value in zip(row[:k], values[:k])
                    if np.isfinite(value)]
            for query, row, values in zip(
                self.query_ids, self.index, self.score)}


def search_pairs(
    videos: score.Videos, texts: score.Texts, model: score.Path | ConfigDict, *,
    k: int = 10, direction: str = 'video_to_text', alpha: float | None = None,
    query_weight: float | None = None, budget: int | None = None,
    slack: float | None = None, workdir: score.Path | None = None,
    rows: int = 32, columns: int = 64, mesh: Mesh | None = None
    ) -> TopK | None:
  """Finds the best k candidates of each query as if all pairs were scored.

    found = jaxret.search_pairs(videos, texts, 'workdirs/blim', k=1)
    best_text_of_video = found.index[:, 0]

  Args:
    videos, texts, model: as for `score_matrix`.
    k: candidates of each query.
    direction: 'video_to_text' or 'text_to_video'.
    alpha, query_weight: as for Scores.text_to_video; None = as the workdir's
      evaluation chose them, else the config's.
    budget: at most so many candidates of a query are computed, k at least;
      `certified` says for which queries that suffices. None = all that a proof
      takes.
    slack: nats by which what is left out must be below the k-th best; None =
      1e-4, and 0.03 in bfloat16, where tiles differ by as much.
    workdir: where scores are kept, so that a killed call goes on, and those of
      `score_matrix`, which are the same, are used; by default nothing is kept.
      One call, or one run, at a time.
    rows, columns: of a tile. mesh: default all devices in one row.

  Returns:
    TopK; None on all processes but the first.

  Raises:
    ValueError: as `score_matrix`; for k, budget, direction, slack or a weight
      that cannot be; for a score above its bound, naming the pair.
  """
  search.check(direction, k, budget, slack)
  with workdir_lock.held_or_passing(workdir) as directory:
    ready = score.prepare(videos, texts, model, mesh)
    chosen = score.weights_of(ready)
    weights = scores_lib.with_given(
        direction, chosen.weights[direction], alpha, query_weight,
        both=bool(ready.trained), alone=direction == 'video_to_text')
    inputs = evaluator.inputs(
        ready.scorer, ready.split, ready.features,
        zero_shot=not ready.trained)
    options = likelihood.Options(
        rows, columns,
        nonzero_denominator=ready.config.eval.nonzero_denominator)
    found = search_lib.best(
        ready.scorer.model, ready.params, ready.mesh, inputs, options,
        directory, direction, weights, k, budget,
        search_lib.slack_of(ready.config) if slack is None else slack)
  given = alpha is not None or query_weight is not None
  return found and _top(found, ready.split, direction, weights,
                        'given' if given else chosen.on)


def _top(found, split, direction, weights, chosen_on):
  ids = [tuple(item.id for item in side) for side in (
      split.videos, split.texts)]
  queries, candidates = ids if direction == 'video_to_text' else ids[::-1]
  expected, least = found.expected or (None, None)
  return TopK(found.index, found.score, found.certified, found.margin,
              found.whole, found.tokens / found.all_tokens, expected, least,
              queries, candidates, weights, chosen_on)
