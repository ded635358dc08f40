"""Every parameter of an encoder has one name in each table, and none two."""
import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.models import bert, clip, encoder, encoder_names

SIZES = encoder.EncoderConfig(8, 12, 2, 2)


def paths_of(module, *inputs):
  return set(sharding.flatten(jax.eval_shape(
      module.init, jax.random.key(0), *inputs)['params']))


def check(table, root, paths):
  """The table has the paths under `root`, each once; its keys are unique."""
  ours = [weight.path.removeprefix(f'{root}/') for weight in table
          if weight.path.startswith(f'{root}/')]
  assert sorted(ours) == sorted(paths)
  # Only fused projections are cut from one tensor, each part once.
  sources = [(weight.key, weight.transform) for weight in table]
  assert len(set(sources)) == len(sources)


def test_every_parameter_of_bert_is_named():
  paths = paths_of(bert.Bert(bert.BertConfig(SIZES, 20, 6)),
                   np.zeros((1, 2), int), np.ones((1, 2), bool))
  check(encoder_names.BERT, 'text_encoder', paths)


@pytest.mark.parametrize('name', ['CLIP', 'OPENAI_CLIP'])
def test_every_parameter_of_clips_tower_is_named(name):
  table = getattr(encoder_names, name)
  tower = clip.ClipVision(clip.ClipVisionConfig(SIZES, 8, 4))
  check(table, 'vision', paths_of(tower, np.zeros((1, 8, 8, 3))))
  check(table, 'vision_head', paths_of(
      clip.ClipVisionHead(SIZES, 4), np.zeros((1, 5, 8))))
