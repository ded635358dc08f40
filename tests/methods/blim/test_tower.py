"""The dual encoder: its similarities and its loss, one pair at a time."""
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import blim as blim_config
from jaxret import losses
from jaxret.data import text, types
from jaxret.methods.blim import tower
from tests import tiny_runs

CAPTIONS = ('a red square', 'a blue circle moves up', 'two', 'red', 'a cross')


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  return text.train_tokenizer(
      CAPTIONS, 300, tmp_path_factory.mktemp('tower') / 'bpe')


@pytest.fixture(scope='module')
def config():
  whole = blim_config.get_config()
  whole.update_from_flattened_dict(tiny_runs.TINY)
  return ConfigDict({**whole.tower.to_dict(), 'vision': whole.vision.to_dict()})


@pytest.fixture(scope='module')
def method(config, tokenizer):
  return tower.method(config, tokenizer)


@pytest.fixture(scope='module')
def params(method):
  return jax.jit(method.init)(jax.random.key(0))


@pytest.fixture(scope='module')
def split():
  return types.Split(
      'tiny', 'train', tuple(types.Item(f'v{i}') for i in range(3)),
      tuple(types.Item(f't{i}', text=caption)
            for i, caption in enumerate(CAPTIONS)),
      np.array([0, 1, 2, 0, 1], np.int32))


@pytest.fixture(scope='module')
def frames():
  return np.random.default_rng(0).integers(
      0, 256, (3, 4, 32, 32, 3), np.uint8)


@pytest.mark.slow
def test_similarities_are_those_of_each_pair_alone(
    config, tokenizer, params, split, frames):
  """Whatever the batch; its last one is not full."""
  got = tower.similarity(
      config, tokenizer, params, split.texts, frames, batch_size=2)
  assert got.shape == (5, 3) and np.abs(got).max() <= 1 + 1e-6
  dual = tower.module(config, tokenizer)
  for i, caption in enumerate(CAPTIONS):
    tokens = np.array([[*tokenizer.encode(caption), tokenizer.end_id]])
    words = dual.apply(params, tokens, np.array([tokens.shape[1]]),
                       method='embed_text')[0]
    for j in range(3):
      video = dual.apply(params, frames[j:j + 1], method='embed_video')[0]
      assert got[i, j] == pytest.approx(float(words @ video), abs=1e-5)
  assert np.ptp(got) > 1e-3


def test_examples_pair_a_caption_with_its_video(
    method, tokenizer, split, frames):
  examples = method.examples(split, frames)
  assert len(examples) == 5 and examples.ids == [f't{i}' for i in range(5)]
  for i, caption in enumerate(CAPTIONS):
    example = examples[i]
    tokens = [*tokenizer.encode(caption), tokenizer.end_id]
    assert example['length'] == len(tokens)
    np.testing.assert_array_equal(example['tokens'][:len(tokens)], tokens)
    assert not example['tokens'][len(tokens):].any()
    np.testing.assert_array_equal(
        example['frames'], frames[split.text_video[i]])
  assert len({examples[i]['tokens'].shape for i in range(5)}) == 1


@pytest.mark.slow
def test_loss_contrasts_the_batch_and_writes_captions(
    config, tokenizer, method, params, split, frames):
  examples = method.examples(split, frames)
  batch = {name: np.stack([examples[i][name] for i in range(3)])
           for name in examples[0]}
  loss, parts = method.loss(params, {}, batch, None)
  np.testing.assert_allclose(
      loss.mean(), parts['contrastive_loss'] + parts['caption_loss'], rtol=1e-5)
  similar = tower.similarity(
      config, tokenizer, params, split.texts[:3], frames)
  logits = similar.astype(np.float64) / float(parts['temperature'])
  both = [-np.mean(np.diag(matrix) - np.log(np.exp(matrix).sum(1)))
          for matrix in (logits, logits.T)]
  assert parts['contrastive_loss'] == pytest.approx(np.mean(both), rel=1e-3)
  assert parts['accuracy'] == np.mean(similar.argmax(1) == np.arange(3))
  dual = tower.module(config, tokenizer)
  terms = dual.apply(params, batch['frames'], batch['tokens'],
                     batch['length'])[3]
  value = np.asarray(losses.token_log_likelihood(terms, batch['tokens']))
  real = np.arange(value.shape[1]) < batch['length'][:, None]
  assert parts['caption_loss'] == pytest.approx(-value[real].mean(), rel=1e-5)
