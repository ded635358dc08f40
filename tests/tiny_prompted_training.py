"""A tiny model that continues prompts, ready to be trained by BLiM."""
import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from configs import blim as blim_config
from jaxret import generator, optim
from jaxret import train as train_lib
from jaxret.data import types
from jaxret.methods.blim import prompted, prompted_method, prompted_videos
from tests import tiny_generators
from tests import tiny_prompted as tiny

BACKBONES = {'qwen3_vl': 'qwen3_vl', 'qwen25_vl': 'qwen2_5_vl'}
CLIPS = 2


class Ready(NamedTuple):
  """What a training has. params: wide enough that what is scored differs."""
  config: Any
  found: prompted_method.Backbone
  method: Any
  params: dict
  split: types.Split
  features: np.ndarray
  examples: prompted_method.Examples

  def model(self, mesh=None):
    """A Generator with the visual head among its parameters."""
    return generator.Generator(self.found.sizes, self.params,
                               self.found.reader, mesh or tiny.one_device())

  def batch(self, rows):
    examples = [self.examples[i] for i in rows]
    return {name: np.stack([one[name] for one in examples])
            for name in examples[0]}

  def trainable(self):
    return optim.partition(self.params, self.method.trainable)


def config_of(name, **fields):
  config = blim_config.get_config('folder_qwen3vl_train')
  config.update_from_flattened_dict({
      'model.backbone': BACKBONES[name], 'model.dtype': 'float32',
      'model.pretrained': str(tiny.GOLDEN / name / 'model'),
      'model.param_dtype': 'float32', 'model.clips': CLIPS,
      'model.lora.rank': 2, 'model.lora.dropout': 0.0, **fields})
  return config


def split():
  """Two images and two videos, one or two captions each."""
  videos = tuple(
      types.Item(f'v{i}', **{'image' if item.ndim == 3 else 'video': item})
      for i, item in enumerate(tiny.ITEMS[i] for i in (0, 5, 6, 11)))
  texts = tuple(types.Item(f't{i}', text=text)
                for i, text in enumerate(tiny.TEXTS[:6]))
  return types.Split('tiny', 'train', videos, texts,
                     np.array([0, 1, 2, 2, 3, 3], np.int32))


@functools.cache
def ready(name):
  config = config_of(name)
  found = prompted_method.backbone(config)
  method = prompted_method.method(config, found)
  params = jax.device_get(train_lib.init_params(method, 0, tiny.one_device()))
  params['lora'] = tiny_generators.spread(params['lora'])
  head = params['params']['visual_head']
  params['params']['visual_head'] = tiny_generators.spread(head)
  whole = split()
  model = generator.Generator(
      found.sizes, params, found.reader, tiny.one_device())
  features = prompted_videos.extract_all(
      config, [prompted.shown_of(video, None) for video in whole.videos],
      model)
  return Ready(config, found, method, params, whole, features,
               method.examples(whole, features))
