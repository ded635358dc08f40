"""The config.json that is written is read again as the same sizes."""
import dataclasses
import json

import pytest

from jaxret.methods.unite import method as unite
from jaxret.models import model_files
from jaxret.models.qwen2_vl import files, saving
from tests import tiny_unite

SPECIAL = {'image': 4, 'video': 5, 'vision_start': 6, 'vision_end': 7}


def test_sizes_come_back(tmp_path):
  config = unite.model_config(tiny_unite.make_config(), tiny_unite.tokenizer())
  (tmp_path / 'config.json').write_text(json.dumps(
      saving.config_json(config, SPECIAL, 3)))
  found = files.read_config(tmp_path, config.position_mode)
  assert found == files.Found(config, SPECIAL)
  (tmp_path / 'preprocessor_config.json').write_text(json.dumps(
      saving.preprocessor_json(config, (784, 1568))))
  model_files.check_pixels(tmp_path, files.PIXELS)
  assert saving.shapes(config) == {
      'visual.patch_embed.proj.weight': (16, 3, 2, 14, 14)}


def test_heads_that_its_class_cannot_have_are_refused():
  config = unite.model_config(tiny_unite.make_config(), tiny_unite.tokenizer())
  config = dataclasses.replace(config, decoder=dataclasses.replace(
      config.decoder, head_width=16, rope_sections=(2, 3, 3)))
  with pytest.raises(ValueError, match='train with model.head_width=8'):
    saving.config_json(config, SPECIAL, 3)
  config = unite.model_config(tiny_unite.make_config(), tiny_unite.tokenizer())
  config = dataclasses.replace(config, vision=dataclasses.replace(
      config.vision, mlp_width=40))
  with pytest.raises(ValueError, match='a multiple of vision.width, 16'):
    saving.config_json(config, SPECIAL, 3)
