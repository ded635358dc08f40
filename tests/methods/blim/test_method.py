"""The two halves of BLiM's Method: what is trained is what is scored."""
import jax
import numpy as np
import pytest

from configs import blim as blim_config
from jaxret import methods, sharding
from jaxret.data import text, types
from jaxret.data.videochat import prompts
from jaxret.methods.blim import evaluator
from jaxret.scoring.likelihood import score as likelihood
from tests import tiny_runs

CAPTIONS = ('a red square', 'a blue circle moves up', 'two crosses')
SHAPE = 2, 2, 16  # as tiny_runs.TINY says


@pytest.fixture(scope='module')
def method(tmp_path_factory):
  config = blim_config.get_config()
  config.update_from_flattened_dict(tiny_runs.TINY)
  config.model.lora.rank = 0
  tokenizer = text.train_tokenizer(
      CAPTIONS, 300, tmp_path_factory.mktemp('method') / 'bpe',
      template=prompts.TEMPLATE)
  return methods.get('blim').method(config, tokenizer)


@pytest.fixture(scope='module')
def params(method):
  """Random, wide enough that what is scored differs."""
  return jax.tree.map(lambda leaf: leaf * 2 if leaf.ndim > 1 else leaf,
                      jax.jit(method.init)(jax.random.key(0)))


@pytest.fixture(scope='module')
def features():
  return np.random.default_rng(0).normal(
      size=(len(CAPTIONS), *SHAPE)).astype(np.float32)


def split():
  return types.Split(
      'tiny', 'train', tuple(types.Item(f'v{i}') for i in range(3)),
      tuple(types.Item(f't{i}', text=caption)
            for i, caption in enumerate(CAPTIONS)),
      np.arange(3, dtype=np.int32))


def batch_of(examples):
  return {name: np.stack([examples[i][name] for i in range(len(examples))])
          for name in examples[0]}


@pytest.mark.slow
def test_loss_is_the_score_of_the_pairs_that_belong_together(
    method, params, features, tmp_path):
  """-log P(text | video) a token, and -log P(video | text) a clip."""
  examples = method.examples(split(), features)
  batch = batch_of(examples)
  loss, parts = jax.jit(lambda params: method.loss(
      params, examples.constants, batch, None))(params)
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  scores = evaluator.score(
      method.scorer.model, jax.device_put(params, sharding.replicated(mesh)),
      mesh, evaluator.inputs(method.scorer, split(), features),
      likelihood.Options(3, 3, 9.0, nonzero_denominator=False), tmp_path)
  lengths = batch['label_length']
  captions = -np.diag(scores.text_given_video)
  clips = -np.diag(scores.video_given_text)
  np.testing.assert_allclose(
      parts['vtg_loss'], (captions * lengths).sum() / lengths.sum(), atol=1e-5)
  np.testing.assert_allclose(parts['tvg_loss'], clips.mean(), atol=1e-5)
  np.testing.assert_allclose(
      loss, captions * lengths / lengths.mean() + clips, atol=1e-5)


def test_padding_of_the_batch_changes_no_loss(method, params, features):
  examples = method.examples(split(), features)
  batch = batch_of(examples)
  wider = {**batch, 'labels': np.pad(batch['labels'], ((0, 0), (0, 3))),
           'text_prefix': np.pad(batch['text_prefix'], ((0, 0), (0, 2)))}
  run = jax.jit(lambda batch: method.loss(
      params, examples.constants, batch, None)[0])
  np.testing.assert_allclose(run(wider), run(batch), atol=1e-5)
  assert method.tokens(wider) == method.tokens(batch)


def test_scorer_gives_the_method_s_own_sequences(method, features):
  scorer, examples = method.scorer, method.examples(split(), features)
  assert scorer.feature_shape == SHAPE
  found, batch = scorer.prompts(split().texts), batch_of(examples)
  np.testing.assert_array_equal(
      found.visual_prefix, examples.constants['visual_prefix'])
  for i in range(3):
    for name, row, length in (
        ('labels', found.labels[i], 'label_length'),
        ('text_prefix', found.text_prefixes[i], 'text_prefix_length')):
      np.testing.assert_array_equal(batch[name][i][:batch[length][i]], row)
  vocabulary = scorer.video_vocabulary(features)
  np.testing.assert_array_equal(
      vocabulary, examples.constants['video_vocabulary'])
  for video, clip in np.ndindex(vocabulary.shape[:2]):
    np.testing.assert_allclose(
        vocabulary[video, clip], sum(features[video, clip]) / 2, rtol=1e-6)


def test_check_refuses_texts_and_features_that_do_not_fit(method):
  method.check(split().texts, SHAPE)
  with pytest.raises(ValueError, match="caption 't' is empty"):
    method.check([types.Item('t', text=' ')], SHAPE)
  with pytest.raises(ValueError, match=r'shape \(2, 3, 16\), the model wants'):
    method.check(split().texts, (2, 3, 16))
