"""Describing media: the same text in any batch, and once."""
import functools
import json

import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.data import descriptions, types
from jaxret.methods.leccr import captioner, describe
from jaxret.methods.leccr import describer as describer_lib
from jaxret.models.qwen2_vl import model as qwen2_vl
from tests import tiny_captioner
from tests.tiny_captioner import media


def large(params):
  """Of the same shapes, so that answers are not all alike."""
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda leaf: np.asarray(leaf) + (
      0.4 * rng.normal(size=leaf.shape)).astype(np.float32), params)


@pytest.fixture(scope='module')
def mesh():
  return sharding.make_mesh(devices=jax.devices()[:2])


@pytest.fixture(scope='module')
def describer(tmp_path_factory, mesh):
  config = tiny_captioner.make_config()
  tokenizer = tiny_captioner.make_tokenizer(
      tmp_path_factory.mktemp('tokens'), config)
  init = functools.partial(
      qwen2_vl.init, captioner.model_config(config, tokenizer))
  params = large(jax.jit(init)(jax.random.key(0)))
  params = jax.device_put(params, sharding.replicated(mesh))
  return describer_lib.qwen2_vl(config, tokenizer, mesh, params)


def texts_of(directory, items):
  return descriptions.load(directory, {item.id: item.id for item in items})


@pytest.mark.slow
def test_descriptions_do_not_depend_on_their_batch(describer, mesh, tmp_path):
  items = media()
  for name, order, batch_size in (('a', items, 4), ('b', items[::-1], 2)):
    describe.describe(describer, order, tmp_path / name, batch_size, 6, mesh,
                     show_progress=False)
  together = texts_of(tmp_path / 'a', items)
  assert together == texts_of(tmp_path / 'b', items)
  assert len(set(together.values())) > 1
  lines = [json.loads(line) for line in (
      tmp_path / 'a' / 'part-0.jsonl').read_text().splitlines()]
  settings = lines[0]['settings']
  assert settings['weights'] == sharding.checksum(describer.params)
  assert settings['max_new_tokens'] == 6 and settings['decoding'] == 'greedy'
  for line in lines[1:]:
    assert line['tokens'] == 6 if line['finish'] == 'length' else (
        line['finish'] == 'stop' and 1 <= line['tokens'] <= 6)


def test_nothing_is_described_twice(describer, mesh, tmp_path, monkeypatch):
  items, calls = media(), []
  def write(describer, shape, seen, *rest):
    calls.append(len(seen))
    return [{'text': 'x', 'tokens': 1, 'finish': 'stop'}] * len(seen)
  monkeypatch.setattr(describe, '_write', write)
  run = functools.partial(describe.describe, describer, cache_dir=tmp_path,
                          batch_size=4, max_new_tokens=6, mesh=mesh,
                          show_progress=False)
  keys = run(items[:3])
  assert sum(calls) == 3 and list(keys) == [item.id for item in items[:3]]
  assert {**keys, **run(items)} == run(items)
  assert sum(calls) == 5


def test_an_item_that_cannot_be_read_is_named(describer, mesh, tmp_path):
  items = [*media(), types.Item('bad', image=b'no image')]
  with pytest.raises(ValueError, match='bad: its image cannot be read'):
    describe.describe(describer, items, tmp_path, 1, 6, mesh,
                     show_progress=False)
  # Those before it were described, but the one whose batch was not full.
  assert texts_of(tmp_path, items[:1])
  with pytest.raises(ValueError, match='nothing: it has no image or video'):
    describer.read(types.Item('nothing', text='words'))
