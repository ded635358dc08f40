"""What `jaxret.score_matrix` gives: likelihoods that know how to rank."""
import dataclasses
import json
import os
import pathlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxret import files
from jaxret.methods.blim import evaluator
from jaxret.scoring import all_queries, trec
from jaxret.scoring.likelihood import cpn

if TYPE_CHECKING:
  import pandas
  from ml_collections import ConfigDict

PARTS = ('candidate', 'query', 'prior')  # of a cpn.Direction


class Chosen(NamedTuple):
  """The weights of both directions, and what they were chosen on.

  on: 'validation' or 'paper', the fixed ones of the config. temperatures:
  {direction: {method of all_queries: temperature}}, as far as chosen.
  """
  weights: dict[str, cpn.Weights]
  on: str
  temperatures: dict[str, dict[str, float]] | None = None


@dataclasses.dataclass(frozen=True)
class Scores:
  """Likelihoods of V videos and T texts, and BLiM's ranking by them.

  text_given_video float32 [V, T], text_prior [T] ([V, T] in reference mode, and
  of a model that continues prompts, whose texts stand behind items of any
  size), video_given_text [T, V] and video_prior [T, V]: mean log-likelihoods
  per token and per clip (nats), and those of the candidate without its query;
  NaN where a cascade left a pair out. The last two are None zero-shot.
  video_ids, text_ids: in order. chosen: the weights of the ranking.
  """
  text_given_video: np.ndarray
  text_prior: np.ndarray
  video_given_text: np.ndarray | None
  video_prior: np.ndarray | None
  video_ids: tuple[str, ...]
  text_ids: tuple[str, ...]
  chosen: Chosen

  def text_to_video(
      self, alpha: float | None = None, query_weight: float | None = None,
      normalize: str | None = None, temperature: float | None = None
      ) -> np.ndarray:
    """BLiM's scores [T, V] of videos for texts, higher is better.

    query_weight * log P(text | video) + (1 - query_weight) *
    (log P(video | text) - alpha * log P(video)); zero-shot log P(text | video)
    alone.

    Args:
      alpha, query_weight: 0 to 1; None = as chosen, see `chosen`.
      normalize: 'dual_softmax' or 'qb_norm', see scoring.all_queries: the
        scores are then corrected by those of all T texts, so that they are
        other ones in other company; None = each text by itself.
      temperature: of `normalize`, above 0, in nats; None = as chosen.

    Returns:
      float32 [T, V], -inf where a cascade left a pair out.

    Raises:
      ValueError: for a weight outside of 0 to 1, or one that has no effect;
        for `normalize` without a temperature, or where a pair was left out.
    """
    return self._ranking('text_to_video', alpha, query_weight, normalize,
                         temperature)

  def video_to_text(
      self, alpha: float | None = None, query_weight: float | None = None,
      normalize: str | None = None, temperature: float | None = None
      ) -> np.ndarray:
    """The same of texts for videos, [V, T]; zero-shot CPN alone."""
    return self._ranking('video_to_text', alpha, query_weight, normalize,
                         temperature)

  def top(self, k: int = 10, direction: str = 'text_to_video'
          ) -> dict[str, list[tuple[str, float]]]:
    """The best k candidates of each query, {query: [(candidate, score)]}.

    Fewer where there are fewer, or a cascade kept fewer. Equal scores are in
    the order of the candidates. Raises ValueError for another direction, or k
    below 1.
    """
    _check_k('top', k)
    scores = self._ranking(direction)
    queries, candidates = self._ids(direction)
    order = np.argsort(-scores, 1, kind='stable')[:, :k]
    return {query: [(candidates[c], float(row[c])) for c in best
                    if np.isfinite(row[c])]
            for query, row, best in zip(queries, scores, order)}

  def to_pandas(self, direction: str = 'text_to_video', k: int | None = None
                ) -> 'pandas.DataFrame':
    """A row per pair: query, candidate, rank, score, and what it is made of.

    k: of each query, the best k alone. The columns candidate_likelihood,
    query_likelihood and prior are there as far as the model gives them. Raises
    ImportError where pandas is not installed, ValueError as `top`.
    """
    import pandas
    return pandas.DataFrame(self._table(direction, k))

  def _table(self, direction, k):
    """The columns of `to_pandas`."""
    _check_k('to_pandas', 1 if k is None else k)
    queries, candidates = self._ids(direction)
    scores = self._ranking(direction)
    order = np.argsort(-scores, 1, kind='stable')[:, :k]
    picked = np.take_along_axis(scores, order, 1)
    keep = np.isfinite(picked)
    row, place = np.nonzero(keep)
    column = order[keep]
    table = {'query': np.array(queries, object)[row],
             'candidate': np.array(candidates, object)[column],
             'rank': place + 1, 'score': picked[keep]}
    names = {'candidate': 'candidate_likelihood', 'query': 'query_likelihood',
             'prior': 'prior'}
    parts = self._directions()[direction]
    for part in PARTS:
      matrix = getattr(parts, part)
      if matrix is not None:
        table[names[part]] = np.broadcast_to(matrix, scores.shape)[row, column]
    return table

  def to_parquet(self, path: str | os.PathLike,
                 direction: str = 'text_to_video', k: int | None = None
                 ) -> None:
    """Writes the columns of `to_pandas`, which need no pandas, to a file."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    with files.replacing(path) as part:
      pq.write_table(pa.table(self._table(direction, k)), part)

  def to_trec(self, path: str | os.PathLike, direction: str = 'text_to_video',
              k: int | None = None, tag: str = 'jaxret') -> None:
    """Writes a run of TREC, of each query the best k; see scoring.trec."""
    _check_k('to_trec', 1 if k is None else k)
    queries, candidates = self._ids(direction)
    trec.write_run(path, self._ranking(direction), queries, candidates,
                   k or len(candidates), tag)

  def _directions(self):
    likelihoods = evaluator.Likelihoods(
        self.text_given_video, self.text_prior, self.video_given_text,
        self.video_prior)
    return evaluator.directions(likelihoods)

  def _ids(self, direction):
    sides = {'text_to_video': (self.text_ids, self.video_ids),
             'video_to_text': (self.video_ids, self.text_ids)}
    if direction not in sides:
      raise ValueError(f'direction {direction!r}: want one of '
                       f'{", ".join(sides)}')
    return sides[direction]

  def _ranking(self, direction, alpha=None, query_weight=None, normalize=None,
               temperature=None):
    self._ids(direction)
    parts = self._directions()[direction]
    weights = self.chosen.weights[direction]
    weights = with_given(
        direction, weights, alpha, query_weight,
        both=parts.candidate is not None and parts.query is not None,
        alone=parts.candidate is not None)
    scores = cpn.bidirectional(parts, weights)
    scores = np.asarray(scores, np.float32)
    if normalize is not None:
      all_queries.check(normalize)
      if temperature is None:
        temperature = self._temperature(direction, normalize)
      return np.asarray(
          all_queries.normalized(normalize, scores, temperature))
    if temperature is not None:
      raise ValueError(f'{direction}: temperature has no effect without '
                       'normalize: set it, or leave temperature out')
    return np.where(np.isnan(scores), np.float32(-np.inf), scores)

  def _temperature(self, direction, normalize):
    chosen = (self.chosen.temperatures or {}).get(direction, {})
    if normalize not in chosen:
      raise ValueError(
          f'{direction}: no temperature was chosen for {normalize!r}: give '
          'one, or evaluate the workdir with a validation split')
    return chosen[normalize]


def _check_k(call, k):
  if k < 1:
    raise ValueError(f'{call}: got k = {k}, want 1 at least')


def with_given(direction: str, weights: cpn.Weights, alpha: float | None,
               query_weight: float | None, both: bool, alone: bool
               ) -> cpn.Weights:
  """The weights with what a caller gives in place of them.

  both: the model has both likelihoods; alone: it has the candidate's at least.
  Raises ValueError for a weight outside of 0 to 1, or one without effect.
  """
  has = {'alpha': both or alone, 'query_weight': both}
  for name, value in (('alpha', alpha), ('query_weight', query_weight)):
    if value is None:
      continue
    if not 0 <= value <= 1:
      raise ValueError(f'{direction}: {name} is {value!r}, want 0 to 1')
    if not has[name]:
      raise ValueError(
          f'{direction}: {name} has no effect on these scores, which lack '
          'log P(video | text) (zero-shot): leave it out')
  if alpha is not None:
    weights = weights._replace(alpha=alpha)
  if query_weight is not None:
    weights = weights._replace(c=query_weight)
  return weights


def chosen(config: 'ConfigDict', workdir: str | None) -> Chosen:
  """The weights of BLiM's row that a workdir's evaluation chose.

  Those of the paper, as the config has them, where it has not evaluated or
  there is no workdir. Raises ValueError for a results.json that is damaged.
  """
  paper = {name: rows['blim'] for name, rows in paper_weights(config).items()}
  path = workdir and pathlib.Path(workdir) / 'results.json'
  if not path or not path.is_file():
    return Chosen(paper, 'paper')
  try:
    table = json.loads(path.read_text())['weights']
    rows = {name: table[name]['blim'] for name in evaluator.DIRECTIONS}
    found = {name: cpn.Weights(float(row['alpha']), float(row['query_weight']))
             for name, row in rows.items()}
    on = {row['chosen_on'] for row in rows.values()}
    temperatures = {
        name: {method: float(table[name][f'blim_{method}']['temperature'])
               for method in all_queries.METHODS
               if f'blim_{method}' in table[name]} for name in rows}
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f'{path}: holds no weights of BLiM '
                     f'({type(error).__name__}: {error}); evaluate again with '
                     '--config.task=evaluate') from error
  return Chosen(found, ' and '.join(sorted(on)), temperatures)


def paper_weights(config: 'ConfigDict'
                  ) -> dict[str, dict[str, cpn.Weights]]:
  """{direction: {row: Weights}} as fixed in the config."""
  alpha, c = config.eval.alpha, config.eval.c
  if config.eval.zero_shot:
    alpha, c = config.eval.zero_shot_alpha, config.eval.zero_shot_c
  return {'text_to_video': cpn.fixed(alpha[0], c[0], c[2]),
          'video_to_text': cpn.fixed(alpha[1], c[1], c[3])}
