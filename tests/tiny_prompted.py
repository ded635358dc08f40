"""Models that continue prompts, what they score, and full passes of it."""
import functools
import pathlib

import jax
import numpy as np

import jaxret
from jaxret import generator, sharding
from jaxret.data.qwen3_vl import pixels
from tests import tiny_generators, tiny_unite

GOLDEN = pathlib.Path(__file__).parent / 'golden'
PROCESSOR = pixels.Processor(image=(1024, 12 * 1024), video=(1024, 24 * 1024))
# Six images and six videos; of each kind several sizes and lengths of prompts.
ITEMS = (
    *(tiny_unite.pixels(seed, *size) for seed, size in enumerate((
        (64, 64), (64, 96), (96, 64), (128, 64), (40, 70), (64, 64)))),
    *(tiny_unite.pixels(seed, *size, frames=n) for seed, (size, n) in enumerate(
        (((64, 64), 5), ((64, 96), 4), ((96, 64), 3), ((64, 64), 8),
         ((96, 64), 4), ((64, 64), 6)), 6)))
TEXTS = tuple(
    f'{subject} {verb} {rest}' for subject in ('a red square', 'the red circle')
    for verb in ('moves', 'turns')
    for rest in ('left', 'left and up', 'right', 'right and down', 'up'))


def one_device():
  return sharding.make_mesh(devices=jax.devices()[:1])


@functools.cache
def qwen3_vl():
  """With QK-norm and DeepStack; its files are those of transformers."""
  return jaxret.load_generator(GOLDEN / 'qwen3_vl' / 'model',
                               resolution=PROCESSOR, mesh=one_device())


@functools.cache
def qwen25_vl():
  return jaxret.load_generator(
      GOLDEN / 'qwen25_vl' / 'model', resolution=tiny_generators.RESOLUTION,
      mesh=one_device())


@functools.cache
def qwen2_vl():
  return tiny_generators.qwen2_vl()


def on_mesh(model, mesh):
  """The same model on other devices."""
  return generator.Generator(
      model.config, jax.device_get(model.params), model.reader, mesh)


def asked(item, text=None):
  """What is shown of an item, as the library has it by default."""
  kind = 'image' if item.ndim == 3 else 'video'
  return jaxret.embedder.as_item(
      {kind: item, 'text': text or f'Describe this {kind}.'}, 0)


def answer(model, text):
  """The scored tokens of a text: its own, and <|im_end|>."""
  return np.array([*model.reader.suffix(text, 'text'),
                   *model.reader.suffix('<|im_end|>', 'end')])


@functools.cache
def _whole(module):
  def logits(module, batch, keys):
    if hasattr(module, 'read'):  # of Qwen3-VL
      x, visual = module.read(batch)
      hidden = module.hidden(x, keys, batch['positions'], visual)
    else:
      x = module.embed(batch['tokens'], module.visual_tokens(
          batch['patches'], batch['segments'], batch['coordinates']),
                       batch['visual_index'])
      hidden = module.hidden(x, keys, batch['positions'])
    return sum(left @ right for left, right in module.vocabulary_terms(hidden))
  return jax.jit(lambda params, *args: jax.nn.log_softmax(module.apply(
      params, *args, method=logits)))


def full_passes(model, shown, texts, masked=False):
  """Mean log P(token) of each pair, one whole sequence each, [V, T].

  masked: no token attends to placeholders; everything else is as it is.
  """
  prompts = [model.reader(item, chat=True) for item in shown]
  answers = [answer(model, text) for text in texts]
  shape = tuple(map(max, zip(*map(model.reader.bucket, prompts))))
  size = max(len(p.tokens) for p in prompts) + max(map(len, answers))
  found = np.empty((len(shown), len(texts)))
  for v, prompt in enumerate(prompts):
    start = len(prompt.tokens)
    one = model.reader.pad([prompt], (size, *shape[1:]))
    batch = {name: np.repeat(x, len(texts), 0) for name, x in one.items()}
    keys = np.zeros((len(texts), size), bool)
    for t, ids in enumerate(answers):
      end = start + len(ids)
      batch['tokens'][t, start:end] = ids
      batch['positions'][t, :, start:end] = (
          prompt.positions[0, -1] + 1 + np.arange(len(ids)))
      keys[t, :end] = True
    if masked:
      keys &= ~np.isin(
          batch['tokens'], list(model.reader.special.values()))
    values = np.asarray(_whole(model.module)(model.params, batch, keys))
    for t, ids in enumerate(answers):
      found[v, t] = np.mean(
          values[t, start - 1:start - 1 + len(ids)][np.arange(len(ids)), ids])
  return found


def least_tokens(prompt_lengths, answers):
  """Prefixes once, and each beginning of an answer once behind every one."""
  beginnings = {tuple(ids[:n]) for ids in answers for n in range(1, len(ids))}
  return sum(prompt_lengths) + len(prompt_lengths) * len(beginnings)
