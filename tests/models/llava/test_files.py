"""config.json of LLaVA-NeXT: sizes, defaults of its classes, refusals."""
import json

import pytest

from jaxret.models.llava import files

VISION = {'hidden_size': 32, 'intermediate_size': 64, 'num_hidden_layers': 4,
          'num_attention_heads': 2, 'image_size': 28, 'patch_size': 14}


def read(directory, fields=(), text=(), **options):
  (directory / 'config.json').write_text(json.dumps({
      'model_type': 'llava_next', 'image_token_index': 9,
      'image_grid_pinpoints': [[28, 56]],
      'text_config': {'model_type': 'mistral', 'rope_theta': 1e6,
                      **dict(text)},
      'vision_config': VISION, **dict(fields)}))
  return files.read_config(directory, **options)


def test_what_a_file_does_not_say_is_the_class_default(tmp_path):
  found = read(tmp_path, text={'num_hidden_layers': 2})
  decoder, vision = found.config.decoder, found.config.vision
  assert (decoder.width, decoder.mlp_width, decoder.layers, decoder.kv_heads,
          decoder.head_width) == (4096, 14336, 2, 8, 128)
  # Features are those of the last layer but one: it alone does not run.
  assert vision.encoder.layers == 3
  assert (vision.image_px, vision.patch_px) == (28, 14)
  assert found.image_id == 9 and found.pinpoints == ((28, 56),)


def test_the_base_of_rotary_positions_is_the_files_the_class_or_given(tmp_path):
  assert read(tmp_path).config.decoder.rope_theta == 1e6
  found = read(tmp_path, text={'rope_theta': None})
  assert found.config.decoder.rope_theta == 1e4  # of MistralConfig
  for text in ({}, {'rope_theta': None}, {
      'rope_parameters': {'rope_theta': 7.0, 'rope_type': 'default'}}):
    found = read(tmp_path, text=text, rope_theta=5.0)
    assert found.config.decoder.rope_theta == 5.0
  scaled = {'rope_parameters': {'rope_type': 'linear', 'factor': 2.0}}
  found = read(tmp_path, text=scaled, rope_theta=5.0)
  assert found.config.decoder.rope_frequencies[:2] == pytest.approx(
      (0.5, 0.5 * 5.0 ** (-1 / 64)))


def test_a_window_of_attention_is_a_bound_on_the_length(tmp_path):
  decoder = read(tmp_path, text={'sliding_window': 100}).config.decoder
  decoder.check_length(100)
  with pytest.raises(ValueError, match='got sequences of 101 tokens.*want 100.*'
                     'sliding_window = 100'):
    decoder.check_length(101)
  dynamic = {'rope_scaling': {'type': 'dynamic', 'factor': 2.0},
             'max_position_embeddings': 64}
  decoder = read(
      tmp_path, text={'sliding_window': 100, **dynamic}).config.decoder
  assert (decoder.max_tokens, decoder.limited_by) == (
      64, "rope_type = 'dynamic'")
  decoder = read(tmp_path, text={'sliding_window': None}).config.decoder
  decoder.check_length(10 ** 6)


@pytest.mark.parametrize('fields, text, message', [
    ({'vision_feature_layer': -1}, {}, 'got vision_feature_layer = -1'),
    ({}, {'hidden_act': 'gelu'}, "got hidden_act = 'gelu'"),
    ({'vision_config': []}, {}, 'got vision_config = '),
    ({}, {'model_type': 'llama'}, "got model_type = 'llama' in text_config"),
    ({'model_type': 'llava'}, {}, "got model_type 'llava', want llava_next")])
def test_other_models_are_refused(tmp_path, fields, text, message):
  with pytest.raises(ValueError, match=message):
    read(tmp_path, fields, text)
