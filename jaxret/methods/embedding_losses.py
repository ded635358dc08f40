"""What methods that embed are trained on besides their own contrast.

Fields of `config.loss`: false negatives, prefixes of embeddings, scores of a
teacher, graded pairs. Configs of old work directories have none of them.
"""
from typing import NamedTuple

import jax.numpy as jnp

from jaxret import losses
from jaxret.data import pair_examples

NO_MARGIN = 2.0  # between cosines there is no larger difference
# Fields that say how queries are contrasted, and their values of no effect.
_OF_CONTRAST = {
    'dual': False, 'modality_mask': False, 'multi_positive': False,
    'false_negative_margin': NO_MARGIN, 'distillation_weight': 0.0}


class Settings(NamedTuple):
  """The fields, see configs/objectives.py; margin: None = nothing is masked."""
  margin: float | None
  dims: tuple[int, ...]
  weights: tuple[float, ...]
  distillation_weight: float
  distillation_temperature: float
  graded_temperature: float
  temperature: float


def settings_of(loss):
  """The Settings of a section `loss`."""
  margin = getattr(loss, 'false_negative_margin', NO_MARGIN)
  return Settings(
      margin if margin < NO_MARGIN else None,
      tuple(getattr(loss, 'matryoshka_dims', ())),
      tuple(getattr(loss, 'matryoshka_weights', ())),
      getattr(loss, 'distillation_weight', 0.0),
      getattr(loss, 'distillation_temperature', 1.0),
      getattr(loss, 'graded_temperature', 0.05), loss.temperature)


def total(loss, contrast, embeddings, batch):
  """float32 [B], what a step takes the mean of.

  loss: the section of the config. contrast: (embeddings, margin) -> [B], a
  method's own. embeddings: {side: unit vectors} of the whole batch, as
  base.Method.embed gives them. batch: as pair_examples.PairExamples gives it.
  Graded pairs are compared with each other, and contrasted with nothing.
  """
  given = settings_of(loss)

  def of_prefix(vectors):
    query, candidate = vectors['query'], vectors['candidate']
    if 'grade' in batch:
      value = losses.cosent(jnp.sum(query * candidate, -1), batch['grade'],
                            given.graded_temperature)
      return jnp.broadcast_to(value, len(query))
    value = contrast(vectors, given.margin)
    if given.distillation_weight and 'teacher' in batch:
      value += given.distillation_weight * losses.distillation(
          query, candidate, vectors['negative'], given.temperature,
          batch['teacher'], given.distillation_temperature)
    return value

  return losses.matryoshka(of_prefix, embeddings, given.dims, given.weights)


def stacked_negatives(embeddings):
  """`negative` [B, N, D] in place of several sides negative, negative1, ..."""
  several = [side for side in embeddings if side.startswith('negative')]
  if len(several) < 2:
    return embeddings
  rest = {side: vectors for side, vectors in embeddings.items()
          if side not in several}
  several.sort(key=pair_examples.number)
  return {**rest, 'negative': jnp.stack(
      [embeddings[side] for side in several], 1)}


def check(config, width=None):
  """Raises ValueError for fields that no embedding can be trained with.

  width: of an embedding, where it is known.
  """
  loss, kept = config.loss, config.eval.get('truncate_dim', 0)
  if type(kept) is not int or kept > (width or kept):
    raise ValueError(f'eval.truncate_dim is {kept!r}, want a whole number up '
                     f'to {width or "the width of an embedding"}, 0 = all')
  dims = tuple(getattr(loss, 'matryoshka_dims', ()))
  weights = tuple(getattr(loss, 'matryoshka_weights', ()))
  if any(type(dim) is not int or not 1 <= dim <= (width or dim)
         for dim in dims) or len(set(dims)) < len(dims):
    raise ValueError(
        f'loss.matryoshka_dims is {dims!r}, want whole numbers from 1 to '
        f'{width or "the width of an embedding"}, each once')
  if weights and len(weights) != len(dims):
    raise ValueError(
        f'loss.matryoshka_weights has {len(weights)} numbers for {len(dims)} '
        'of loss.matryoshka_dims, want one for each, or none')
  graded = getattr(loss, 'graded', '')
  if graded not in ('', 'cosent'):
    raise ValueError(f"loss.graded is {graded!r}, want 'cosent' or ''")


def check_pairs(loss, sources):
  """Raises ValueError where the fields of the loss and the pairs do not fit.

  sources: {name: pairs}; those of one are alike.
  """
  def named(field):
    return [name for name, pairs in sources.items()
            if getattr(pairs[0], field, None) is not None]
  graded, taught = named('grade'), named('scores')
  if graded and not getattr(loss, 'graded', ''):
    raise ValueError(
        f"pairs of {graded[0]} have grades: set loss.graded='cosent' to train "
        'on them, or leave it out of pairs.sources')
  if getattr(loss, 'graded', '') and not graded:
    raise ValueError(
        f'loss.graded is {loss.graded!r}, and no pair of '
        f'{", ".join(sources)} has a grade: leave it empty')
  if getattr(loss, 'distillation_weight', 0.0) and not taught:
    raise ValueError(
        f'loss.distillation_weight is {loss.distillation_weight!r}, and no '
        f'pair of {", ".join(sources)} has scores of a teacher: set it to 0, '
        'or give negatives with scores')
  if len(graded) == len(sources):
    for field, value in _OF_CONTRAST.items():
      if (given := getattr(loss, field, value)) != value:
        raise ValueError(
            f'loss.{field} is {given!r}, which has no effect on graded pairs, '
            f'and all are: set it to {value!r}')
