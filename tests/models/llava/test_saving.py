"""The files that are written are read again as the same sizes."""
import dataclasses
import json

import jax
import pytest

from jaxret.models import clip, decoder, encoder, weight_files
from jaxret.models.llava import (
  files,
  latent_attention,
  mm_embed,
  mm_embed_files,
  saving,
)
from jaxret.models.llava import names as mm_embed_names

CONFIG = mm_embed.MmEmbedConfig(
    decoder.DecoderConfig(50, 16, 24, 2, 2, 1, 8, rope_theta=1e4,
                          qkv_bias=False),
    clip.ClipVisionConfig(encoder.EncoderConfig(
        8, 16, 2, 2, 'quick_gelu'), 8, 4),
    latent_attention.LatentConfig(16, 4, 2, 8, expansion=1))


def write(directory, config):
  for name, content in (
      ('config.json', saving.config_json(config, 9, files.PINPOINTS)),
      (saving.RETRIEVER, saving.retriever_json(config)),
      ('preprocessor_config.json', saving.preprocessor_json(
          config, files.PINPOINTS))):
    (directory / name).write_text(json.dumps(content))
  return mm_embed_files.read_config(directory)


@pytest.mark.parametrize('expansion', [1, 4])
def test_sizes_come_back(tmp_path, expansion):
  config = dataclasses.replace(CONFIG, latent=dataclasses.replace(
      CONFIG.latent, expansion=expansion))
  assert write(tmp_path, config) == files.Found(config, 9, files.PINPOINTS)
  said = json.loads((tmp_path / saving.RETRIEVER).read_text())
  assert ('expansion' in said['latent_attention_config']) == (expansion == 1)


def test_a_model_without_latent_attention_is_refused():
  with pytest.raises(ValueError, match='got no latent attention'):
    saving.retriever_json(dataclasses.replace(CONFIG, latent=None))


def test_the_layer_that_does_not_run_is_there():
  """Every tensor of the tower's class, the last layer and norm of zeros."""
  table = mm_embed_names.MM_EMBED
  params = jax.eval_shape(
      lambda key: mm_embed.init(CONFIG, key), jax.random.key(0))['params']
  made = weight_files.tensors(table, params, saving.shapes(CONFIG, table))
  spare = saving.unread(CONFIG, table, params)
  layers = 'vision_tower.vision_model.encoder.layers.'
  first = {key.removeprefix(f'{layers}0.') for key in made
           if key.startswith(f'{layers}0.')}
  assert {key.removeprefix(f'{layers}2.') for key in spare
          if key.startswith(layers)} == first and not set(made) & set(spare)
  assert {key for key in spare if not key.startswith(layers)} == {
      'vision_tower.vision_model.post_layernorm.weight',
      'vision_tower.vision_model.post_layernorm.bias'}
  for key, tensor in spare.items():
    array = tensor.make()
    assert array.shape == tensor.shape and not array.any(), key
    if key.startswith(layers):
      assert tensor.shape == made[key.replace('s.2.', 's.0.')].shape
  assert made['vision_tower.vision_model.embeddings.patch_embedding.weight'
              ].shape == (8, 3, 4, 4)
