"""Qwen3-VL continues prompts: answers, scores and priors."""
import pathlib

import jax
import numpy as np
import pytest

import jaxret
from jaxret import sharding
from jaxret.data.qwen3_vl import pixels
from jaxret.models import generation
from tests import tiny_unite

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden' / 'qwen3_vl' / 'model'
PROCESSOR = pixels.Processor(image=(1024, 12 * 1024), video=(1024, 24 * 1024))
ITEMS = ({'video': tiny_unite.pixels(0, 64, 64, frames=5), 'text': 'They'},
         {'image': tiny_unite.pixels(1, 64, 96)})


@pytest.fixture(scope='module')
def model():
  return jaxret.load_generator(
      GOLDEN, resolution=PROCESSOR,
      mesh=sharding.make_mesh(devices=jax.devices()[:1]))


def test_prompts_say_when_frames_are_shown(model):
  assert repr(model).startswith('Generator(qwen3_vl, ')
  prompt = model.reader(jaxret.embedder.as_item(ITEMS[0], 0), chat=True)
  said = model.reader.decode(prompt.tokens)
  assert said.startswith('<|im_start|>user\n<0.')  # of 24 a second
  assert said.count(' seconds>') == len(prompt.grids)


def test_media_are_made_as_the_files_say():
  opened = jaxret.load_generator(
      GOLDEN, mesh=sharding.make_mesh(devices=jax.devices()[:1]))
  policy = opened.reader.resolution
  assert (policy.image, policy.video) == ((4096, 61440), (4096, 245760))


@pytest.mark.slow
def test_a_batch_is_answered_as_each_alone(model):
  prompts = [model.reader(jaxret.embedder.as_item(item, i), chat=True)
             for i, item in enumerate(ITEMS)]
  def answer(prompts):
    shape = tuple(map(max, zip(*map(model.reader.bucket, prompts))))
    return generation.greedy(
        model.module, 4, model.reader.ends, model.params,
        model.reader.pad(prompts, shape)).tokens
  together = answer(prompts)
  for row, prompt in zip(together, prompts):
    np.testing.assert_array_equal(row, answer([prompt])[0])


def whole_pass(model, item, suffix, masked):
  """log P of a suffix by one sequence, its media's keys masked or not."""
  reader = model.reader
  prompt = reader(jaxret.embedder.as_item(item, 0))
  ids = reader.suffix(suffix, 'suffix')
  start, tokens = len(prompt.tokens), np.concatenate([prompt.tokens, ids])
  shape = reader.bucket(prompt)._replace(tokens=len(tokens))
  batch = reader.pad([prompt], shape)
  batch['tokens'][0] = tokens
  batch['positions'][0, :, start:] = (
      prompt.positions[0, -1] + 1 + np.arange(len(ids)))
  keys = np.ones(len(tokens), bool)
  if masked:
    keys &= ~np.isin(tokens, list(reader.special.values()))

  def logits(module, batch):
    x, visual = module.read(batch)
    hidden = module.hidden(x, keys[None], batch['positions'], visual)
    return sum(left @ right for left, right in module.vocabulary_terms(hidden))
  found = jax.jit(lambda params: model.module.apply(
      params, batch, method=logits))(model.params)[0, start - 1:-1]
  return np.take_along_axis(
      np.asarray(jax.nn.log_softmax(found)), ids[:, None], 1).sum()


@pytest.mark.slow
@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('item', ITEMS, ids=['video', 'image'])
def test_scores_are_those_of_whole_passes(model, item, masked):
  suffixes = [' in the', ' on']
  found = jaxret.score_sequences(
      [item], suffixes, model, mask_media=masked, show_progress=False)
  want = [whole_pass(model, item, suffix, masked) for suffix in suffixes]
  np.testing.assert_allclose(found[0], want, atol=2e-4)
