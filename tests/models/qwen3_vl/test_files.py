"""config.json of Qwen3-VL: what is read, what is refused, by name."""
import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxret import loading, sharding
from jaxret.data.qwen3_vl import pixels
from jaxret.data.qwen3_vl import reader as reader_lib
from jaxret.models import adapter_export, adapter_import, adapters, lora, names
from jaxret.models.qwen3_vl import embedder, files
from tests import tiny_qwen3_vl, tiny_unite

CONFIG = tiny_qwen3_vl.CONFIG
CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
LORA = ('decoder/layers/(attention/[qkvo]|mlp/(gate|up|down))',)
ROPE = {'mrope_section': [2, 2, 2], 'mrope_interleaved': True,
        'rope_type': 'default'}
TEXT = {'model_type': 'qwen3_vl_text', 'vocab_size': 400, 'hidden_size': 16,
        'intermediate_size': 24, 'num_hidden_layers': 3,
        'num_attention_heads': 4, 'num_key_value_heads': 2, 'head_dim': 12,
        'rope_theta': 100.0, 'rope_scaling': ROPE}
VISION = {'depth': 3, 'hidden_size': 16, 'intermediate_size': 24,
          'num_heads': 2, 'out_hidden_size': 16, 'num_position_embeddings': 16,
          'deepstack_visual_indexes': [0, 2]}


def whole(**fields):
  return {'model_type': 'qwen3_vl', 'tie_word_embeddings': True,
          'text_config': TEXT, 'vision_config': VISION, **fields}


def read(directory, config, **options):
  (directory / 'config.json').write_text(json.dumps(config))
  return files.read_config(directory, **options)


def test_both_styles_say_the_same(tmp_path):
  found = read(tmp_path, whole(image_token_id=7))
  assert found.config == CONFIG
  assert found.special['image'] == 7 and found.special['video'] == 151656
  text = {key: value for key, value in TEXT.items() if 'rope' not in key}
  assert found == read(tmp_path, whole(image_token_id=7, text_config={
      **text, 'rope_parameters': {**ROPE, 'rope_theta': 100.0}}))
  assert found == read(tmp_path, whole(  # of old files
      image_token_id=7, tie_word_embeddings=True,
      text_config={**TEXT, 'tie_word_embeddings': True},
      vision_config={**VISION, 'model_type': 'qwen3_vl'}))


def test_what_a_file_leaves_out_is_as_its_class_has_it(tmp_path):
  config = read(tmp_path, {
      'model_type': 'qwen3_vl', 'text_config': {'rope_theta': 5e6},
      'vision_config': {'out_hidden_size': 4096}}).config
  d, v = config.decoder, config.vision
  assert (d.width, d.mlp_width, d.layers, d.heads, d.kv_heads, d.head_width,
          d.norm_eps, d.rope_sections, d.tie_embeddings, d.vocab_size) == (
      4096, 22016, 32, 32, 32, 128, 1e-6, (24, 20, 20), False, 151936)
  assert (v.width, v.mlp_width, v.layers, v.heads, v.patch_px, v.positions,
          v.deepstack) == (1152, 4304, 27, 16, 16, 2304, (8, 16, 24))


@pytest.mark.parametrize('version, theta', [('4.57.6', 5e6), ('5.24.0', 5e5)])
def test_what_transformers_saves_is_read(tmp_path, version, theta):
  """Versions differ in the base that their class has by default."""
  def literal(name):
    return json.loads((CONFIGS / version / f'{name}.json').read_text())
  found = read(tmp_path, literal('qwen3_vl'))
  d, v = found.config.decoder, found.config.vision
  assert (d.vocab_size, d.width, d.mlp_width, d.layers, d.heads, d.kv_heads,
          d.head_width, d.rope_theta, d.norm_eps, d.tie_embeddings,
          d.rope_sections) == (
      400, 32, 48, 3, 4, 2, 12, 5e5, 1e-5, True, (2, 2, 2))
  assert (v.width, v.layers, v.heads, v.mlp_width, v.out_width, v.positions,
          v.deepstack) == (24, 3, 2, 40, 32, 25, (0, 2))
  assert found.special == {'image': 390, 'video': 391, 'vision_start': 392,
                           'vision_end': 393}
  plain = read(tmp_path, literal('qwen3_vl_default')).config
  assert (plain.decoder.rope_theta, plain.decoder.mlp_width,
          plain.vision.layers) == (theta, 22016, 27)


def test_numerics_reach_the_part_that_has_them(tmp_path):
  config = read(tmp_path, whole(), dtype='bfloat16', lora_scale=2.0).config
  assert (config.decoder.dtype, config.vision.dtype) == (
      'bfloat16', 'bfloat16')
  assert config.decoder.lora_scale == 2.0


def test_positions_for_longer_texts_are_scaled(tmp_path):
  """As the authors advise: yarn, with the sections beside its fields."""
  yarn = {'rope_type': 'yarn', 'factor': 3.0,
          'original_max_position_embeddings': 128}
  config = read(tmp_path, whole(
      text_config={**TEXT, 'rope_scaling': {**ROPE, **yarn}})).config
  assert len(config.decoder.rope_frequencies) == 6
  assert config.decoder.rope_scale > 1


@pytest.mark.parametrize('part, fields, message', [
    ('', {'model_type': 'qwen3_vl_moe'}, "got model_type 'qwen3_vl_moe'"),
    ('', {'hidden_size': 16}, 'got hidden_size = 16, a field that is not'),
    ('', {'tie_word_embeddings': False, 'text_config': {
        **TEXT, 'tie_word_embeddings': True}},
     'got tie_word_embeddings = False, and True in text_config'),
    ('text_config', {'attention_bias': True}, 'got attention_bias = True'),
    ('text_config', {'hidden_act': 'gelu'}, "got hidden_act = 'gelu'"),
    ('text_config', {'use_sliding_window': True}, 'a field that is not known'),
    ('text_config', {'head_dim': None}, 'got head_dim = None, want a whole'),
    ('text_config', {'rope_theta': None}, 'no rope_theta'),
    ('text_config', {'rope_scaling': {**ROPE, 'mrope_interleaved': False}},
     'got mrope_interleaved = False, want True'),
    ('text_config', {'rope_scaling': {**ROPE, 'mrope_section': [2, 2, 1]}},
     r'rope_sections \(2, 2, 1\): want three numbers'),
    ('vision_config', {'hidden_act': 'gelu'}, "want 'gelu_pytorch_tanh'"),
    ('vision_config', {'deepstack_visual_indexes': [0, 'x']},
     'got deepstack_visual_indexes'),
    ('vision_config', {'deepstack_visual_indexes': [5]}, 'of its 3 blocks'),
    ('vision_config', {'num_position_embeddings': 15}, 'want a square'),
    ('vision_config', {'window_size': 112}, 'got window_size = 112, a field'),
    ('vision_config', {'spatial_merge_size': 3}, 'spatial_merge_size = 3')])
def test_what_is_not_implemented_is_refused(tmp_path, part, fields, message):
  config = whole()
  config.update({part: {**config[part], **fields}} if part else fields)
  with pytest.raises(ValueError, match=message):
    read(tmp_path, config)


def test_other_pixels_are_refused(tmp_path):
  (tmp_path / 'preprocessor_config.json').write_text(json.dumps(
      {'image_mean': [0.48, 0.46, 0.41]}))
  with pytest.raises(ValueError, match='image_mean = .* want .0.5, 0.5, 0.5'):
    read(tmp_path, whole())


SIZE = {'shortest_edge': 4096, 'longest_edge': 61440}


def test_how_media_are_made_is_read_of_either_file(tmp_path):
  assert files.read_processor(tmp_path) == ()
  video = {'size': {'shortest_edge': 1024, 'longest_edge': 8192}, 'fps': 1.5,
           'max_frames': 9, 'do_sample_frames': True}
  (tmp_path / 'preprocessor_config.json').write_text(json.dumps(
      {'size': SIZE}))
  (tmp_path / 'video_preprocessor_config.json').write_text(json.dumps(video))
  want = {'image': (4096, 61440), 'video': (1024, 8192), 'fps': 1.5,
          'max_frames': 9}
  found = dict(files.read_processor(tmp_path))
  assert found == want
  policy = pixels.Processor(**found)
  assert (policy.fps, policy.min_frames, policy.max_frames) == (1.5, 4, 9)
  newer = tmp_path / 'newer'
  newer.mkdir()
  (newer / 'processor_config.json').write_text(json.dumps({
      'image_processor': {'size': SIZE}, 'video_processor': video}))
  assert dict(files.read_processor(newer)) == want


@pytest.mark.parametrize('fields, message', [
    ({'cap_pixels_per_frame': True}, 'got cap_pixels_per_frame = True'),
    ({'num_frames': 8}, 'got num_frames = 8'),
    ({'fps': 0}, 'got fps = 0, want a positive number'),
    ({'size': {'shortest_edge': 4}}, 'got size: longest_edge = None'),
    ({'size': 5}, 'got size = 5, want a section')])
def test_media_that_are_made_otherwise_are_refused(tmp_path, fields, message):
  path = tmp_path / 'video_preprocessor_config.json'
  path.write_text(json.dumps(fields))
  with pytest.raises(ValueError, match=message) as error:
    files.read_processor(tmp_path)
  assert str(error.value).startswith(str(path))


def write(directory, params, config=None, bare=False):
  """A model as transformers saves it, or its tensors by bare names."""
  (directory / 'config.json').write_text(json.dumps(config or whole()))
  tensors, flat = {}, sharding.flatten(sharding.to_host(params['params']))
  for weight in names.QWEN3_VL:
    leaf = flat.get(weight.path)
    if leaf is None:
      continue
    for layer, part in enumerate(leaf if '{layer}' in weight.key else [leaf]):
      if weight.transform == 'transpose':
        part = part.T
      elif weight.transform == 'flatten':
        part = part.T.reshape(-1, 3, 2, 16, 16)
      key = names.newer_key(weight.key.format(layer=layer))
      key = key.removeprefix('model.') if bare else key
      tensors[key] = np.ascontiguousarray(part)
  safetensors.numpy.save_file(tensors, directory / 'model.safetensors')
  (directory / 'tokenizer_config.json').write_text(json.dumps({
      'tokenizer_class': 'x', 'pad_token': '<|endoftext|>',
      'eos_token': '<|im_end|>'}))
  return tensors


def opened(directory, monkeypatch, **options):
  tokenizer = tiny_unite.tokenizer()
  monkeypatch.setattr(loading.text, 'load_tokenizer', lambda path: tokenizer)
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  return loading.load(
      directory, resolution=tiny_qwen3_vl.RESOLUTION, mesh=mesh, **options)


@pytest.mark.slow
def test_a_saved_model_embeds_as_it_did(tmp_path, monkeypatch):
  write(tmp_path, tiny_qwen3_vl.params(), bare=True)
  model = opened(tmp_path, monkeypatch)
  items = tiny_qwen3_vl.items()[:4]
  got = model.encode(items, show_progress=False)
  read_one, apply = tiny_qwen3_vl.make_reader(), jax.jit(
      CONFIG.module().apply)
  for item, vector in zip(items, got):
    inputs = read_one(item)
    batch = read_one.pad([inputs], read_one.bucket(inputs))
    np.testing.assert_allclose(
        vector, apply(tiny_qwen3_vl.params(), batch)[0], atol=2e-6)
  short = model.encode(items[:1], truncate_dim=5, show_progress=False)
  np.testing.assert_allclose(
      short[0], got[0, :5] / np.linalg.norm(got[0, :5]), atol=1e-6)
  with pytest.raises(ValueError, match='got 17, want a whole number from 1'):
    model.encode(items[:1], truncate_dim=17)


@pytest.mark.parametrize('options', [
    {'position_mode': 'mrope'}, {'pooling': 'mean'}])
def test_options_without_effect_are_refused(tmp_path, monkeypatch, options):
  write(tmp_path, tiny_qwen3_vl.params())
  with pytest.raises(ValueError, match='has no effect on a model of type'):
    opened(tmp_path, monkeypatch, **options)


def test_adapters_go_out_and_come_back(tmp_path, monkeypatch):
  """By the names that transformers has, and merged they change embeddings."""
  params = tiny_qwen3_vl.params()
  write(tmp_path, params)
  factors = lora.init(jax.random.key(0), params['params'], LORA, 2)
  factors = jax.tree.map(
      lambda leaf: leaf + 0.1 * np.random.default_rng(0).normal(
          size=leaf.shape).astype(np.float32), factors)
  adapter_export.export_peft(
      adapters.Adapter(factors, 2.0), tmp_path / 'adapter', nested=False,
      weights=names.newer(names.QWEN3_VL))
  keys = safetensors.numpy.load_file(
      tmp_path / 'adapter' / 'adapter_model.safetensors')
  assert ('base_model.model.model.language_model.layers.0.self_attn.q_proj.'
          'lora_A.weight') in keys
  found = adapter_import.import_peft(
      tmp_path / 'adapter', names.QWEN3_VL, params)
  assert found.scale == 2.0
  jax.tree.map(np.testing.assert_array_equal, found.lora, factors)
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  config, merged = embedder.open_embedder(
      tmp_path, mesh, adapter=tmp_path / 'adapter')
  scaled = dataclasses.replace(config, decoder=dataclasses.replace(
      config.decoder, lora_scale=2.0))
  batch = tiny_qwen3_vl.batch()
  np.testing.assert_allclose(
      jax.jit(config.module().apply)(merged, batch),
      jax.jit(scaled.module().apply)({**params, 'lora': factors}, batch),
      atol=2e-6)


def test_a_reader_makes_what_the_model_is_right_for(tmp_path):
  config = read(tmp_path, whole(vision_config={**VISION, 'patch_size': 14}))
  with pytest.raises(ValueError, match='got patch_size = 14, want 16'):
    reader_lib.open_reader(config.config, tiny_unite.tokenizer())
  limited = {**TEXT, 'max_position_embeddings': 96, 'rope_scaling': {
      **ROPE, 'rope_type': 'dynamic', 'factor': 2.0}}
  config = read(tmp_path, whole(text_config=limited)).config
  with pytest.raises(ValueError, match="of 97 tokens.* rope_type = 'dynamic'"):
    reader_lib.open_reader(config, tiny_unite.tokenizer(), max_tokens=97)


def test_weights_fill_the_parameters_in_any_layout(tmp_path):
  params = tiny_qwen3_vl.params()
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  for bare in (False, True):
    tensors = write(tmp_path, params, bare=bare)
    assert any(key.startswith('visual.') for key in tensors) == bare
    loaded = files.load(tmp_path, CONFIG, mesh)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
  tensors['lm_head.weight'] = tensors['language_model.embed_tokens.weight']
  safetensors.numpy.save_file(tensors, tmp_path / 'model.safetensors')
  files.load(tmp_path, CONFIG, mesh, generates=True)  # tied, there twice
  tensors['lm_head.weight'] = 2 * tensors['lm_head.weight']
  safetensors.numpy.save_file(tensors, tmp_path / 'model.safetensors')
  files.load(tmp_path, CONFIG, mesh)  # no head is read
  with pytest.raises(ValueError, match='versions of transformers differ'):
    files.load(tmp_path, CONFIG, mesh, generates=True)


def test_an_untied_head_is_wanted_where_it_is_asked_for(tmp_path):
  untied = dataclasses.replace(CONFIG, decoder=dataclasses.replace(
      CONFIG.decoder, tie_embeddings=False))
  params = tiny_qwen3_vl.params(untied)
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  tensors = write(tmp_path, params, whole(tie_word_embeddings=False))
  loaded = files.load(tmp_path, untied, mesh, generates=True)
  jax.tree.map(np.testing.assert_array_equal, loaded, params)
  del tensors['lm_head.weight']
  safetensors.numpy.save_file(tensors, tmp_path / 'model.safetensors')
  with pytest.raises(ValueError, match='no output head'):
    files.load(tmp_path, untied, mesh, generates=True)
  found = files.load(tmp_path, untied, mesh, head=False)
  assert 'lm_head' not in found['params']['decoder']
