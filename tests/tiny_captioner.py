"""A captioner small enough for a test, and what it is shown."""
import numpy as np

from jaxret import main
from jaxret.data import text, types
from jaxret.methods.leccr import caption_examples
from tests import tiny_cross_lingual

CAPTIONS = ['a red circle', 'a blue square on a grey background'] * 3


def make_config(**fields):
  section = main.load_config(str(tiny_cross_lingual.CONFIG)).captioner
  with section.unlocked():
    section.update_from_flattened_dict(
        {**tiny_cross_lingual.CAPTIONER, 'shape': (), **fields})
  return section


def pixels(seed, *shape):
  return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def media():
  """Images of two sizes and a video, in no order; of two buckets."""
  return [types.Item('wide', image=pixels(0, 28, 56)),
          types.Item('square', image=pixels(1, 56, 56)),
          types.Item('clip', video=pixels(2, 2, 56, 56)),
          types.Item('wider', image=pixels(3, 28, 56)),
          types.Item('other', image=pixels(4, 56, 56))]


def make_tokenizer(directory, config):
  """One that knows the questions of a config, in `directory`/tokenizer."""
  return text.train_tokenizer(
      CAPTIONS, 400, directory / 'tokenizer', caption_examples.CONTROL_TOKENS,
      list(config.questions.values()))
