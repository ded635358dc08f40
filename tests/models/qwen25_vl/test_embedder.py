"""jaxret.load of Qwen2.5-VL: items of all kinds, adapters, what it refuses."""
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

import jaxret
from jaxret import sharding
from jaxret.data.qwen2_vl import pixels
from jaxret.data.qwen2_vl import reader as reader_lib
from jaxret.models import adapter_export, adapter_import, adapters, names
from jaxret.models.qwen2_vl import model as model_lib
from tests import tiny_unite

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden' / 'qwen25_vl' / 'model'
RESOLUTION = pixels.Resolution(
    released=False, processor=(28 * 28, 12 * 28 * 28),
    read_video=(28 * 28, 6 * 28 * 28), max_frames=6, min_frames=2)
ITEMS = ['red square moves', {'image': tiny_unite.pixels(0, 90, 130)},
         {'text': 'up', 'video': tiny_unite.pixels(1, 60, 60, frames=6)}]


def load(path=GOLDEN, **options):
  return jaxret.load(path, resolution=RESOLUTION, mesh=sharding.make_mesh(
      devices=jax.devices()[:1]), **options)


@pytest.fixture(scope='module')
def embedder():
  return load(position_mode='mrope')


def test_it_is_opened_by_its_type(embedder):
  assert 'qwen2_5_vl' in repr(embedder) and embedder.width == 64
  layout = embedder.reader.layout
  assert (layout.window, layout.tokens_per_second) == (2, 2)


@pytest.mark.slow
def test_an_embedding_does_not_depend_on_the_bucket(embedder):
  """Each item alone, unpadded but for its rows, against a common batch."""
  got = embedder.encode(ITEMS, show_progress=False)
  np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)
  inputs = [embedder.reader(jaxret.embedder.as_item(item, i))
            for i, item in enumerate(ITEMS)]
  shape = reader_lib.common_shape(map(embedder.reader.bucket, inputs))
  batch = embedder.reader.pad(inputs, (*shape[:2], shape.patches + 16))
  want = embedder.embed(embedder.params, batch)
  np.testing.assert_allclose(got, want, atol=5e-6)


def test_time_and_windows_matter(embedder):
  """Without them the embedding of a video is another; of text it is not."""
  inputs = [embedder.reader(jaxret.embedder.as_item(item, i))
            for i, item in enumerate(ITEMS)]
  shape = reader_lib.common_shape(map(embedder.reader.bucket, inputs))
  def embed(**changes):
    layout = embedder.reader.layout._replace(**changes)
    return np.asarray(embedder.embed(embedder.params, reader_lib.pad(
        inputs, shape, embedder.reader.special, True, layout)))
  want = embed()
  slow = np.abs(embed(tokens_per_second=None) - want).max(1)
  assert slow[2] > 1e-3 and slow[:2].max() < 1e-6
  other = np.abs(embed(window=0) - want).max(1)
  assert other[1] > 1e-3 and other[0] < 1e-6


@pytest.mark.parametrize('item, message', [
    ({'id': 'x', 'image': b'none'}, 'x: its image cannot be read'),
    ({'id': 'x', 'text': 'a <|video_pad|>'}, 'x: its text holds the control'),
    ({'id': 'x', 'video': tiny_unite.pixels(0)}, 'x: its video is uint8'),
    ({'id': 'x', 'text': 'red ' * 4000}, r'x: \d+ tokens, want at most 2048')])
def test_bad_items_are_named_in_one_line(embedder, item, message):
  with pytest.raises(ValueError, match=message) as caught:
    embedder.encode([item], show_progress=False)
  assert '\n' not in str(caught.value)


def lora_of(embedder, modules):
  """Random factors of the linears whose keys end so, as PEFT names them."""
  random, tensors = np.random.default_rng(0), {}
  flat = sharding.flatten(sharding.to_host(embedder.params))
  for weight in names.QWEN25_VL:
    leaf = flat.get(f'params/{weight.path}')
    if leaf is None or not weight.key.endswith(modules):
      continue
    for layer in range(len(leaf)):
      key = weight.key.format(layer=layer).removesuffix('.weight')
      for part, shape in (('A', (2, leaf.shape[1])), ('B', (leaf.shape[2], 2))):
        tensors[f'base_model.model.{names.newer_key(key)}.lora_{part}'
                '.weight'] = 0.1 * random.normal(size=shape).astype(np.float32)
  return tensors


def test_an_adapter_of_decoder_and_tower_is_merged(embedder, tmp_path):
  modules = ('q_proj.weight', 'gate_proj.weight', 'attn.qkv.weight')
  tensors = lora_of(embedder, modules)
  assert any('visual.blocks.3.mlp.gate_proj' in key for key in tensors)
  safetensors.numpy.save_file(
      tensors, tmp_path / 'adapter_model.safetensors')
  (tmp_path / 'adapter_config.json').write_text(json.dumps({
      'peft_type': 'LORA', 'r': 2, 'lora_alpha': 4, 'bias': 'none',
      'target_modules': ['q_proj', 'gate_proj', 'qkv']}))
  merged = load(position_mode='mrope', adapter=tmp_path)
  source = {key: np.asarray(tensor) for key, tensor in
            safetensors.numpy.load_file(GOLDEN / 'model.safetensors').items()}
  for key in source:
    name = f'base_model.model.{names.newer_key(key.removesuffix(".weight"))}'
    if f'{name}.lora_A.weight' in tensors:
      source[key] = source[key] + 2 * (
          tensors[f'{name}.lora_B.weight'] @ tensors[f'{name}.lora_A.weight'])
  changed = tmp_path / 'merged'
  shutil.copytree(GOLDEN, changed)
  safetensors.numpy.save_file(source, changed / 'model.safetensors')
  want = load(changed, position_mode='mrope')
  jax.tree.map(lambda one, other: np.testing.assert_allclose(
      one, other, atol=1e-6), merged.params, want.params)


def test_an_adapter_is_written_as_it_was_read(embedder, tmp_path):
  tensors = lora_of(embedder, ('k_proj.weight', 'down_proj.weight'))
  read = adapter_import.import_peft(tensors, names.QWEN25_VL, embedder.params)
  adapter_export.export_peft(
      adapters.Adapter(lora=read.lora, scale=2.0), tmp_path, nested=False,
      weights=names.newer(names.QWEN25_VL))
  found = safetensors.numpy.load_file(tmp_path / 'adapter_model.safetensors')
  assert found.keys() == tensors.keys()
  for key in found:
    np.testing.assert_array_equal(found[key], tensors[key])


def test_a_position_mode_that_is_not_known_is_refused():
  with pytest.raises(ValueError, match="position_mode 'time' is unknown"):
    load(position_mode='time')


@pytest.mark.slow
def test_parts_of_long_videos_take_bounded_memory():
  """Twice as many rows take the tower no more room at a time."""
  config = load().config
  params = jax.eval_shape(
      lambda key: model_lib.init(config, key), jax.random.key(0))
  def memory(rows):
    patches = jax.ShapeDtypeStruct((1, rows, 4096, 1176), np.uint8)
    segments = jax.ShapeDtypeStruct((1, rows, 4096), np.int32)
    coordinates = jax.ShapeDtypeStruct((1, rows, 4096, 2), np.int32)
    return jax.jit(lambda *args: config.module().apply(
        *args, method='visual_tokens')).lower(
            params, patches, segments, coordinates).compile(
                ).memory_analysis().temp_size_in_bytes
  of_one, of_two = memory(4), memory(8)
  pixels_of_part = 4 * 4096 * 1176
  assert of_two < of_one + 3 * pixels_of_part
