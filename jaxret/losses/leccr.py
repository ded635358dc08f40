"""LECCR's losses, one value per example in float32.

Source: arXiv 2409.19961 and the authors' code; where a loss departs from what
the paper says, both forms are there. Under `jit` with a sharded batch each
sees the global batch; `groups` > 1 cuts it into as many parts that do not see
each other, as on the authors' GPUs.
"""
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

EPSILON = 1e-12


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What the released code does otherwise than the paper says.

  norm_axis of the description-vision loss: 'feature', or 'sequence'.
  slot_rows of the softened targets: 'text', or 'image'. query_init: 'normal'
  or 'zeros'. slot_scope of the slots' contrast, and in video of the
  description-vision loss: 'global', or 'local' to each of the authors' GPUs.
  padded_frames in the description-vision loss: 'skip' or 'count'. select_on:
  'validation' or 'test'.
  """
  norm_axis: str
  slot_rows: str
  query_init: str
  slot_scope: str
  padded_frames: str
  select_on: str


PRESETS = {
    'released': Recipe('sequence', 'image', 'zeros', 'local', 'count', 'test'),
    'corrected': Recipe('feature', 'text', 'normal', 'global', 'skip',
                        'validation')}


def unit(x: Array, axis: int = -1) -> Array:
  """x / |x| along an axis, of any shape; 0 stays, with a finite gradient."""
  square = jnp.sum(jnp.square(x), axis, keepdims=True)
  is_zero = square == 0
  # The root's gradient at 0 is infinite: keep 0 out of it.
  norm = jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, square)))
  return x / jnp.maximum(norm, EPSILON)


def first_max(x: Array, axis: int) -> Array:
  """The maximum along an axis, which goes; its gradient to the first of ties.

  As PyTorch's max with indices. `jnp.max` splits it evenly: slots that start
  equal would stay equal.
  """
  index = jnp.expand_dims(jnp.argmax(jax.lax.stop_gradient(x), axis), axis)
  return jnp.squeeze(jnp.take_along_axis(x, index, axis), axis)


def soft_labels(labels: Array) -> Array:
  """Targets of rows that share a label, equal parts of 1.

  labels: int [B]. Returns float32 [B, B], rows sum to 1.
  """
  same = (labels[:, None] == labels[None]).astype(jnp.float32)
  return same / jnp.sum(same, 1, keepdims=True)


def _cross_entropy(logits, targets):
  """Of each row: [B, C], and targets [B, C] that sum to 1 -> [B]."""
  return -jnp.sum(targets * jax.nn.log_softmax(logits, 1), 1)


def contrastive(left: Array, right: Array, temperature: ArrayLike,
                labels: Array | None = None) -> Array:
  """Symmetric InfoNCE; those that share a label are all positives.

  Args:
    left, right: [B, E], unit vectors; temperature: scalar, divides.
    labels: int [B]; None = each row's positive is its own.

  Returns:
    float32 [B], the mean of both directions.
  """
  logits = _products('LE,RE->LR', left, right) / temperature
  targets = jnp.eye(len(left)) if labels is None else soft_labels(labels)
  return (_cross_entropy(logits, targets)
          + _cross_entropy(logits.T, targets)) / 2


def slot_similarity(slots: Array, texts: Array) -> Array:
  """max over k of slots[i, k] . texts[j], float32 [V, T].

  slots: [V, n, E]; texts: [T, E].
  """
  return first_max(_products('VnE,TE->VnT', slots, texts), 1)


def slot_contrastive(slots: Array, texts: Array, temperature: ArrayLike,
                     groups: int = 1) -> Array:
  """Symmetric InfoNCE of each item's best slot and the texts.

  Each row's positive is its own, also where items repeat. The authors compare
  within one GPU: `groups` parts of the batch.

  Args:
    slots: [B, n, E], not normalised; texts: [B, E]; temperature: scalar.

  Returns:
    float32 [B], the mean of both directions.

  Raises:
    ValueError: if B is no multiple of `groups`.
  """
  def contrast(slots, texts):
    logits = slot_similarity(slots, texts) / temperature
    targets = jnp.eye(len(texts))
    return (_cross_entropy(logits, targets)
            + _cross_entropy(logits.T, targets)) / 2
  return _in_groups(contrast, groups, slots, texts)


def slot_regularization(raw_slots: Array) -> Array:
  """Mean over the n x n cosines of an item's slots, less the identity.

  Signed, not squared: slots are pushed apart beyond orthogonality.
  raw_slots: [B, n, V]. Returns float32 [B].
  """
  units = unit(raw_slots)
  cosines = _products('BiV,BjV->Bij', units, units)
  return jnp.mean(cosines - jnp.eye(raw_slots.shape[1]), (1, 2))


def description_vision(
    slots: Array, visual: Array, labels: Array, norm_axis: str = 'feature',
    mask: Array | None = None, groups: int = 1) -> Array:
  """Matches the slots of a description with visual tokens, one direction.

  Args:
    slots: [B, n, V]; visual: [B, T, V]; labels: int [B].
    norm_axis: 'feature', or 'sequence' as the authors, whose norm runs over
      the slots or tokens of each feature.
    mask: bool [B, T], the tokens that count; None = all.
    groups: as in the authors' video model, which does not gather here.

  Returns:
    float32 [B], one per description; no temperature.

  Raises:
    ValueError: for another norm_axis, or if B is no multiple of `groups`.
  """
  if mask is None:
    mask = jnp.ones(visual.shape[:2], bool)
  def match(slots, visual, labels, mask):
    similarity = description_similarity(slots, visual, norm_axis, mask)
    return _cross_entropy(similarity, soft_labels(labels))
  return _in_groups(match, groups, slots, visual, labels, mask)


def description_similarity(
    slots: Array, visual: Array, norm_axis: str, mask: Array) -> Array:
  """Mean over slots and tokens of their products, rows descriptions.

  Arguments as for `description_vision`, the mask given. Returns float32
  [B, B].
  """
  if norm_axis not in ('feature', 'sequence'):
    raise ValueError(f"norm_axis {norm_axis!r} is not known; want 'feature' or "
                     "'sequence'")
  axis = -1 if norm_axis == 'feature' else 1
  kept = mask[..., None]
  slots = unit(slots, axis)
  visual = unit(jnp.where(kept, visual, 0.0), axis)
  # The mean of products is the product of the means.
  tokens = jnp.sum(visual, 1) / jnp.sum(kept, 1)
  return _products('CV,IV->CI', jnp.mean(slots, 1), tokens)


def softened_targets(
    source: Array, visual: Array, slots: Array | None, alpha: float = 0.8,
    slot_rows: str = 'text') -> Array:
  """How well each visual fits each English text, for another language.

  Similarities of English captions with visuals and with slots, each brought to
  0..1 over the whole matrix, are mixed and go through a softmax (no
  temperature). Nothing is learned through them.

  Args:
    source, visual: [B, E], unit vectors; slots: [B, n, E], None = the visuals
      alone. alpha: share of the visuals.
    slot_rows: 'text', or 'image' as the authors, who add the slots' matrix
      transposed.

  Returns:
    float32 [B, B], rows texts, which sum to 1.

  Raises:
    ValueError: for another slot_rows.
  """
  if slot_rows not in ('text', 'image'):
    raise ValueError(
        f"slot_rows {slot_rows!r} is not known; want 'text' or 'image'")
  mixed = min_max(_products('TE,VE->TV', source, visual))
  if slots is not None:
    by_slots = min_max(slot_similarity(slots, source))
    by_slots = by_slots.T if slot_rows == 'text' else by_slots
    mixed = alpha * mixed + (1 - alpha) * by_slots
  return jax.lax.stop_gradient(jax.nn.softmax(mixed, 1))


def softened_matching(target: Array, visual: Array, targets: Array) -> Array:
  """KL of `softened_targets` from the target language's similarities.

  target, visual: [B, E], unit vectors; targets: [B, B]. Returns float32 [B],
  one per text.
  """
  logits = jax.nn.log_softmax(_products('TE,VE->TV', target, visual), 1)
  return jnp.sum(jax.scipy.special.xlogy(targets, targets)
                 - targets * logits, 1)


def min_max(x: Array) -> Array:
  """To 0..1 over the whole array; all 0 where it is constant."""
  low, high = jnp.min(x), jnp.max(x)
  return (x - low) / jnp.where(high > low, high - low, 1.0)


def terms(features: Any, recipe: Recipe, labels: Array,
          mask: Array | None = None, alpha: float = 0.8, gpus: int = 1
          ) -> dict[str, Array]:
  """{name: float32 [B]} of every loss, unweighted.

  A model without slots has the first four alone. The authors' local terms
  weigh `gpus` times more against the gathered ones, whose gradients they do
  not reduce: to reproduce that, raise the weights of slots and regularization.

  Args:
    features: a models.leccr.Features of B examples.
    labels: int [B], the visual of each.
    mask: bool [B, T] of visual tokens; None for images, all of whose count.
    alpha: see `softened_targets`.
    gpus: how many the authors' run had, for what is local to each.
  """
  groups = gpus if recipe.slot_scope == 'local' else 1
  contrast = functools.partial(
      contrastive, temperature=features.temperature, labels=labels)
  parts: dict[str, Any] = {
      'source': contrast(features.visual, features.source),
      'target': contrast(features.visual, features.target),
      'languages': contrast(features.source, features.target)}
  targets = softened_targets(
      features.source, features.visual, features.slots, alpha, recipe.slot_rows)
  parts['softened'] = softened_matching(
      features.target, features.visual, targets)
  if features.slots is None:
    return parts
  parts['slot'] = sum(
      slot_contrastive(features.slots, text, features.temperature, groups)
      for text in (features.source, features.target))
  parts['regularization'] = slot_regularization(features.raw_slots)
  if mask is not None and recipe.padded_frames == 'count':
    # As the authors, whose batches are as long as their longest video.
    mask = jnp.broadcast_to(mask.any(0), mask.shape)
  parts['description'] = description_vision(
      features.matched_slots, features.matched_visual, labels, recipe.norm_axis,
      mask, 1 if mask is None else groups)
  return parts


def total(parts: Mapping[str, Array], weights: Mapping[str, float]) -> Array:
  """The weighted sum, float32 [B].

  weights: softened_weight, slot_weight, regularization_weight and
  description_weight, by name.
  """
  share = weights['softened_weight']
  value = (parts['source'] + parts['languages']
           + (1 - share) * parts['target'] + share * parts['softened'])
  for name in ('slot', 'regularization', 'description'):
    if name in parts:
      value = value + weights[f'{name}_weight'] * parts[name]
  return value


def _products(equation, left, right):
  return jnp.einsum(equation, left, right,
                    preferred_element_type=jnp.float32)


def _in_groups(function, groups, *arrays):
  """The function of each of `groups` equal parts of the batch, [B]."""
  if groups == 1:
    return function(*arrays)
  size = len(arrays[0])
  if size % groups:
    raise ValueError(f'a batch of {size} does not split into {groups} groups: '
                     'make the batch a multiple, or the groups fewer')
  parts = [array.reshape(groups, -1, *array.shape[1:]) for array in arrays]
  return jax.vmap(function)(*parts).reshape(size)
