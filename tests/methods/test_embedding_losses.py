"""Losses besides contrast: by NumPy, on one and eight devices, in chunks."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxret import gradients, sharding
from jaxret.data import types
from jaxret.data.sets import pair_files
from jaxret.methods import embedding_losses
from jaxret.methods.mm_embed import method as mm_embed
from jaxret.methods.unite import method as unite
from tests import tiny_unite

ROWS, WIDTH, NEGATIVES = 16, 8, 3
METHODS = {'unite': unite.embedding_loss, 'mm_embed': mm_embed.embedding_loss}
OPTIONS = {
    'margin': {'false_negative_margin': 0.1},
    'prefixes': {'matryoshka_dims': (8, 4, 2),
                 'matryoshka_weights': (1.0, 0.5, 0.25)},
    'teacher': {'distillation_weight': 0.7, 'distillation_temperature': 0.5},
    'all': {'false_negative_margin': 0.1, 'matryoshka_dims': (8, 3),
            'distillation_weight': 0.7}}


def settings(**fields):
  return ConfigDict({**tiny_unite.make_config().loss.to_dict(),
                     'mask_duplicates': True, 'temperature': 0.2, **fields})


def problem(grades=False):
  """(weights, batch): embeddings are unit vectors of rows times weights."""
  rng = np.random.default_rng(0)
  def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)
  document = rng.integers(0, 12, ROWS).astype(np.int32)
  batch = {'query': normal(ROWS, WIDTH),
           'modality': rng.integers(1, 3, ROWS), 'document': document,
           'positive': document}
  batch['candidate'] = batch['query'] + 0.8 * normal(ROWS, WIDTH)
  if grades:
    batch['grade'] = rng.integers(0, 4, ROWS).astype(np.float32)
  else:
    batch |= {'negative': normal(ROWS, NEGATIVES, WIDTH),
              'negative_id': rng.integers(0, 90, (ROWS, NEGATIVES)),
              'teacher': normal(ROWS, 1 + NEGATIVES)}
  return {'w': np.eye(WIDTH, dtype=np.float32) + 0.1 * normal(WIDTH, WIDTH)
          }, batch


def embed(weights, batch, key=None):
  del key
  found = {side: batch[side] @ weights['w']
           for side in ('query', 'candidate', 'negative') if side in batch}
  return {side: x / jnp.linalg.norm(x, axis=-1, keepdims=True)
          for side, x in found.items()}


def by_numpy(given, embeddings, batch):
  """Float64, row by row, column by column."""
  value = np.zeros(ROWS)
  dims = given.matryoshka_dims or (WIDTH,)
  for dim, weight in zip(dims, given.matryoshka_weights or [1.0] * len(dims)):
    q, c, n = (np.asarray(embeddings[side], np.float64)[..., :dim]
               for side in ('query', 'candidate', 'negative'))
    q, c, n = (x / np.linalg.norm(x, axis=-1, keepdims=True)
               for x in (q, c, n))
    flat, ids = n.reshape(-1, dim), [
        *batch['document'], *batch['negative_id'].ravel()]
    for i in range(ROWS):
      own, kept = q[i] @ c[i], []
      for j, column in enumerate((*c, *flat)):
        is_same = j != i and ids[j] == ids[i]
        above = j != i and q[i] @ column > own + given.false_negative_margin
        # UNITE leaves out the same document only with a margin.
        masked = is_same and (
            'mm_embed' == given.by or given.false_negative_margin < 2)
        if not (above or masked):
          kept.append(q[i] @ column / given.temperature)
      loss = np.logaddexp.reduce(kept) - own / given.temperature
      student = np.array([q[i] @ x for x in (c[i], *n[i])]) / given.temperature
      teacher = batch['teacher'][i] / given.distillation_temperature
      p, s = (np.exp(x - np.logaddexp.reduce(x)) for x in (
          np.float64(teacher), student))
      loss += given.distillation_weight * np.sum(p * np.log(p / s))
      value[i] += weight * loss
  return value


@pytest.mark.parametrize('option', OPTIONS)
@pytest.mark.parametrize('method', METHODS)
def test_a_loss_is_that_of_numpy_and_another_than_without(method, option):
  weights, batch = problem()
  given = settings(**OPTIONS[option])
  embeddings = embed(weights, batch)
  got, numbers = METHODS[method](given, embeddings, batch)
  given.by = method
  np.testing.assert_allclose(
      got, by_numpy(given, embeddings, batch), rtol=2e-4)
  plain, same = METHODS[method](settings(), embeddings, batch)
  assert abs(float(got.mean() - plain.mean())) > 0.01
  assert got.dtype == jnp.float32 and got.shape == (ROWS,)
  assert numbers == same  # the accuracy is that of whole embeddings


def test_graded_pairs_are_compared_with_each_other_alone():
  weights, batch = problem(grades=True)
  given = settings(graded='cosent', graded_temperature=0.1,
                   matryoshka_dims=(8, 2))
  embeddings = embed(weights, batch)
  got, _ = unite.embedding_loss(given, embeddings, batch)
  want = 0.0
  for dim in (8, 2):
    q, c = (np.asarray(embeddings[side], np.float64)[:, :dim]
            for side in ('query', 'candidate'))
    cosine = (q * c).sum(1) / np.linalg.norm(q, axis=1) / np.linalg.norm(
        c, axis=1)
    want += np.log1p(sum(
        np.exp((cosine[low] - cosine[high]) / 0.1)
        for high in range(ROWS) for low in range(ROWS)
        if batch['grade'][high] > batch['grade'][low]))
  np.testing.assert_allclose(got, np.full(ROWS, want), rtol=1e-4)


def step(method, given, chunks, devices):
  """(loss, gradient) of a global batch over the mesh of some devices."""
  mesh = sharding.make_mesh({'data': -1}, devices)
  weights, batch = problem(grades=bool(given.graded))
  def loss(embeddings, batch):
    return METHODS[method](given, embeddings, batch)
  def whole(weights, batch):
    values, _ = loss(embed(weights, batch), batch)
    return values.mean()
  def in_chunks(weights, batch):
    found, metrics = gradients.chunked(
        embed, loss, weights, batch, chunks, jax.random.key(0),
        lambda rows: jax.lax.with_sharding_constraint(
            rows, sharding.batch_sharding(mesh)))
    return metrics['loss'], found
  with jax.set_mesh(mesh):
    return sharding.to_host(jax.jit(
        in_chunks if chunks > 1 else jax.value_and_grad(whole))(
            {'w': sharding.replicate(mesh, weights['w'])},
            sharding.global_batch(mesh, batch)))


@pytest.mark.parametrize('method, fields', [
    pytest.param('unite', {**OPTIONS['all'], 'modality_mask': True},
                 marks=pytest.mark.slow),
    pytest.param('mm_embed', OPTIONS['all'], marks=pytest.mark.slow),
    ('unite', {'graded': 'cosent', 'matryoshka_dims': (8, 2)})])
def test_devices_and_chunks_make_no_difference(method, fields):
  """Negatives, teachers and grades of the whole mesh are seen by every row."""
  given = settings(**fields)
  one = step(method, given, 1, jax.devices()[:1])
  assert np.abs(one[1]['w']).max() > 1e-3
  for other in (step(method, given, 1, jax.devices()),
                step(method, given, 2, jax.devices()),
                step(method, given, 4, jax.devices()[:1])):
    for got, wanted in zip(jax.tree.leaves(other), jax.tree.leaves(one)):
      np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_several_negatives_stand_side_by_side():
  sides = {f'negative{n or ""}': jnp.full((2, 4), float(n))
           for n in (10, 0, 2, 1)}
  got = embedding_losses.stacked_negatives({'query': jnp.zeros((2, 4)),
                                            **sides})
  assert set(got) == {'query', 'negative'}
  assert got['negative'][:, :, 0].tolist() == [[0, 1, 2, 10]] * 2
  one = {'query': 1, 'negative': 2}
  assert embedding_losses.stacked_negatives(one) is one


@pytest.mark.parametrize('fields, said', [
    ({'matryoshka_dims': (16, 8, 17)}, 'want whole numbers from 1 to 16'),
    ({'matryoshka_dims': (16, 8, 8)}, 'each once'),
    ({'matryoshka_dims': (4.0,)}, 'want whole numbers'),
    ({'matryoshka_weights': (1.0,)}, 'has 1 numbers for 0 of'),
    ({'graded': 'pearson'}, "'pearson', want 'cosent' or ''")])
def test_a_field_that_cannot_be_is_refused(fields, said):
  config = tiny_unite.make_config()
  unite.check(config)
  with config.unlocked():
    config.loss.update(fields)
  with pytest.raises(ValueError, match=said):
    unite.check(config)


def test_no_more_numbers_are_kept_than_there_are():
  config = tiny_unite.make_config()
  config.eval.truncate_dim = 17
  with pytest.raises(ValueError, match='eval.truncate_dim is 17, want a whole'):
    unite.check(config)


@pytest.mark.parametrize('fields, kinds, said', [
    ({}, ('graded',), "grades: set loss.graded='cosent'"),
    ({'graded': 'cosent'}, ('plain',), 'no pair of plain has a grade'),
    ({'distillation_weight': 1.0}, ('plain',), 'has scores of a teacher'),
    ({'graded': 'cosent', 'dual': True}, ('graded',), 'loss.dual is True, whi'),
    ({'graded': 'cosent', 'false_negative_margin': 0.1}, ('graded',),
     'loss.false_negative_margin is 0.1, which has no effect on graded')])
def test_a_field_without_effect_on_the_pairs_is_refused(fields, kinds, said):
  item = types.Item('a', text='a')
  pairs = {'plain': [pair_files.Pair(item, item, 'text')],
           'graded': [pair_files.Pair(item, item, 'text', grade=1.0)],
           'taught': [pair_files.Pair(item, item, 'text', item, (1.0, 0.0))]}
  with pytest.raises(ValueError, match=said) as caught:
    embedding_losses.check_pairs(
        settings(**fields), {kind: pairs[kind] for kind in kinds})
  assert '\n' not in str(caught.value)
  embedding_losses.check_pairs(settings(
      graded='cosent', distillation_weight=1.0, dual=True), pairs)
