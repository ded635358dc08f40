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
      'text_config': {'rope_theta': 1e6, **dict(text)},
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


def test_the_base_of_rotary_positions_is_never_guessed(tmp_path):
  with pytest.raises(ValueError, match='no rope_theta in its text_config'):
    read(tmp_path, text={'rope_theta': None})
  found = read(tmp_path, text={'rope_theta': None}, rope_theta=5.0)
  assert found.config.decoder.rope_theta == 5.0


@pytest.mark.parametrize('fields, text, message', [
    ({'vision_feature_layer': -1}, {}, 'got vision_feature_layer = -1'),
    ({}, {'hidden_act': 'gelu'}, "got hidden_act = 'gelu'"),
    ({'vision_config': {}}, {}, "no field 'hidden_size' in its vision_config"),
    ({'model_type': 'llava'}, {}, "got model_type 'llava', want llava_next")])
def test_other_models_are_refused(tmp_path, fields, text, message):
  with pytest.raises(ValueError, match=message):
    read(tmp_path, fields, text)
