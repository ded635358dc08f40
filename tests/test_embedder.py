"""The embedding front end: order, buckets, recompilation, bad items."""
import io
import logging

import jax
import numpy as np
import PIL.Image
import pytest

from jaxret import embedder as embedding
from jaxret import quantization, sharding, train
from jaxret.data import types
from jaxret.methods.unite import method as unite
from tests import tiny_unite


def png(array):
  file = io.BytesIO()
  PIL.Image.fromarray(array).save(file, 'png')
  return file.getvalue()


@pytest.fixture(scope='module')
def config():
  return tiny_unite.make_config()


@pytest.fixture(scope='module')
def model(config):
  tokenizer = tiny_unite.tokenizer()
  mesh = sharding.make_mesh(devices=jax.devices()[:2])
  params = train.init_params(unite.method(config, tokenizer), 0, mesh)
  return embedding.Embedder(
      unite.model_config(config, tokenizer), params,
      unite.reader(config, tokenizer), mesh)


def mixture():
  """Items of all kinds and several sizes, in no order."""
  return [
      'red square moves', {'image': tiny_unite.pixels(0)},
      {'text': 'blue ' * 20}, {'video': tiny_unite.pixels(1, frames=4)},
      {'text': 'up', 'image': tiny_unite.pixels(2, 28, 56)},
      {'image': png(tiny_unite.pixels(0))},
      {'image': [tiny_unite.pixels(3), tiny_unite.pixels(4)]},
      {'image': PIL.Image.fromarray(tiny_unite.pixels(0))},
      types.Item('named', text='left right'), {'id': 'own', 'text': 'left'},
      {'video': [tiny_unite.pixels(i) for i in range(4)], 'text': 'right'}]


def test_repr_says_model_width_dtype_and_devices(model):
  assert repr(model) == 'Embedder(qwen2_vl, width 16, float32, 2 x cpu)'
  half = embedding.Embedder(
      model.config, jax.tree.map(lambda leaf: leaf.astype('bfloat16'),
                                 model.params), model.reader)
  assert repr(half) == 'Embedder(qwen2_vl, width 16, bfloat16, 8 x cpu)'


def test_results_are_in_input_order_and_unit(model):
  items = mixture()
  got = model.encode(items, batch_size=4, show_progress=False)
  assert got.dtype == np.float32 and got.shape == (len(items), model.width)
  np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, rtol=1e-5)
  for row, item in zip(got, items):
    alone = model.encode(item, show_progress=False)
    assert alone.shape == (model.width,)
    np.testing.assert_allclose(row, alone, atol=1e-5)
  np.testing.assert_array_equal(got[1], got[5])  # pixels, file, PIL image
  np.testing.assert_array_equal(got[1], got[7])


def test_layers_in_8_bits_embed_about_the_same(model):
  """On two devices; the tower's layers and the decoder's."""
  pytest.importorskip('qwix')
  small = model.in_8_bits()
  places = sharding.flatten(small.params)
  for part in ('decoder/layers/mlp/up', 'vision/blocks/attention/qkv'):
    assert places[f'quantized/{part}/codes'].dtype == np.int8
    assert f'params/{part}/kernel' not in places
  items = mixture()[:2]
  whole, got = (one.encode(items, show_progress=False)
                for one in (model, small))
  cosines = (whole * got).sum(1)
  assert (cosines > 0.99).all() and (cosines < 1 - 1e-7).any()


def test_embeddings_are_cut_and_unit_again(model):
  items = mixture()[:3]
  whole = model.encode(items, show_progress=False)
  got = model.encode(items, show_progress=False, truncate_dim=5)
  np.testing.assert_allclose(
      got, whole[:, :5] / np.linalg.norm(whole[:, :5], axis=1, keepdims=True),
      atol=1e-6)
  short = embedding.Embedder(model.config, model.params, model.reader,
                             model.mesh, truncate_dim=5)
  assert short.width == 5
  np.testing.assert_array_equal(
      short.encode(items, show_progress=False), got)
  for wrong in (0, 17, 2.0, True):
    with pytest.raises(ValueError, match='want a whole number from 1 to 16'):
      model.encode(items, truncate_dim=wrong)


def test_embeddings_are_quantized_after_they_are_cut(model):
  items = mixture()[:3]
  def encode(items=items, **options):
    return model.encode(items, show_progress=False, truncate_dim=10, **options)
  whole = encode()
  bits = encode(precision='ubinary')
  assert bits.shape == (3, 2) and bits.dtype == np.uint8
  np.testing.assert_array_equal(bits, np.packbits(whole > 0, axis=1))
  codes = encode(precision='int8', calibration=whole)
  np.testing.assert_array_equal(
      codes, quantization.quantize(whole, 'int8', whole))
  np.testing.assert_array_equal(
      encode(items[1], precision='int8', calibration=whole), codes[1])
  assert encode([], precision='int8').shape == (0, 10)


def test_what_cannot_be_quantized_or_compared_is_refused(model):
  items = mixture()[:3]
  def encode(items=items, **options):
    return model.encode(items, show_progress=False, **options)
  for wrong, said in (({'precision': 'int4'}, "got 'int4'"),
                      ({'precision': 'int8', 'on_error': 'skip'}, 'no NaN')):
    with pytest.raises(ValueError, match=said):
      encode(**wrong)
  with pytest.raises(ValueError, match='range of each dimension'):
    encode(items[1], precision='int8')
  codes, whole = encode(precision='binary'), encode()
  for compare in (lambda: model.similarity(codes, codes),
                  lambda: model.search(codes, whole, k=1),
                  lambda: model.search(whole, codes, k=1),
                  lambda: model.search(whole, iter([codes]), k=1)):
    with pytest.raises(ValueError, match='got int8 vectors, want floats'):
      compare()


def test_nothing_is_compiled_after_warm_up(model):
  items = mixture()
  model.encode(items, batch_size=4, show_progress=False)
  before = model.embed._cache_size()
  shuffled = [items[i] for i in np.random.default_rng(0).permutation(
      len(items))]
  model.encode(shuffled, batch_size=4, show_progress=False)
  assert model.embed._cache_size() == before
  model.encode(items, batch_size=len(items), show_progress=False)
  before = model.embed._cache_size()
  # As many as fit into the rows that are there.
  model.encode(items[:1] + ['blue circle moves'] + items[1:],
               batch_size=len(items) + 1, show_progress=False)
  assert model.embed._cache_size() == before


def test_prompt_stands_in_front_of_the_text(model):
  def encode(*items, **options):
    return model.encode(list(items), show_progress=False, **options)
  np.testing.assert_array_equal(
      encode('red', prompt='left '), encode('left red'))
  image = tiny_unite.pixels(0)
  np.testing.assert_allclose(
      encode({'image': image}, prompt='left'),
      encode({'text': 'left', 'image': image}), atol=1e-6)
  assert np.abs(encode({'text': 'left', 'image': image})
                - encode({'image': image, 'text': 'left'})).max() > 1e-4


def test_similarity_is_the_cosine(model):
  random = np.random.default_rng(0)
  left, right = random.normal(size=(3, 5)), random.normal(size=(2, 5))
  got = model.similarity(left, right)
  assert got.dtype == np.float32
  for i in range(3):
    for j in range(2):
      want = left[i] @ right[j] / np.sqrt(
          (left[i] @ left[i]) * (right[j] @ right[j]))
      np.testing.assert_allclose(got[i, j], want, rtol=1e-5)


def test_search_finds_what_is_most_similar(model):
  vectors = model.encode(mixture(), show_progress=False)
  scores, indices = model.search(vectors[2:5], vectors, k=3)
  np.testing.assert_array_equal(indices[:, 0], [2, 3, 4])
  np.testing.assert_allclose(scores[:, 0], 1, rtol=1e-5)


BAD = [
    ({}, 'item 1: it has no text, image or video'),
    ({'image': b'broken'}, 'item 1: its image cannot be read'),
    ({'text': '<|IMAGE|> a'}, 'item 1: its text has 1 marks'),
    ({'text': 'red ' * 900}, r'item 1: \d+ tokens, want at most 160'),
    ({'audio': 'x.wav'}, "item 1: unknown key 'audio'"),
    ({'id': 'mine', 'text': None}, 'mine: it has no text'),
    (7, 'item 1: got int; want a text or a dict'),
]


@pytest.mark.parametrize('bad, message', BAD)
def test_bad_item_is_named_or_skipped(model, bad, message, caplog):
  model.reader.trim_text = False
  items = ['red', bad, 'blue']
  with pytest.raises(ValueError, match=message) as error:
    model.encode(items, show_progress=False)
  assert '\n' not in str(error.value)
  with caplog.at_level(logging.WARNING):
    got = model.encode(items, on_error='skip', show_progress=False)
  assert np.isnan(got[1]).all() and np.isfinite(got[[0, 2]]).all()
  assert len(caplog.records) == 1
  assert str(error.value) in caplog.text


def test_embedding_that_is_not_finite_names_its_item(model):
  broken = jax.tree.map(lambda leaf: leaf, model.params)
  broken['params']['decoder']['final_norm']['scale'] *= np.nan
  with pytest.raises(ValueError, match='item 0: its embedding is not finite'):
    embedding.Embedder(model.config, broken, model.reader, model.mesh).encode(
        ['red'], show_progress=False)


def test_other_values_of_on_error_are_refused(model):
  with pytest.raises(ValueError, match="want 'raise' or 'skip'"):
    model.encode(['red'], on_error='ignore')
