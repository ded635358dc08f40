"""MM-Embed's decoder is that of its retriever, not of its own text_config."""
import json

import pytest

from jaxret.models.llava import mm_embed_files
from tests.models.llava.test_files import VISION

TEXT = {'hidden_size': 64, 'intermediate_size': 96, 'num_hidden_layers': 3,
        'num_attention_heads': 4, 'num_key_value_heads': 2, 'vocab_size': 500,
        'rope_theta': 1e4}
RETRIEVER = {'model_type': 'nvembed', 'text_config': TEXT,
             'latent_attention_config': {
                 'hidden_dim': 64, 'num_latents_value': 8,
                 'num_cross_heads': 2, 'cross_dim_head': 16}}


def write(directory, retriever='retriever.json', other=(), **fields):
  (directory / 'retriever.json').write_text(
      json.dumps({**RETRIEVER, **dict(other)}))
  (directory / 'config.json').write_text(json.dumps({
      'model_type': 'llava_next', 'retriever': retriever,
      'text_config': {**TEXT, 'hidden_size': 999, 'rope_theta': 7.0},
      'image_token_index': 9, 'vision_config': VISION, **fields}))
  return directory


def test_decoder_and_latents_are_the_retrievers(tmp_path):
  found = mm_embed_files.read_config(write(tmp_path), dtype='bfloat16')
  decoder, latent = found.config.decoder, found.config.latent
  assert (decoder.width, decoder.layers, decoder.rope_theta) == (64, 3, 1e4)
  assert (latent.width, latent.latents, latent.heads) == (64, 8, 2)
  assert decoder.dtype == latent.dtype == 'bfloat16'
  assert found.config.vision.image_px == 28 and found.image_id == 9
  assert found.config.name == 'mm_embed'


def test_nv_embed_alone_sees_no_images(tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps(RETRIEVER))
  config = mm_embed_files.read_config(tmp_path).config
  assert config.vision is None and config.name == 'nv_embed_v1'
  assert config.decoder.width == config.width == 64


@pytest.mark.parametrize('fields, message', [
    ({'retriever': None}, 'no field `retriever`'),
    ({'global_image_patch_only': False}, 'got global_image_patch_only = F'),
    ({'other': {'is_mask_instruction': False}}, 'got is_mask_instruction = F'),
    ({'other': {'mask_type': 'c'}}, "got mask_type = 'c', want 'b'"),
    ({'other': {'latent_attention_config': {'hidden_dim': 8,
                                            'latent_dim': 4}}},
     'got latent_dim = 4, want that of hidden_dim, 8'),
    # Which class wrote NV-Embed's file is not known: its base is not either.
    ({'other': {'text_config': {**TEXT, 'rope_theta': None}}}, 'no rope_theta'),
    ({'pooling': 'mean'}, "got pooling = 'mean', a field that is not known"),
    ({'model_type': 'bert'}, "got model_type 'bert', want llava_next or nvem"),
    ({'other': {'latent_attention_config': {'output_normalize': False}}},
     'got output_normalize = False')])
def test_other_models_are_refused(tmp_path, fields, message):
  with pytest.raises(ValueError, match=message):
    mm_embed_files.read_config(write(tmp_path, **fields))
