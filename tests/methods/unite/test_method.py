"""UNITE's Method: its loss by hand, its examples, what does not go together."""
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret.methods.unite import method as unite
from tests import tiny_unite


def unit(*shape):
  x = np.random.default_rng(shape[0]).normal(size=shape)
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize('mask', [False, True])
def test_loss_is_that_of_a_plain_loop(mask):
  settings = tiny_unite.make_config(
      temperature=0.2, modality_mask=mask, dual=False,
      multi_positive=False).loss
  query, candidate = unit(6, 5), unit(7, 5)[:6]
  modality = np.array([1, 2, 2, 4, 1, 2])
  value, numbers = unite.embedding_loss(
      settings, {'query': jnp.asarray(query, jnp.float32),
                 'candidate': jnp.asarray(candidate, jnp.float32)},
      {'modality': jnp.asarray(modality), 'positive': jnp.arange(6)})
  scores = query @ candidate.T / 0.2
  for i in range(6):
    others = [scores[i, j] for j in range(6)
              if not mask or modality[j] == modality[i]]
    assert value[i] == pytest.approx(
        np.logaddexp.reduce(others) - scores[i, i], abs=1e-5)
  assert numbers['accuracy'] == pytest.approx(
      np.mean([scores[i].argmax() == i for i in range(6)]))


def test_examples_share_the_reader_that_they_are_given():
  config, tokenizer = tiny_unite.make_config(), tiny_unite.tokenizer()
  method, reader = unite.method(config, tokenizer), unite.reader(
      config, tokenizer)
  pairs = tiny_unite.pairs(4)
  examples = method.examples(pairs, reader)
  assert len(examples) == 4 and examples.ids == [p.query.id for p in pairs]
  assert set(examples.shapes) == {'query', 'candidate'}
  wide = {side: (160, *shape[1:]) for side, shape in examples.shapes.items()}
  row = method.examples(pairs, reader, wide)[0]
  assert row['query_tokens'].shape == row['candidate_tokens'].shape == (160,)
  batch = {name: np.stack([row[name], row[name]]) for name in row}
  assert method.tokens(batch) == 2 * (
      row['query_length'] + row['candidate_length'])


def test_a_mask_without_other_modalities_is_refused():
  config = tiny_unite.make_config(modality_mask=True)
  unite.check(config)
  config.pairs.per_source = True
  with pytest.raises(ValueError, match='nothing to mask in batches of one'):
    unite.check(config)


def test_fingerprint_holds_what_embeddings_depend_on():
  config = tiny_unite.make_config()
  before = unite.fingerprint(config)
  for change in ({'media': {'max_frames': 2}}, {'data': {'max_tokens': 99}},
                 {'model': {'position_mode': 'mrope'}}):
    changed = tiny_unite.make_config()
    changed.update(change)
    assert unite.fingerprint(changed) != before
  config.optim.learning_rate = 7.0
  assert unite.fingerprint(config) == before
