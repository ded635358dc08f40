"""The golden files of Qwen2.5-VL in the form that our code takes."""
import functools
from typing import NamedTuple

import jax
import numpy as np

from jaxret import sharding
from jaxret.data import text
from jaxret.data.qwen2_vl import prompts
from jaxret.data.qwen2_vl import reader as reader_lib
from jaxret.models import decoder as decoder_lib
from jaxret.models.qwen2_vl import model as model_lib
from jaxret.models.qwen25_vl import files
from tests.parity import unite_reference as shared

SEEN = ('in/pixel_values', 'in/image_grid_thw', 'in/pixel_values_videos',
        'in/video_grid_thw', 'in/second_per_grid_ts')


class Case(NamedTuple):
  """arrays: of the golden file; batch, laid, rows: as shared.batch gives them;
  told: what cases.json says of it."""
  arrays: dict
  batch: dict
  laid: list | None
  rows: list
  told: dict

  @property
  def real(self):
    return self.arrays['in/attention_mask'].astype(bool)

  def at(self, values):
    """The part of padded values that the golden inputs have."""
    rows, length = self.arrays['in/input_ids'].shape
    return np.asarray(values)[:rows, :length]


def told(folder):
  return shared.table(folder, 'cases.json')['cases']


def model(folder, position_mode='mrope'):
  config, special = files.read_config(folder / 'model', position_mode)
  params = files.load(folder / 'model', config, one_device())
  return shared.Model(config, params, special)


def one_device():
  return sharding.make_mesh(devices=jax.devices()[:1])


def arrays_of(folder, name):
  """Arrays of a case; one padded on the right borrows what is seen."""
  table = told(folder)
  arrays = shared.read(folder, table[name]['file'])
  lender = table[name].get('vision_inputs_from', name)
  if lender != name:
    lent = shared.read(folder, table[lender]['file'])
    arrays |= {key: lent[key] for key in SEEN if key in lent}
  return arrays


def cases(folder, model):
  """{name: Case}, their batches of one shape."""
  arrays = {name: arrays_of(folder, name) for name in told(folder)}
  layout, size = reader_lib.layout_of(model.config), 1
  for its in arrays.values():
    for grids in (its.get('in/image_grid_thw', ()),
                  its.get('in/video_grid_thw', ())):
      size = max([size, *(int(h * w) for _, h, w in grids)])
  found = {name: shared.batch(its, model, row_patches=size, layout=layout)
           for name, its in arrays.items()}
  alike = shared.alike({name: batch for name, (batch, *_) in found.items()})
  return {name: Case(arrays[name], alike[name], *found[name][1:],
                     told(folder)[name]) for name in found}


@functools.cache
def compiled(config, method):
  return jax.jit(functools.partial(config.module().apply, method=method))


def apply(model, method, *args):
  return compiled(model.config, method)(model.params, *args)


def outputs(module, batch):
  """What a batch gives: see the golden README."""
  def rows(x):
    return x.reshape(-1, *x.shape[2:])
  seen = batch['patches'], batch['segments'], batch['coordinates']
  visual = module.visual_tokens(*seen)
  before = module.vision.hidden(*map(rows, seen))
  x = module.embed(batch['tokens'], visual, batch['visual_index'])
  hidden = module.hidden(x, batch['keys'], batch['positions'])
  return {'tokens': visual, 'x': x, 'hidden': hidden,
          'before': before.reshape(len(visual), -1, before.shape[-1]),
          'logits': logits(module, hidden),
          'embedding': model_lib.unit(model_lib.last(hidden, batch['keys']))}


def logits(module, hidden):
  return sum(left @ right for left, right in module.vocabulary_terms(hidden))


def right_padded(batch):
  """The batch as a Reader pads it, positions among it."""
  order = np.argsort(~batch['keys'], 1, kind='stable')
  return {**shared.right_padded(batch), 'positions': np.take_along_axis(
      batch['positions'], order[:, None], 2)}


def blocks(module, x, keys, positions):
  mask = decoder_lib.causal(x.shape[1]) & keys[:, None]
  return module.decoder.layers(
      x, positions.swapaxes(0, 1), mask, *[None] * 5)[0]


def tokenizer(folder):
  return text.load_tokenizer(folder / 'model')


def prompt(messages):
  """Our prompt of the golden messages."""
  def content(parts):
    return ''.join(part['text'] if part['type'] == 'text'
                   else prompts.seen(part['type']) for part in parts)
  return prompts.conversation([(turn['role'], content(turn['content']))
                               for turn in messages])
