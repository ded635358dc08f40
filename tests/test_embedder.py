"""The embedding front end: order, buckets, recompilation, bad items."""
import io
import json
import logging

import jax
import numpy as np
import PIL.Image
import pytest
import safetensors.numpy

import jaxret
from jaxret import embedder as embedding
from jaxret import sharding, train
from jaxret.data import types
from jaxret.data.qwen2_vl import pixels as qwen2_vl
from jaxret.methods.unite import method as unite
from jaxret.models import names
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


def test_nothing_is_compiled_after_warm_up(model):
  items = mixture()
  model.encode(items, batch_size=4, show_progress=False)
  before = model.embed._cache_size()
  shuffled = [items[i] for i in np.random.default_rng(0).permutation(
      len(items))]
  model.encode(shuffled, batch_size=4, show_progress=False)
  model.encode(items[:1] + ['blue circle moves'] + items[1:], batch_size=4,
               show_progress=False)
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


@pytest.mark.parametrize('shards', [1, 2, 8])
def test_groups_are_cut_where_padding_would_be_more_than_a_quarter(shards):
  for count in range(1, 70):
    parts = list(embedding._parts(list(range(count)), shards))
    assert sum(parts, []) == list(range(count))
    for part in parts:
      rows = max(shards, 2 ** (len(part) - 1).bit_length())
      assert rows == shards or 4 * (rows - len(part)) <= rows
    # As few as that allows: no two that follow would fit together.
    for one, other in zip(parts, parts[1:]):
      whole = len(one) + len(other)
      assert 4 * whole < 3 * 2 ** (whole - 1).bit_length()


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


def hub_directory(directory, config, params):
  """A tiny model in the layout of published checkpoints."""
  c, tokenizer = config, tiny_unite.tokenizer()
  (directory / 'config.json').write_text(json.dumps({
      'model_type': 'qwen2_vl', 'hidden_size': c.decoder.width,
      'intermediate_size': c.decoder.mlp_width, 'rms_norm_eps': 1e-6,
      'num_hidden_layers': c.decoder.layers,
      'num_attention_heads': c.decoder.heads,
      'num_key_value_heads': c.decoder.kv_heads,
      'rope_theta': c.decoder.rope_theta,
      'rope_scaling': {'mrope_section': c.decoder.rope_sections},
      'vocab_size': c.decoder.vocab_size, 'tie_word_embeddings': True,
      'vision_config': {
          'embed_dim': c.vision.width, 'hidden_size': c.decoder.width,
          'depth': c.vision.layers, 'num_heads': c.vision.heads,
          'mlp_ratio': c.vision.mlp_width / c.vision.width, 'patch_size': 14,
          'spatial_merge_size': 2, 'temporal_patch_size': 2}}))
  tensors = {}
  flat = sharding.flatten(sharding.to_host(params['params']))
  for weight in names.QWEN2_VL:
    if weight.path not in flat:
      continue
    leaf = flat[weight.path]
    for layer, part in enumerate(leaf if '{layer}' in weight.key else [leaf]):
      if weight.transform == 'transpose':
        part = part.T
      elif weight.transform == 'flatten':
        part = part.T.reshape(-1, 3, 2, 14, 14)
      tensors[weight.key.format(layer=layer)] = np.ascontiguousarray(part)
  safetensors.numpy.save_file(tensors, directory / 'model.safetensors')
  fast = {'tokenizer_class': 'x', 'pad_token': '<|endoftext|>',
          'eos_token': '<|im_end|>'}
  (directory / 'tokenizer_config.json').write_text(json.dumps(fast))
  return tokenizer


def test_published_directory_is_loaded(model, tmp_path, monkeypatch):
  tokenizer = hub_directory(tmp_path, model.config, model.params)
  monkeypatch.setattr(embedding.text, 'load_tokenizer', lambda path: tokenizer)
  resolution = qwen2_vl.resolution(tiny_unite.make_config().media)
  loaded = jaxret.load(
      tmp_path, resolution=resolution, max_tokens=160, mesh=model.mesh)
  items = mixture()[:4]
  np.testing.assert_allclose(
      loaded.encode(items, show_progress=False),
      model.encode(items, show_progress=False), atol=1e-6)


def test_published_weights_that_are_not_finite_are_refused(
    model, tmp_path, monkeypatch):
  params = jax.tree.map(np.array, sharding.to_host(model.params))
  params['params']['decoder']['final_norm']['scale'][-1] = np.nan
  tokenizer = hub_directory(tmp_path, model.config, params)
  monkeypatch.setattr(embedding.text, 'load_tokenizer', lambda path: tokenizer)
  with pytest.raises(ValueError) as error:
    jaxret.load(tmp_path, mesh=model.mesh)
  assert str(error.value).startswith(
      f'{tmp_path / "model.safetensors"}: model.norm.weight holds NaN')


@pytest.mark.slow
@pytest.mark.parametrize('with_lora', [False, True])
def test_workdir_is_loaded(tmp_path, monkeypatch, with_lora):
  config, tokenizer = tiny_unite.make_config(), tiny_unite.tokenizer()
  if with_lora:
    tiny_unite.with_lora(config)
  monkeypatch.setattr(embedding.text, 'load_tokenizer', lambda path: tokenizer)
  method = unite.method(config, tokenizer)
  mesh = sharding.make_mesh(devices=jax.devices()[:2])
  pairs = [tiny_unite.Pair(tiny_unite.item('text', i),
                           tiny_unite.item('text', i + 1)) for i in range(16)]
  examples = method.examples(pairs)
  params = train.fit(method, examples, config, tmp_path, mesh)
  loaded = jaxret.load(tmp_path, mesh=mesh)
  want = embedding.Embedder(
      unite.model_config(config, tokenizer), params,
      unite.reader(config, tokenizer), mesh)
  items = ['red square', {'image': tiny_unite.pixels(0)}]
  np.testing.assert_allclose(
      loaded.encode(items, show_progress=False),
      want.encode(items, show_progress=False), atol=1e-6)
  with pytest.raises(ValueError, match='no checkpoints in'):
    embedding.trained(config, tokenizer, tmp_path / 'none', mesh)
  config.init_from = str(tmp_path / 'none')
  with pytest.raises(ValueError, match='none holds no config.json: name the'):
    embedding.start(config, method, tokenizer, tmp_path, mesh)


@pytest.mark.parametrize('trim_text', [True, False])
def test_trim_text_reaches_mm_embed(tmp_path, caplog, pytestconfig, trim_text):
  golden = pytestconfig.getoption('--golden') / 'mm_embed/model'
  if not golden.is_dir():
    pytest.skip(f'there is no {golden}')
  model = jaxret.load(golden, max_tokens=8, trim_text=trim_text)
  given = [{'id': 'mine', 'text': 'a brown dog runs on the beach ' * 4}]
  if trim_text:
    assert np.isfinite(model.encode(given, show_progress=False)).all()
    assert 'mine: ' in caplog.text and 'cut to keep 8' in caplog.text
    return
  with pytest.raises(ValueError, match='mine: .* want at most 8: shorten its'):
    model.encode(given, show_progress=False)


def test_workdir_of_another_method_is_refused(tmp_path):
  (tmp_path / 'config.json').write_text('{"method": "blim"}')
  with pytest.raises(ValueError, match="made by the method 'blim'"):
    jaxret.load(tmp_path)
