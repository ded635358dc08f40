"""jaxret.load: published directories and workdirs; what it refuses; silence."""
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy

import jaxret
from jaxret import embedder, loading, models, run, sharding, train
from jaxret.data.qwen2_vl import pixels as qwen2_vl
from jaxret.methods.unite import method as unite
from jaxret.models import names
from tests import tiny_runs, tiny_unite

MM_EMBED = tiny_runs.ROOT / 'tests/golden/mm_embed/model'


@pytest.fixture(scope='module')
def model():
  config, tokenizer = tiny_unite.make_config(), tiny_unite.tokenizer()
  mesh = sharding.make_mesh(devices=jax.devices()[:2])
  params = train.init_params(unite.method(config, tokenizer), 0, mesh)
  return embedder.Embedder(
      unite.model_config(config, tokenizer), params,
      unite.reader(config, tokenizer), mesh)


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
  monkeypatch.setattr(loading.text, 'load_tokenizer', lambda path: tokenizer)
  resolution = qwen2_vl.resolution(tiny_unite.make_config().media)
  loaded = jaxret.load(
      tmp_path, resolution=resolution, max_tokens=160, mesh=model.mesh)
  items = ['red square moves', {'image': tiny_unite.pixels(0)},
           {'video': tiny_unite.pixels(1, frames=4)}]
  np.testing.assert_allclose(
      loaded.encode(items, show_progress=False),
      model.encode(items, show_progress=False), atol=1e-6)


def test_published_weights_that_are_not_finite_are_refused(
    model, tmp_path, monkeypatch):
  params = jax.tree.map(np.array, sharding.to_host(model.params))
  params['params']['decoder']['final_norm']['scale'][-1] = np.nan
  tokenizer = hub_directory(tmp_path, model.config, params)
  monkeypatch.setattr(loading.text, 'load_tokenizer', lambda path: tokenizer)
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
  monkeypatch.setattr(loading.text, 'load_tokenizer', lambda path: tokenizer)
  method = unite.method(config, tokenizer)
  mesh = sharding.make_mesh(devices=jax.devices()[:2])
  pairs = [tiny_unite.Pair(tiny_unite.item('text', i),
                           tiny_unite.item('text', i + 1)) for i in range(16)]
  examples = method.examples(pairs, unite.reader(config, tokenizer))
  params = train.fit(method, examples, config, tmp_path, mesh)
  loaded = jaxret.load(tmp_path, mesh=mesh)
  want = embedder.Embedder(
      unite.model_config(config, tokenizer), params,
      unite.reader(config, tokenizer), mesh)
  items = ['red square', {'image': tiny_unite.pixels(0)}]
  np.testing.assert_allclose(
      loaded.encode(items, show_progress=False),
      want.encode(items, show_progress=False), atol=1e-6)
  with pytest.raises(ValueError, match='no checkpoints in'):
    run.trained(config, tokenizer, tmp_path / 'none', mesh)
  config.init_from = str(tmp_path / 'none')
  with pytest.raises(ValueError, match='none holds no config.json: name the'):
    run.start(config, method, tokenizer, tmp_path, mesh)


def test_workdir_of_another_method_is_refused(tmp_path):
  (tmp_path / 'config.json').write_text('{"method": "blim"}')
  with pytest.raises(ValueError, match="made by the method 'blim'"):
    jaxret.load(tmp_path)


def test_other_model_types_are_answered_by_those_that_are_known(tmp_path):
  (tmp_path / 'config.json').write_text('{"model_type": "gpt2"}')
  with pytest.raises(ValueError) as error:
    jaxret.load(tmp_path)
  known = sorted(models.embedding_wings())
  assert {'bert', 'clip', 'llava_next', 'nvembed', 'qwen2_vl', 'qwen2_5_vl',
          'siglip', 'siglip2', 'xlm-roberta'} < set(known)
  assert str(error.value) == (
      f"{tmp_path / 'config.json'}: got model_type 'gpt2', want "
      f'{" or ".join(known)}: use another model')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(ValueError, match='no such file; want the directory of a'):
    jaxret.load(tmp_path / 'empty')


def test_a_new_backbone_is_two_folders(model, tmp_path, monkeypatch):
  """Packages named alike in jaxret.models and jaxret.data, nothing edited."""
  for part, files in {
      'models': {'__init__': "MODEL_TYPES = ('toy_vl',)\n",
                 'embedder': 'def open_embedder(path, mesh, dtype):\n'
                             '  return CONFIG, {"w": dtype}\n'},
      'data': {'__init__': '', 'reader': (
          'def open_reader(config, tokenizer, max_tokens):\n'
          '  return config, tokenizer, max_tokens\n')}}.items():
    folder = tmp_path / part / 'toy'
    folder.mkdir(parents=True)
    for name, content in files.items():
      (folder / f'{name}.py').write_text(content)
    package = sys.modules[f'jaxret.{part}']
    monkeypatch.setattr(
        package, '__path__', [*package.__path__, str(tmp_path / part)])
  try:
    assert models.embedding_wings()['toy_vl'] == 'toy'
    import jaxret.models.toy.embedder as toy
    monkeypatch.setattr(toy, 'CONFIG', model.config, raising=False)
    monkeypatch.setattr(loading.text, 'load_tokenizer', str)
    monkeypatch.setattr(
        loading.embedder, 'Embedder', lambda *parts, **_: parts)
    directory = tmp_path / 'checkpoint'
    directory.mkdir()
    (directory / 'config.json').write_text('{"model_type": "toy_vl"}')
    config, params, reader, _ = jaxret.load(
        directory, dtype='bfloat16', max_tokens=9)
    assert (config, params) == (model.config, {'w': 'bfloat16'})
    assert reader == (model.config, str(directory), 9)
    with pytest.raises(ValueError, match='trim_text = True has no effect on a '
                       'model of type toy_vl: leave it out'):
      jaxret.load(directory, trim_text=True)
  finally:
    for name in [n for n in sys.modules if '.toy' in n]:
      del sys.modules[name]
    for package in (jaxret.models, jaxret.data):
      if hasattr(package, 'toy'):
        delattr(package, 'toy')


@pytest.mark.parametrize('trim_text', [True, False])
def test_trim_text_reaches_mm_embed(caplog, pytestconfig, trim_text):
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


@pytest.mark.parametrize('option', [
    {'position_mode': 'mrope'}, {'resolution': qwen2_vl.Resolution()}])
def test_options_without_effect_on_mm_embed_are_refused(option):
  name, = option
  with pytest.raises(ValueError, match=f'model: {name} = .* has no effect on a '
                     'model of type llava_next: leave it out'):
    jaxret.load(MM_EMBED, **option)


@pytest.mark.parametrize('option', [
    {'position_mode': 'mrope'}, {'resolution': qwen2_vl.Resolution()},
    {'dtype': 'bfloat16'}, {'adapter': 'x'}, {'max_tokens': 7},
    {'alpha': 'released'}])
def test_options_without_effect_on_a_workdir_are_refused(tmp_path, option):
  (tmp_path / 'config.json').write_text('{"method": "unite"}')
  name, = option
  with pytest.raises(ValueError, match=f'{name} = .* has no effect on a workdir'
                     ', which keeps its own settings: leave it out'):
    jaxret.load(tmp_path, **option)


def test_alpha_reaches_the_reader(model, tmp_path, monkeypatch):
  tokenizer = hub_directory(tmp_path, model.config, model.params)
  monkeypatch.setattr(loading.text, 'load_tokenizer', lambda path: tokenizer)
  for alpha in 'white', 'released':
    assert jaxret.load(tmp_path, alpha=alpha).reader.alpha == alpha
  with pytest.raises(ValueError, match="alpha is 'black'"):
    jaxret.load(tmp_path, alpha='black')


@pytest.mark.slow
def test_mm_embed_says_its_name():
  assert repr(jaxret.load(MM_EMBED)) == (
      'Embedder(mm_embed, width 48, float32, 8 x cpu)')


LOAD = """
import sys, warnings
warnings.simplefilter('always')
import jaxret
model = jaxret.load(sys.argv[1])
model.encode(['red square'], show_progress=False)
"""


@pytest.mark.slow
def test_no_library_warns_while_a_workdir_is_loaded(tmp_path):
  config, tokenizer = tiny_unite.make_config(), tiny_unite.tokenizer()
  method = unite.method(config, tokenizer)
  config.train.update(steps=1)
  pairs = [tiny_unite.Pair(tiny_unite.item('text', i),
                           tiny_unite.item('text', i + 1)) for i in range(8)]
  train.fit(method, method.examples(pairs, unite.reader(config, tokenizer)),
            config, tmp_path, sharding.make_mesh(devices=jax.devices()[:1]))
  directory = pathlib.Path(tiny_unite.tokenizer_directory())
  (tmp_path / 'tokenizer').symlink_to(directory)
  answer = subprocess.run(
      [sys.executable, '-c', LOAD, tmp_path], check=True, cwd=tiny_runs.ROOT,
      capture_output=True, text=True, env={**os.environ,
                                           'JAX_PLATFORMS': 'cpu'})
  assert answer.stderr == ''
