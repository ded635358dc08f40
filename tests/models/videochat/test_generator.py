"""VideoChat-Flash that sees by itself, against its parts one by one."""
import json

import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.data import types
from jaxret.models.videochat import generator, vision
from jaxret.models.videochat import model as vlm
from tests import tiny_generators as tiny


@pytest.mark.slow
def test_a_prompt_is_read_as_of_the_features_of_its_tower():
  model = tiny.videochat()
  items = [types.Item('a', 'They run', video=tiny.pixels(0, 4, 8, 8)),
           types.Item('b', 'x', video=tiny.pixels(1, 4, 8, 8))]
  prompts = [model.reader(item) for item in items]
  batch = model.reader.pad(prompts, model.reader.bucket(prompts[0]))
  hidden, cache, position = jax.jit(model.continuation.start)(
      model.params, batch)
  features = vision.encode_clips(
      model.config.vision, model.params['params']['vision'], batch['frames'],
      model.config.tokens_per_clip)
  module = vlm.Vlm(model.config.decoder, model.config.visual_width)
  want, other, lengths = module.apply(
      model.params, {'tokens': batch['tokens'], 'length': batch['length'],
                     'features': features}, method='start')
  np.testing.assert_allclose(hidden, want, atol=1e-5)
  np.testing.assert_array_equal(position, lengths)
  np.testing.assert_array_equal(cache.mask, other.mask)
  assert np.abs(hidden[0] - hidden[1]).max() > 1e-2


@pytest.mark.parametrize('fields, options, said', [
    ({}, {}, 'has no vision tower'),
    ({'mm_vision_tower': 'umt-hd-large'}, {'clips': 0}, 'got clips = 0')])
def test_what_cannot_see_is_refused(fields, options, said, tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps({
      'model_type': 'videochat_flash_qwen', 'mm_hidden_size': 16,
      'mm_local_num_frames': 4, 'mm_vision_select_layer': -2, **fields}))
  with pytest.raises(ValueError, match=said):
    generator.open_generator(tmp_path, sharding.local_mesh(), **options)


def test_clips_of_a_model_of_texts_are_refused(tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps({'model_type': 'qwen2'}))
  with pytest.raises(ValueError, match='clips = 2 has no effect on a model'):
    generator.open_generator(tmp_path, sharding.local_mesh(), clips=2)
