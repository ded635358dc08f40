"""CLIP and SigLIP against the installed transformers; needs PyTorch."""
import functools
import pathlib
import shutil

import jax
import numpy as np
import pytest

from jaxret import loading, sharding
from jaxret.data import text
from jaxret.data.dual_encoder import pixels
from jaxret.models.dual_encoder import files
from tests import tiny_dual_encoder as tiny
from tests import tiny_unite

pytestmark = pytest.mark.slow

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden'
ATOL = 2e-6
SIZES = {'hidden_size': 24, 'intermediate_size': 40, 'num_hidden_layers': 2,
         'num_attention_heads': 3}
TEXTS = ['a photo of a cat', 'TWO red balls', '', 'el niño y el café: 12:30']
IMAGES = [tiny_unite.pixels(i, *size) for i, size in enumerate(
    ((40, 40), (33, 90), (121, 35), (7, 9)))]


@pytest.fixture(scope='module')
def transformers():
  pytest.importorskip('torch')
  return pytest.importorskip('transformers')


def clip(tf, vocab, end):
  """LAION's activation, another end, towers of two widths."""
  return tf.CLIPModel(tf.CLIPConfig(
      text_config={**SIZES, 'vocab_size': vocab, 'hidden_act': 'gelu',
                   'max_position_embeddings': 30, 'eos_token_id': end},
      vision_config={**SIZES, 'hidden_size': 18, 'hidden_act': 'gelu',
                     'image_size': 48, 'patch_size': 8},
      projection_dim=20))


def siglip(tf, vocab, end):
  """Eight pixels at the right and below make no whole patch."""
  return tf.SiglipModel(tf.SiglipConfig(
      text_config={**SIZES, 'vocab_size': vocab, 'projection_size': 18,
                   'max_position_embeddings': 40},
      vision_config={**SIZES, 'hidden_size': 18, 'image_size': 64,
                     'patch_size': 14}))


def naflex(tf, vocab, end):
  return tf.Siglip2Model(tf.Siglip2Config(
      text_config={**SIZES, 'vocab_size': vocab, 'projection_size': 18,
                   'max_position_embeddings': 40},
      vision_config={**SIZES, 'hidden_size': 18, 'num_patches': 49,
                     'patch_size': 16}))


CASES = {'clip': (clip, 'clip/model', 'clip/model', 'CLIP'),
         'siglip': (siglip, 'siglip2/model', 'siglip2/model', 'Siglip'),
         'naflex': (naflex, 'siglip2/naflex_model', 'siglip2/model',
                    'Siglip2')}


@pytest.mark.parametrize('name', CASES)
def test_embeddings_are_those_of_transformers(transformers, name, tmp_path):
  import torch

  from tests.models.checkpoints import make as checkpoints
  make, processor, tokenizer, kind = CASES[name]
  for file in ('tokenizer.json', 'tokenizer_config.json'):
    shutil.copyfile(GOLDEN / tokenizer / file, tmp_path / file)
  shutil.copyfile(GOLDEN / processor / 'preprocessor_config.json',
                  tmp_path / 'preprocessor_config.json')
  words = text.load_tokenizer(tmp_path)
  theirs = checkpoints.randomized(make(
      transformers, words.vocab_size, words.end_id))
  theirs.save_pretrained(tmp_path)
  ours = loading.load(tmp_path, mesh=sharding.make_mesh(
      devices=jax.devices()[:1]))
  encode = functools.partial(ours.encode, show_progress=False)
  images = getattr(
      transformers, f'{kind}ImageProcessorPil', None) or getattr(
          transformers, f'{kind}ImageProcessor')
  seen = images.from_pretrained(tmp_path)(IMAGES, return_tensors='pt')
  batch = ours.reader.pad(
      [ours.reader(loading.embedder.as_item(one, i))
       for i, one in enumerate(TEXTS)], (ours.config.text.max_tokens, 0))
  tokens = {'input_ids': torch.tensor(batch['tokens'].astype(np.int64))}
  if name == 'clip':
    tokens['attention_mask'] = (
        torch.arange(30) < torch.tensor(batch['length'])[:, None]).long()
  with torch.inference_mode():
    found = theirs(**tokens, **seen)
  for got, want in ((encode(TEXTS), found.text_embeds),
                    (encode(list(IMAGES)), found.image_embeds)):
    np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=ATOL)


def test_ids_are_those_of_transformers(transformers):
  for name in ('clip', 'siglip2'):
    directory = GOLDEN / name / 'model'
    theirs = transformers.AutoTokenizer.from_pretrained(directory)
    config = files.read_config(directory)
    read = tiny.make_reader(
        config, text.load_tokenizer(directory), trim_text=True)
    for given in TEXTS:
      shown = given if config.is_clip else given.lower()
      assert read.tokens('x', given).tolist() == theirs(
          shown, truncation=True,
          max_length=config.text.max_tokens)['input_ids'], given


def test_limited_sizes_are_those_of_transformers(transformers):
  module = pytest.importorskip(
      'transformers.models.siglip2.image_processing_siglip2')
  rng = np.random.default_rng(0)
  for height, width in rng.integers(5, 2000, (200, 2)).tolist():
    for patch_px, most in ((16, 256), (14, 100), (16, 9)):
      assert pixels.limited(height, width, patch_px, most) == (
          module.get_image_size_for_max_num_patches(
              height, width, patch_px, most))
