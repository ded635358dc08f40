"""Describing media: the same text in any batch, once, and from real files."""
import functools
import json

import jax
import numpy as np
import pytest

from jaxret import main, sharding
from jaxret.data import descriptions, text, types
from jaxret.data.shapes import render
from jaxret.methods.leccr import caption_examples, captioner
from jaxret.methods.leccr import describe as caption
from jaxret.models.qwen2_vl import model as qwen2_vl
from jaxret.models.videochat import files as videochat
from tests import tiny_cross_lingual, tiny_runs

CAPTIONS = ['a red circle', 'a blue square on a grey background'] * 3


def make_config(**fields):
  section = main.load_config(str(tiny_cross_lingual.CONFIG)).captioner
  with section.unlocked():
    section.update_from_flattened_dict(
        {**tiny_cross_lingual.CAPTIONER, 'shape': (), **fields})
  return section


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
  config = make_config()
  tokenizer = text.train_tokenizer(
      CAPTIONS, 400, tmp_path_factory.mktemp('tokens') / 'tokenizer',
      caption_examples.CONTROL_TOKENS, list(config.questions.values()))
  init = functools.partial(
      qwen2_vl.init, captioner.model_config(config, tokenizer))
  params = large(jax.jit(init)(jax.random.key(0)))
  params = jax.device_put(params, sharding.replicated(mesh))
  return caption.qwen2_vl(config, tokenizer, mesh, params)


def pixels(seed, *shape):
  return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def media():
  """Images of two sizes and a video, in no order; of two buckets."""
  return [types.Item('wide', image=pixels(0, 28, 56)),
          types.Item('square', image=pixels(1, 56, 56)),
          types.Item('clip', video=pixels(2, 2, 56, 56)),
          types.Item('wider', image=pixels(3, 28, 56)),
          types.Item('other', image=pixels(4, 56, 56))]


def texts_of(directory, items):
  return descriptions.load(directory, {item.id: item.id for item in items})


def test_descriptions_do_not_depend_on_their_batch(describer, mesh, tmp_path):
  items = media()
  for name, order, batch_size in (('a', items, 4), ('b', items[::-1], 2)):
    caption.describe(describer, order, tmp_path / name, batch_size, 6, mesh,
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
  monkeypatch.setattr(caption, '_write', write)
  run = functools.partial(caption.describe, describer, cache_dir=tmp_path,
                          batch_size=4, max_new_tokens=6, mesh=mesh,
                          show_progress=False)
  keys = run(items[:3])
  assert sum(calls) == 3 and list(keys) == [item.id for item in items[:3]]
  assert {**keys, **run(items)} == run(items)
  assert sum(calls) == 5


def test_an_item_that_cannot_be_read_is_named(describer, mesh, tmp_path):
  items = [*media(), types.Item('bad', image=b'no image')]
  with pytest.raises(ValueError, match='bad: its image cannot be read'):
    caption.describe(describer, items, tmp_path, 1, 6, mesh,
                     show_progress=False)
  # Those before it were described, but the one whose batch was not full.
  assert texts_of(tmp_path, items[:1])
  with pytest.raises(ValueError, match='nothing: it has no image or video'):
    describer.read(types.Item('nothing', text='words'))


def test_training_reads_the_answer_after_the_question(describer, tmp_path):
  """The tokens that count are those of the caption and its end."""
  tokenizer = text.train_tokenizer(
      CAPTIONS, 400, tmp_path / 'tokenizer', caption_examples.CONTROL_TOKENS)
  reader = captioner.reader(make_config(), tokenizer)
  split = types.Split(
      'x', 'train', tuple(media()[:2]),
      (types.Item('0', text=CAPTIONS[0]), types.Item('1', text=CAPTIONS[1])),
      np.array([0, 1], np.int32))
  examples = caption_examples.CaptionExamples(reader, split)
  for i in range(2):
    example = examples[i]
    answer = example['tokens'][example['prompt_length']:example['length']]
    assert tokenizer.decode(answer) == f'{CAPTIONS[i]}{text.END}'
    asked = tokenizer.decode(example['tokens'][:example['prompt_length']])
    assert asked.endswith(
        f'in details.{text.END}\n{text.START}assistant\n')
  assert examples[0]['tokens'].shape == examples[1]['tokens'].shape
  assert examples[0]['patches'].shape == examples[1]['patches'].shape


@pytest.mark.slow
def test_videochat_flash_describes_from_its_files(
    mesh, tmp_path, monkeypatch):
  for name, value in tiny_runs.TINY_TOWER.items():
    monkeypatch.setattr(videochat, name, value)
  directory = tmp_path / 'model'
  tiny_runs.write_released_model(directory, CAPTIONS, 16)
  config = make_config()
  with config.unlocked():
    config.model.update(family='videochat_flash', pretrained=str(directory))
    config.media = {'clips': 2}
  tokenizer = text.load_tokenizer(directory)
  found = caption.open_describer(config, tokenizer, mesh)
  items = [types.Item('clip', video=tiny_runs.video_bytes(0)),
           types.Item('still', image=render.encode_image(pixels(1, 40, 40))),
           types.Item('other', video=tiny_runs.video_bytes(1))]
  for item, clips in zip(items, (2, 1, 2)):
    seen = found.read(item)
    batch = found.batch(found.params, found.pad([seen], found.shape(seen)))
    assert batch['features'].shape == (1, clips, 4, 16)
    assert (batch['tokens'] == types.VISUAL).sum() == 4 * clips
    asked = tokenizer.decode(batch['tokens'][0, -20:].clip(0))
    assert asked.endswith(f' details.{text.END}\n{text.START}assistant\n')
  for name, order in (('a', items), ('b', items[::-1])):
    caption.describe(found, order, tmp_path / name, 2, 5, mesh,
                     show_progress=False)
  together = texts_of(tmp_path / 'a', items)
  assert together == texts_of(tmp_path / 'b', items)
  assert all(together.values())


def test_other_families_are_refused(mesh):
  config = make_config()
  config.model.family = 'llava'
  with pytest.raises(ValueError, match="'llava' is not known; want one of qw"):
    caption.open_describer(config, None, mesh)
