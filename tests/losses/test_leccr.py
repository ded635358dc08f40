"""LECCR's losses against loops over pairs, and where JAX and torch differ."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret.losses import leccr as losses


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def unit(x, axis=-1):
  return x / np.linalg.norm(x, axis=axis, keepdims=True)


def log_softmax(logits):
  logits = np.asarray(logits, np.float64)
  return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_contrastive_equals_a_loop():
  """Rows 0 and 2 are captions of one image: both are positives of both."""
  left, right, labels = unit(normal(4, 6)), unit(normal(4, 6, seed=1)), [
      7, 3, 7, 5]
  got = losses.contrastive(left, right, 0.5, np.array(labels))
  for i in range(4):
    want = 0.0
    for rows in (left @ right.T, right @ left.T):
      logs = log_softmax(rows[i] / 0.5)
      same = [j for j in range(4) if labels[j] == labels[i]]
      want -= sum(logs[j] for j in same) / len(same) / 2
    assert got[i] == pytest.approx(want, abs=1e-5)


def test_first_max_gives_a_tied_gradient_to_the_first():
  x = jnp.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
  gradient = jax.grad(lambda x: losses.first_max(x, 1).sum())(x)
  np.testing.assert_array_equal(gradient, [[0, 1, 0], [1, 0, 0]])
  split = jax.grad(lambda x: jnp.max(x, 1).sum())(x)
  assert split[0, 1] == 0.5  # the trap


def test_unit_of_zero_has_a_finite_gradient():
  x = jnp.array([[0.0, 0.0], [3.0, 4.0]])
  np.testing.assert_allclose(losses.unit(x), [[0, 0], [0.6, 0.8]])
  gradient = jax.grad(lambda x: losses.unit(x)[:, 0].sum())(x)
  assert np.isfinite(gradient).all()
  np.testing.assert_allclose(gradient[1], [0.128, -0.096], atol=1e-6)
  plain = jax.grad(lambda x: (x / jnp.linalg.norm(
      x, axis=-1, keepdims=True))[:, 0].sum())(x)
  assert np.isnan(plain[0]).any()  # the trap


def test_slot_similarity_and_contrast_equal_a_loop():
  slots, texts = normal(4, 3, 5), unit(normal(4, 5, seed=1))
  logits = np.array([[max(texts[j] @ slots[i, k] for k in range(3))
                      for j in range(4)] for i in range(4)])
  np.testing.assert_allclose(
      losses.slot_similarity(slots, texts), logits, atol=1e-5)
  got = losses.slot_contrastive(slots, texts, 0.7)
  for i in range(4):
    want = -(log_softmax(logits[i] / 0.7)[i]
             + log_softmax(logits[:, i] / 0.7)[i]) / 2
    assert got[i] == pytest.approx(want, abs=1e-5)


def test_groups_do_not_see_each_other():
  slots, texts = normal(6, 2, 5), unit(normal(6, 5, seed=1))
  got = losses.slot_contrastive(slots, texts, 0.7, groups=3)
  for first in (0, 2, 4):
    part = slice(first, first + 2)
    np.testing.assert_allclose(
        got[part], losses.slot_contrastive(slots[part], texts[part], 0.7),
        atol=1e-6)
  with pytest.raises(ValueError, match='batch of 6 does not split into 4'):
    losses.slot_contrastive(slots, texts, 0.7, groups=4)


def test_regularization_is_signed():
  """Two slots at 120 degrees: cosine -1/2, below that of orthogonal ones."""
  angle = np.pi * 2 / 3
  slots = np.array([[[2, 0], [np.cos(angle), np.sin(angle)]]], np.float32)
  np.testing.assert_allclose(
      losses.slot_regularization(slots), [-0.25], atol=1e-6)
  np.testing.assert_allclose(losses.slot_regularization(
      np.eye(2, dtype=np.float32)[None]), [0], atol=1e-6)


@pytest.mark.parametrize('norm_axis', ['feature', 'sequence'])
def test_description_vision_equals_a_loop(norm_axis):
  """Padded tokens are neither normed nor averaged."""
  slots, visual = normal(3, 2, 4), normal(3, 5, 4, seed=1)
  lengths, labels = [5, 2, 3], np.array([1, 1, 0])
  mask = np.arange(5) < np.array(lengths)[:, None]
  axis = {'feature': -1, 'sequence': 0}[norm_axis]
  similarity = np.zeros((3, 3))
  for i in range(3):
    for j in range(3):
      c, v = unit(slots[i], axis), unit(visual[j, :lengths[j]], axis)
      similarity[i, j] = np.mean([[a @ b for b in v] for a in c])
  wanted = -(losses.soft_labels(labels) * log_softmax(similarity)).sum(1)
  got = losses.description_vision(slots, visual, labels, norm_axis, mask)
  np.testing.assert_allclose(got, wanted, atol=1e-5)
  noise = np.where(mask[..., None], visual, 9.0)
  np.testing.assert_allclose(losses.description_vision(
      slots, noise, labels, norm_axis, mask), got, atol=1e-6)


def test_gradient_past_padding_is_finite():
  def loss(visual):
    mask = np.array([[True, False], [True, True]])
    return losses.description_vision(
        normal(2, 2, 4), visual, np.arange(2), 'feature', mask).sum()
  gradient = jax.grad(loss)(normal(2, 2, 4, seed=1))
  assert np.isfinite(gradient).all() and not gradient[0, 1].any()


@pytest.mark.parametrize('slot_rows', ['text', 'image'])
def test_softened_matching_equals_a_loop(slot_rows):
  source, target = unit(normal(3, 4)), unit(normal(3, 4, seed=1))
  visual, slots = unit(normal(3, 4, seed=2)), normal(3, 2, 4, seed=3)
  def scaled(matrix):
    return (matrix - matrix.min()) / (matrix.max() - matrix.min())
  by_visual = scaled(source @ visual.T)
  by_slots = scaled(np.array(
      [[max(source[t] @ slots[v, k] for k in range(2)) for v in range(3)]
       for t in range(3)]))
  if slot_rows == 'image':  # as released: rows and columns exchanged
    by_slots = by_slots.T
  wanted = np.exp(log_softmax(0.8 * by_visual + 0.2 * by_slots))
  got = losses.softened_targets(source, visual, slots, 0.8, slot_rows)
  np.testing.assert_allclose(got, wanted, atol=1e-5)
  divergence = (wanted * (np.log(wanted) - log_softmax(target @ visual.T)))
  np.testing.assert_allclose(
      losses.softened_matching(target, visual, got), divergence.sum(1),
      atol=1e-5)


def test_softened_targets_of_equal_scores_are_flat():
  same = np.tile(unit(normal(1, 4)), (3, 1))
  got = losses.softened_targets(same, same, np.ones((3, 2, 4)))
  np.testing.assert_allclose(got, np.full((3, 3), 1 / 3), atol=1e-6)


def test_presets_differ_in_every_field():
  released, corrected = (losses.PRESETS[name] for name in (
      'released', 'corrected'))
  for name, value in vars(released).items():
    assert value != vars(corrected)[name], name


@pytest.mark.parametrize('function, message', [
    (functools.partial(losses.softened_targets, np.eye(2), np.eye(2),
                       np.ones((2, 1, 2)), 0.8, 'rows'), "slot_rows 'rows'"),
    (functools.partial(losses.description_vision, np.ones((1, 1, 1)),
                       np.ones((1, 1, 1)), np.zeros(1), 'dim'), "'dim' is not"),
])
def test_unknown_choices_are_refused_in_one_line(function, message):
  with pytest.raises(ValueError, match=message) as caught:
    function()
  assert '\n' not in str(caught.value)
