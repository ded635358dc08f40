"""Qwen3-VL-Embedding as its authors' script embeds: prompts, pixels, vectors.
"""
import dataclasses
import functools

import jax
import numpy as np
import pytest

import jaxret
from jaxret.data import media, types
from jaxret.data.qwen2_vl import reader as inputs_lib
from jaxret.data.qwen3_vl import pixels as qwen3_vl
from jaxret.data.qwen3_vl import reader as reader_lib
from jaxret.models.qwen2_vl import model as qwen2_vl
from jaxret.models.qwen3_vl import vision
from tests.parity import qwen3_vl_reference as reference

# Unit vectors; the second where frames were resized by other code than ours.
EMBEDDINGS, OF_FRAMES, RAW = 5e-6, 8e-6, 5e-5
PIXELS = 1e-5
GREY_LEVEL = 2 / 255 + 1e-5


def settings(case, item):
  """A Resolution with the options of a case and of an item of it."""
  options = {**case['options'], **item}
  found = {name: options[name] for name in ('fps', 'max_frames')
           if name in options}
  if 'listed' not in options and 'repository head' in case['qwen_vl_utils']:
    found['listed_px'] = qwen3_vl.TOKEN_PX
  return qwen3_vl.Resolution(**found)


def item_of(folder, given, name):
  """The golden input as `encode` is given one."""
  def path(value):
    if isinstance(value, list):
      return tuple(map(path, value))
    return str(folder / 'embedding' / 'media' / value)
  fields = {kind: path(given[kind]) for kind in ('image', 'video')
            if kind in given}
  text = given.get('text')
  fields['text'] = tuple(text) if isinstance(text, list) else text
  return types.Item(name, **fields)


@pytest.fixture(scope='module')
def golden(qwen3_vl_golden):
  return reference.table(qwen3_vl_golden, 'embedding/cases.json')


def read_all(folder, golden, names):
  """{case: [Inputs]} of the authors' inputs, by our reader."""
  found = {}
  for name in names:
    case = golden['cases'][name]
    tokenizer = reference.tokenizer(folder, case['tokenizer'])
    found[name] = []
    for i, given in enumerate(case['inputs']):
      reader = reader_lib.Reader(
          tokenizer, settings(case, given),
          case['options'].get('max_length', golden['defaults']['max_length']),
          trim_text=True)
      item = item_of(folder, given, f'{name} {i}')
      read = reader(item, given.get('instruction'))
      assert reader.bucket(read) == reader.shape(item, given.get('instruction'))
      found[name].append(read)
  return found


@pytest.fixture(scope='module')
def inputs(qwen3_vl_golden, golden):
  return read_all(qwen3_vl_golden, golden, golden['cases'])


def arrays_of(folder, golden, name):
  return reference.read(folder, f'embedding/{golden["cases"][name]["file"]}')


def test_qwen3_vl_embedding_defaults_are_the_script_s(golden):
  ours, theirs = qwen3_vl.Resolution(), golden['defaults']
  assert ours.image == (theirs['min_pixels'], theirs['max_pixels'])
  assert (ours.listed_total, ours.fps, ours.max_frames) == (
      theirs['total_pixels'], theirs['fps'], theirs['max_frames'])


def test_qwen3_vl_embedding_tokens(qwen3_vl_golden, golden, inputs):
  """Prompts, times, grids and endings: the ids that the script gives."""
  for name, rows in inputs.items():
    arrays = arrays_of(qwen3_vl_golden, golden, name)
    for row, ids, mask in zip(
        rows, arrays['in/input_ids'], arrays['in/attention_mask'].astype(bool)):
      np.testing.assert_array_equal(row.tokens, ids[mask], err_msg=name)


def test_qwen3_vl_embedding_pixels(qwen3_vl_golden, golden, inputs):
  checked = set()
  for name, rows in inputs.items():
    arrays = arrays_of(qwen3_vl_golden, golden, name)
    for kind, (pixels, grids) in reference.KINDS.items():
      if f'{pixels}/rows' not in arrays:
        continue
      seen = [(grid, patches) for row in rows for its, grid, patches in grouped(
          row) if its == kind]
      np.testing.assert_array_equal(
          [grid for grid, _ in seen], arrays[grids], err_msg=name)
      got = np.asarray(vision.pixel_values(
          np.concatenate([patches for _, patches in seen])))
      sampled = np.abs(got[arrays[f'{pixels}/rows_idx']]
                       - arrays[f'{pixels}/rows'])
      atol = PIXELS if kind == 'image' else GREY_LEVEL
      assert sampled.max() <= atol, name
      assert np.mean(sampled > PIXELS) < 1e-3, name
      for axis, key in ((0, 'col_mean'), (1, 'row_mean')):
        np.testing.assert_allclose(
            got.mean(axis), arrays[f'{pixels}/{key}'],
            atol=PIXELS if kind == 'image' else 1e-4, err_msg=name)
      checked.add(kind)
  assert checked == {'image', 'video'}


def grouped(row):
  """(kind, whole grid, patches) of each medium of a row."""
  kinds, grids = list(row.kinds), list(row.grids)
  for patches in row.patches:
    _, h, w = grids[0]
    t = len(patches) // (h * w)
    yield kinds[0], (t, h, w), patches
    del kinds[:t], grids[:t]


@functools.cache
def compiled(config):
  def both(module, batch):
    pooled = module.pooled(batch)
    return pooled, qwen2_vl.unit(pooled)
  return jax.jit(functools.partial(config.module().apply, method=both))


@pytest.mark.slow
def test_qwen3_vl_embeddings(qwen3_vl_golden, golden, inputs):
  model = reference.model(qwen3_vl_golden)
  groups = {}
  for name, rows in inputs.items():
    arrays = arrays_of(qwen3_vl_golden, golden, name)
    for row, raw, unit in zip(
        rows, arrays['out/embedding_raw'], arrays['out/embedding']):
      shape = inputs_lib.shape_of(len(row.tokens), row.grids)
      groups.setdefault(shape, []).append((row, raw, unit))
  for shape, group in groups.items():
    rows, raw, unit = zip(*group)
    pooled, got = compiled(model.config)(
        model.params, reader_lib.pad(rows, shape, model.special))
    for i, row in enumerate(rows):
      resized = 'video' in row.kinds
      np.testing.assert_allclose(
          got[i], unit[i], atol=OF_FRAMES if resized else EMBEDDINGS,
          err_msg=row.id)
      np.testing.assert_allclose(
          pooled[i], raw[i], atol=RAW, err_msg=row.id)


@pytest.mark.slow
@pytest.mark.parametrize('ending', ['plain', 'eot'])
def test_qwen3_vl_embeddings_by_the_front_door(
    qwen3_vl_golden, golden, inputs, tmp_path, ending):
  """jaxret.load and encode, of the directory with either tokenizer."""
  names = [name for name in golden['cases'] if name.startswith(f'{ending}/')
           and not golden['cases'][name]['options']
           and not any('fps' in given or 'video' in given
                       for given in golden['cases'][name]['inputs'])]
  case = golden['cases'][names[0]]
  for file in (qwen3_vl_golden / 'model').iterdir():
    if file.name != 'tokenizer.json':
      (tmp_path / file.name).symlink_to(file)
  (tmp_path / 'tokenizer.json').symlink_to(qwen3_vl_golden / case['tokenizer'])
  model = jaxret.load(tmp_path)
  for prompt in {given.get('instruction') for name in names
                 for given in golden['cases'][name]['inputs']}:
    items, wanted = [], []
    for name in names:
      vectors = arrays_of(qwen3_vl_golden, golden, name)['out/embedding']
      for given, vector in zip(golden['cases'][name]['inputs'], vectors):
        if given.get('instruction') == prompt:
          items.append(item_of(qwen3_vl_golden, given, name))
          wanted.append(vector)
    got = model.encode(items, prompt=prompt, show_progress=False)
    np.testing.assert_allclose(got, wanted, atol=EMBEDDINGS)


def test_qwen3_vl_file_is_decoded_as_by_the_authors(qwen3_vl_golden):
  folder = qwen3_vl_golden / 'embedding' / 'media'
  with np.load(folder / 'clip_decoded.npz') as arrays:
    decoded = next(array for array in arrays.values() if array.ndim == 4)
  frames = media.sample_frames(
      str(folder / 'clip.mp4'), lambda n_frames, fps: np.arange(n_frames))
  np.testing.assert_array_equal(np.stack(frames), decoded)


def test_qwen3_vl_too_long_an_item_is_refused_or_cut(qwen3_vl_golden, golden):
  name = next(name for name in golden['cases'] if name.endswith('/truncated'))
  case = golden['cases'][name]
  tokenizer = reference.tokenizer(qwen3_vl_golden, case['tokenizer'])
  item = item_of(qwen3_vl_golden, case['inputs'][0], 'long')
  most = case['options']['max_length']
  reader = reader_lib.Reader(tokenizer, qwen3_vl.Resolution(), most)
  with pytest.raises(ValueError, match=f'long: .* want at most {most}'):
    reader(item)
  shown = dataclasses.replace(item, image=np.zeros((320, 320, 3), np.uint8))
  with pytest.raises(ValueError, match='long: .* are never cut'):
    reader_lib.Reader(tokenizer, qwen3_vl.Resolution(), most, True)(shown)
