"""Contrastive losses against Python loops."""
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import losses


def normal(*shape, seed=0, dtype=np.float32):
  return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def contrastive_loop(queries, candidates, temperature, labels):
  """Float64 losses of each pair, both directions averaged."""
  n, values = len(queries), []
  score = queries.astype(np.float64) @ candidates.T.astype(
      np.float64) / temperature
  for i in range(n):
    others = [j for j in range(n) if j == i or labels[j] != labels[i]]
    row = math.log(sum(math.exp(score[i, j]) for j in others))
    column = math.log(sum(math.exp(score[j, i]) for j in others))
    values.append((row + column) / 2 - score[i, i])
  return values


@pytest.mark.parametrize('labels', [(0, 1, 2, 3), (0, 1, 0, 0), (2, 2, 2, 2)])
def test_info_nce_leaves_out_pairs_of_one_label(labels):
  queries, candidates = normal(4, 6), normal(4, 6, seed=1)
  queries /= np.linalg.norm(queries, axis=1, keepdims=True)
  candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
  labels = np.array(labels, np.int32)
  got = losses.info_nce(queries, candidates, 0.07, labels)
  np.testing.assert_allclose(
      got, contrastive_loop(queries, candidates, 0.07, labels), atol=1e-5)
  gradient = jax.grad(lambda q: losses.info_nce(
      q, candidates, 0.07, labels).sum())(queries)
  assert np.isfinite(gradient).all()


def modal_by_loops(query, candidate, codes, tau, negatives=(), matches=None):
  """-log softmax over the candidates of the target's code, one by one."""
  values = []
  for i, q in enumerate(query):
    scores = [q @ c / tau for j, c in enumerate(candidate)
              if codes[i] == codes[j]]
    total = np.log(sum(np.exp(s) for s in scores)
                   + sum(np.exp(q @ n / tau) for n in negatives))
    own = [i] if matches is None else [
        j for j in range(len(candidate))
        if matches[i] == matches[j] and codes[i] == codes[j]]
    values.append([total - q @ candidate[j] / tau for j in own])
  return values


def modal_problem():
  random = np.random.default_rng(3)
  q, c, n = random.normal(size=(3, 6, 4))
  codes = np.array([1, 2, 3, 1, 2, 1])
  return q, c, n, codes, np.array([0, 1, 2, 0, 0, 3])


def test_modal_contrastive_by_loops():
  q, c, n, codes, _ = modal_problem()
  for negatives in (None, n):
    got = losses.modal_contrastive(
        *(jnp.asarray(x, jnp.float32) for x in (q, c)), 0.5,
        jnp.asarray(codes), negatives)
    want = modal_by_loops(q, c, codes, 0.5, () if negatives is None else n)
    np.testing.assert_allclose(got, [v for v, in want], rtol=1e-4)
    assert got.dtype == jnp.float32


def test_corrected_modal_contrastive_by_loops():
  """Both directions masked, positives averaged within their modality."""
  q, c, n, codes, groups = modal_problem()
  got = losses.modal_contrastive(
      *(jnp.asarray(x, jnp.float32) for x in (q, c)), 0.5, jnp.asarray(codes),
      jnp.asarray(n, jnp.float32), jnp.asarray(groups), dual=True,
      released=False)
  forward = modal_by_loops(q, c, codes, 0.5, n, groups)
  back = modal_by_loops(c, q, codes, 0.5, (), groups)
  np.testing.assert_allclose(
      got, [(np.mean(f) + np.mean(b)) / 2 for f, b in zip(forward, back)],
      rtol=1e-4)


def test_released_modal_contrastive_leaves_the_way_back_unmasked():
  q, c, _, codes, _ = modal_problem()
  q, c = (jnp.asarray(x, jnp.float32) for x in (q, c))
  released, corrected = (losses.modal_contrastive(
      q, c, 0.5, jnp.asarray(codes), dual=True, released=released)
      for released in (True, False))
  plain = losses.modal_contrastive(c, q, 0.5)
  masked = losses.modal_contrastive(q, c, 0.5, jnp.asarray(codes))
  np.testing.assert_allclose(released, (plain + masked) / 2, rtol=1e-5)
  assert (np.asarray(corrected) <= np.asarray(released) + 1e-6).all()
  assert np.abs(corrected - released).max() > 0.01


@pytest.mark.parametrize('dedup', [False, True])
def test_one_way_info_nce_by_loops(dedup):
  q, c, _, _, documents = modal_problem()
  n = np.random.default_rng(4).normal(size=(6, 2, 4))
  others = np.array([[0, 7], [8, 0], [2, 2], [9, 1], [3, 0], [5, 3]])
  got = losses.one_way_info_nce(
      *(jnp.asarray(x, jnp.float32) for x in (q, c)), 0.5,
      jnp.asarray(n, jnp.float32), *(
          (jnp.asarray(documents), jnp.asarray(others)) if dedup else ()))
  for i in range(6):
    kept = [q[i] @ c[j] / 0.5 for j in range(6)
            if i == j or not dedup or documents[j] != documents[i]]
    kept += [q[i] @ x / 0.5 for x, document in zip(
        n.reshape(-1, 4), others.ravel())
        if not dedup or document != documents[i]]
    want = np.log(np.exp(kept).sum()) - q[i] @ c[i] / 0.5
    np.testing.assert_allclose(got[i], want, rtol=1e-4)


def false_by_loops(score, margin, ids, others):
  """{(row, column)} of what is left out."""
  return {(i, j) for i in range(len(score)) for j in range(score.shape[1])
          if i != j and (score[i, j] > score[i, i] + margin
                         or ids[i] == [*ids, *others.ravel()][j])}


def masked_problem():
  q, c, n, codes, documents = modal_problem()
  q, c, n = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, c, n))
  c = q + 0.8 * c  # most answers are the best, some are not
  c /= np.linalg.norm(c, axis=1, keepdims=True)
  return q, c, n.reshape(6, 1, 4), codes, documents, np.array(
      [7, 0, 8, 2, 9, 1])


@pytest.mark.parametrize('margin', [0.0, 0.1, 0.5])
def test_false_negatives_are_left_out_one_by_one(margin):
  q, c, n, codes, ids, others = masked_problem()
  score = q @ np.concatenate([c, n[:, 0]]).T
  out = false_by_loops(score, margin, ids, others)
  assert any(j < 6 for _, j in out) and any(j >= 6 for _, j in out)
  given = [jnp.asarray(x, jnp.float32) for x in (q, c)]
  numbers = jnp.asarray(ids), jnp.asarray(others)
  hard = jnp.asarray(n, jnp.float32)
  one_way = losses.one_way_info_nce(*given, 0.3, hard, *numbers, margin)
  modal = losses.modal_contrastive(
      *given, 0.3, jnp.asarray(codes), hard, margin=margin, ids=numbers[0],
      negative_ids=numbers[1])
  for i in range(6):
    kept = [j for j in range(12) if (i, j) not in out]
    for got, columns in (
        (one_way, kept),
        (modal, [j for j in kept if j >= 6 or codes[i] == codes[j]])):
      want = np.log(np.exp(score[i, columns] / 0.3).sum()) - score[i, i] / 0.3
      np.testing.assert_allclose(got[i], want, rtol=1e-4)
  gradient = jax.grad(lambda q: losses.modal_contrastive(
      q, given[1], 0.3, None, hard, margin=margin, ids=numbers[0],
      negative_ids=numbers[1]).sum())(given[0])
  assert np.isfinite(gradient).all()


def test_positives_are_never_false_negatives():
  """Another answer may be as similar as it likes; the way back is masked."""
  q, c, _, codes, ids, _ = masked_problem()
  score = q @ c.T
  got = losses.modal_contrastive(
      *(jnp.asarray(x, jnp.float32) for x in (q, c)), 0.3, jnp.asarray(codes),
      positives=jnp.asarray(ids), dual=True, released=False, margin=0.0,
      ids=jnp.asarray(ids))
  none = np.zeros(0, int)
  for i in range(6):
    want = []
    for s in (score, score.T):
      own = [j for j in range(6) if ids[i] == ids[j] and codes[i] == codes[j]]
      out = false_by_loops(s, 0.0, ids, none)
      kept = [j for j in range(6) if codes[i] == codes[j]
              and ((i, j) not in out or j in own)]
      total = np.log(np.exp(s[i, kept] / 0.3).sum())
      want.append(np.mean([total - s[i, j] / 0.3 for j in own]))
    np.testing.assert_allclose(got[i], np.mean(want), rtol=1e-4)


def test_a_margin_that_nothing_is_above_changes_nothing():
  q, c, n, codes, _, _ = masked_problem()
  q, c, n = (jnp.asarray(x, jnp.float32) for x in (q, c, n))
  np.testing.assert_array_equal(
      losses.one_way_info_nce(q, c, 0.3, n, margin=2.5),
      losses.one_way_info_nce(q, c, 0.3, n))
  np.testing.assert_array_equal(
      losses.modal_contrastive(q, c, 0.3, codes, n, margin=2.5),
      losses.modal_contrastive(q, c, 0.3, codes, n))
