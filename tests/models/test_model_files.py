"""config.json as every version of transformers, and the hub, has it.

The files under configs/ are literal, made by configs/write.py.
"""
import json
import pathlib
import shutil

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import jaxret
from jaxret.models import bert, clip, model_files, pretrained
from jaxret.models.llava import files as llava
from jaxret.models.llava import mm_embed_files
from jaxret.models.qwen2_vl import files as qwen2_vl
from jaxret.models.videochat import files as videochat

CONFIGS = pathlib.Path(__file__).parent / 'configs'
VERSIONS = ('4.45.2', '4.47.1', '4.49.0', '4.51.3', '4.53.3', '4.57.6', '5.0.0',
            '5.24.0')


def open_config(directory, whole, read):
  """What `read` makes of the contents of a config.json."""
  (directory / 'config.json').write_text(json.dumps(whole))
  return read(directory)


def literal(version, name):
  return json.loads((CONFIGS / version / f'{name}.json').read_text())


def bert_sizes(directory):
  return bert._sizes(*model_files.read_json(directory, bert.MODEL_TYPES), {})


def clip_sizes(directory):
  return clip.read_config(directory, {})


READ = {'qwen2_vl': qwen2_vl.read_config, 'llava_next': llava.read_config,
        'videochat': videochat.read_config, 'clip': clip_sizes,
        'bert': bert_sizes, 'xlm_roberta': bert_sizes}


def decoder_sizes(decoder):
  return (decoder.vocab_size, decoder.width, decoder.mlp_width, decoder.layers,
          decoder.heads, decoder.kv_heads, decoder.head_width,
          decoder.rope_theta, decoder.norm_eps, decoder.tie_embeddings,
          decoder.rope_frequencies, decoder.max_tokens)


def encoder_sizes(config):
  return (config.width, config.mlp_width, config.layers, config.heads,
          config.activation, config.norm_eps, config.dropout)


@pytest.mark.parametrize('version', VERSIONS)
def test_sizes_of_qwen2_vl_are_those_that_were_saved(tmp_path, version):
  found = open_config(tmp_path, literal(version, 'qwen2_vl'),
                      qwen2_vl.read_config)
  decoder, vision = found.config.decoder, found.config.vision
  assert decoder_sizes(decoder) == (
      400, 32, 48, 3, 4, 2, 8, 5e5, 1e-6, True, (), None)
  assert decoder.rope_sections == (1, 1, 2)
  assert (vision.width, vision.layers, vision.heads, vision.mlp_width,
          vision.out_width, vision.patch_px, vision.merge,
          vision.temporal_patch) == (24, 2, 2, 72, 32, 14, 2, 2)
  assert found.special == {'image': 390, 'video': 391, 'vision_start': 392,
                           'vision_end': 393}


@pytest.mark.parametrize('version', VERSIONS)
def test_what_qwen2_vl_leaves_out_is_the_class_default(tmp_path, version):
  found = open_config(tmp_path, literal(version, 'qwen2_vl_default'),
                      qwen2_vl.read_config)
  vision = found.config.vision
  assert decoder_sizes(found.config.decoder) == (
      152064, 3584, 29568, 80, 28, 8, 128, 1e6, 1e-5, False, (), None)
  assert (vision.width, vision.layers, vision.heads, vision.mlp_width,
          vision.out_width) == (1280, 32, 16, 5120, 3584)
  assert found.special['image'] == 151655


@pytest.mark.parametrize('version', VERSIONS)
def test_sizes_of_llava_next_are_those_that_were_saved(tmp_path, version):
  found = open_config(tmp_path, literal(version, 'llava_next'),
                      llava.read_config)
  decoder, vision = found.config.decoder, found.config.vision
  assert decoder_sizes(decoder) == (
      400, 32, 48, 3, 4, 2, 8, 1e6, 1e-5, False, (), None)
  assert encoder_sizes(vision.encoder) == (
      24, 40, 2, 2, 'quick_gelu', 1e-5, 0.0)  # the last layer does not run
  assert (vision.image_px, vision.patch_px) == (28, 14)
  assert found.image_id == 399 and found.pinpoints == ((28, 56), (56, 28))


@pytest.mark.parametrize('version', VERSIONS)
def test_what_llava_next_leaves_out_is_the_class_default(tmp_path, version):
  found = open_config(tmp_path, literal(version, 'llava_next_default'),
                      llava.read_config)
  decoder, vision = found.config.decoder, found.config.vision
  # Mistral's own default is a window of attention.
  assert decoder_sizes(decoder) == (
      32000, 4096, 14336, 32, 32, 8, 128, 1e6, 1e-6, False, (), 4096)
  assert 'sliding_window' in decoder.limited_by
  assert encoder_sizes(vision.encoder)[:4] == (1024, 4096, 23, 16)
  assert (vision.image_px, vision.patch_px) == (336, 14)
  assert found.image_id == 32000 and found.pinpoints == llava.PINPOINTS


@pytest.mark.parametrize('version', VERSIONS)
def test_sizes_of_videochat_are_those_that_were_saved(tmp_path, version):
  found = open_config(tmp_path, literal(version, 'videochat'),
                      videochat.read_config)
  assert found['decoder'] == {
      'vocab_size': 400, 'width': 32, 'mlp_width': 48, 'layers': 3, 'heads': 4,
      'kv_heads': 2, 'head_width': 8, 'rope_theta': 1e6, 'norm_eps': 1e-6,
      'tie_embeddings': False}
  assert found['visual_width'] == 12 and found['tokens_per_clip'] == 64


@pytest.mark.parametrize('version', VERSIONS)
def test_sizes_of_clip_are_those_that_were_saved(tmp_path, version):
  found = open_config(tmp_path, literal(version, 'clip'), clip_sizes)
  assert encoder_sizes(found.vision.encoder) == (
      24, 40, 3, 2, 'quick_gelu', 1e-5, 0.0)
  assert encoder_sizes(found.text.encoder) == encoder_sizes(
      found.vision.encoder)
  assert (found.vision.image_px, found.vision.patch_px, found.text.vocab_size,
          found.text.max_tokens, found.embedding_width) == (28, 14, 400, 40, 16)
  found = open_config(tmp_path, literal(version, 'clip_default'), clip_sizes)
  assert encoder_sizes(found.vision.encoder)[:4] == (768, 3072, 12, 12)
  assert encoder_sizes(found.text.encoder)[:4] == (512, 2048, 12, 8)
  assert (found.vision.image_px, found.vision.patch_px, found.text.vocab_size,
          found.embedding_width) == (224, 32, 49408, 512)


@pytest.mark.parametrize('version', VERSIONS)
@pytest.mark.parametrize('name, types, eps, first', [
    ('bert', 2, 1e-12, 0), ('xlm_roberta', 1, 1e-5, 2)])
def test_sizes_of_text_encoders_are_those_that_were_saved(
    tmp_path, version, name, types, eps, first):
  found = open_config(tmp_path, literal(version, name), bert_sizes)
  assert encoder_sizes(found.encoder) == (24, 40, 3, 2, 'gelu', eps, 0.1)
  assert (found.vocab_size, found.max_positions, found.types,
          found.first_position) == (400, 40, types, first)
  found = open_config(tmp_path, literal(version, f'{name}_default'), bert_sizes)
  assert encoder_sizes(found.encoder) == (768, 3072, 12, 12, 'gelu', 1e-12, 0.1)
  assert (found.vocab_size, found.max_positions, found.types,
          found.first_position) == (30522, 512, 2, first)


def test_files_of_the_hub_are_read(tmp_path):
  def hub(name, read):
    return open_config(tmp_path, literal('hub', name), read)
  decoder = hub('qwen2_vl_7b', qwen2_vl.read_config).config.decoder
  assert decoder_sizes(decoder) == (
      152064, 3584, 18944, 28, 28, 4, 128, 1e6, 1e-6, False, (), None)
  found = hub('qwen2_vl_2b_resaved', qwen2_vl.read_config)
  assert found.config.decoder.width == found.config.vision.out_width == 1536
  assert found.config.vision.layers == 32 and found.special['image'] == 151655
  found = hub('llava_next_mistral_7b', llava.read_config)
  assert decoder_sizes(found.config.decoder) == (
      32064, 4096, 14336, 32, 32, 8, 128, 1e6, 1e-5, False, (), None)
  found = hub('clip_vit_large_patch14', clip_sizes)
  assert encoder_sizes(found.vision.encoder)[:4] == (1024, 4096, 24, 16)
  assert (found.vision.patch_px, found.embedding_width) == (14, 768)
  assert hub('bert_multilingual', bert_sizes).vocab_size == 119547
  found = hub('xlm_roberta_base', bert_sizes)
  assert (found.max_tokens, found.types) == (512, 1)


def test_the_older_sections_of_clip_override(tmp_path):
  """As CLIPConfig of transformers 4.45 to 5.24 has it: with all defaults."""
  whole = literal('4.47.1', 'clip')
  whole['vision_config_dict'] = {'num_hidden_layers': 5}
  found = open_config(tmp_path, whole, clip_sizes)
  assert encoder_sizes(found.vision.encoder)[:4] == (768, 3072, 5, 12)
  assert found.text.encoder.width == 24


def test_a_tower_without_sizes_is_the_base_of_clip(tmp_path):
  """An empty section is CLIP's default, no section LLaVA-NeXT's own."""
  whole = literal('4.47.1', 'llava_next')
  found = open_config(tmp_path, whole | {'vision_config': {}},
                      llava.read_config)
  assert found.config.vision.encoder.width == 768
  del whole['vision_config']
  found = open_config(tmp_path, whole, llava.read_config)
  assert found.config.vision.encoder.width == 1024


@pytest.mark.parametrize('version', ('4.47.1', '4.57.6', '5.24.0'))
@pytest.mark.parametrize('name', READ)
def test_what_nobody_knows_is_refused_by_name(tmp_path, version, name):
  """At the top and in each section, with any value but null."""
  places = ['', *(key for key in literal(version, name)
                  if key.endswith('_config'))]
  for place in places:
    for value in (True, False, 7, 'new', {'a': 1}):
      whole = literal(version, name)
      (whole[place] if place else whole)['mystery_norm'] = value
      with pytest.raises(ValueError, match='mystery_norm = ') as caught:
        open_config(tmp_path, whole, READ[name])
      assert '\n' not in str(caught.value) and place in str(caught.value)
    whole = literal(version, name)
    (whole[place] if place else whole)['mystery_norm'] = None
    open_config(tmp_path, whole, READ[name])


NUMBERS = {
    'qwen2_vl': [
        ('', 'hidden_act', 'gelu'), ('', 'use_sliding_window', True),
        ('', 'attention_dropout', 0.1), ('', 'attention_bias', False),
        ('', 'head_dim', 16), ('', 'partial_rotary_factor', 0.5),
        ('', 'layer_types', ['full_attention', 'sliding_attention'] * 2),
        ('', 'attn_logit_softcapping', 30.0), ('', 'rms_norm_eps', '1e-6'),
        ('', 'hidden_size', None), ('', 'hidden_size', 32.5),
        ('', 'tie_word_embeddings', 'yes'), ('', 'is_causal', False),
        ('', 'rope_scaling', {'type': 'ntk', 'factor': 2.0}),
        ('vision_config', 'hidden_act', 'silu'),
        ('vision_config', 'in_channels', 1),
        ('vision_config', 'window_size', 112),
        ('vision_config', 'spatial_merge_size', 4),
        ('vision_config', 'model_type', 'qwen2_5_vl'),
        ('vision_config', 'rope_parameters', {'rope_type': 'axial',
                                              'rope_theta': 500.0})],
    'llava_next': [
        ('', 'vision_feature_layer', -1), ('', 'vision_feature_layer', [-2]),
        ('', 'vision_feature_select_strategy', 'full'),
        ('', 'multimodal_projector_bias', False),
        ('', 'projector_hidden_act', 'relu'),
        ('', 'use_image_newline_parameter', False),
        ('', 'image_grid_pinpoints', [336, 672]),
        ('', 'tie_word_embeddings', True),
        ('text_config', 'model_type', 'llama'),
        ('text_config', 'hidden_act', 'gelu'),
        ('text_config', 'tie_word_embeddings', True),
        ('text_config', 'attention_bias', True),
        ('text_config', 'rope_scaling', {'type': 'linear'}),
        ('vision_config', 'model_type', 'siglip_vision_model'),
        ('vision_config', 'hidden_act', 'gelu_new'),
        ('vision_config', 'num_channels', 4),
        ('vision_config', 'attention_dropout', 0.1)],
    'videochat': [
        ('', 'mm_llm_compress', True), ('', 'mm_projector_type', 'linear'),
        ('', 'mm_patch_merge_type', 'spatial_unpad'),
        ('', 'mm_use_im_start_end', True), ('', 'use_pos_skipping', True),
        ('', 'mm_vision_select_feature', 'cls_patch'),
        ('', 'use_sliding_window', True), ('', 'mlp_bias', True),
        ('', 'rope_scaling', {'type': 'dynamic', 'factor': 2.0})],
    'clip': [
        ('vision_config', 'hidden_act', 'gelu_new'),
        ('text_config', 'hidden_act', 'relu'),
        ('vision_config', 'num_channels', 1),
        ('vision_config', 'attention_dropout', 0.1),
        ('text_config', 'is_decoder', True),
        ('vision_config', 'pruned_heads', {'1': [0]}),
        ('', 'projection_dim', '16')],
    'bert': [
        ('', 'position_embedding_type', 'relative_key_query'),
        ('', 'is_decoder', True), ('', 'add_cross_attention', True),
        ('', 'hidden_act', 'gelu_new'), ('', 'pruned_heads', {'1': [0]}),
        ('', 'embedding_size', 128), ('', 'layer_norm_eps', True)],
    'xlm_roberta': [
        ('', 'position_embedding_type', 'relative_key'),
        ('', 'adapter_reduction_factor', 2), ('', 'pad_token_id', None)]}


@pytest.mark.parametrize('name, place, field, value', [
    (name, *case) for name, cases in NUMBERS.items() for case in cases])
def test_what_changes_numbers_is_refused_by_name(
    tmp_path, name, place, field, value):
  whole = literal('4.47.1', name)
  if place:
    whole[place] = {**whole[place], field: value}
  else:
    whole[field] = value
  with pytest.raises(ValueError) as caught:
    open_config(tmp_path, whole, READ[name])
  known = field if field != 'rope_scaling' else value['type']
  assert known in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('place', ('', 'text_config'))
@pytest.mark.parametrize('field, value, said', [
    ('quantization_config', {'quant_method': 'fp8', 'fmt': 'e4m3'}, 'fp8'),
    ('quantization_config', {'quant_method': 'bitsandbytes',
                             'load_in_4bit': True}, 'bitsandbytes'),
    ('quantization_config', {'quant_method': 'gptq', 'bits': 4}, 'gptq'),
    ('quantization_config', {'quant_method': 'awq', 'bits': 4}, 'awq'),
    ('quantization_config', {'quant_method': 'compressed-tensors'},
     'compressed-tensors'),
    ('compression_config', {'format': 'pack-quantized'}, 'pack-quantized')])
def test_quantized_weights_are_named_by_the_config(
    tmp_path, place, field, value, said):
  for name, read in READ.items():
    whole = literal('5.24.0', name)
    if place:
      whole[place] = {**whole.get(place, {}), field: value}
    else:
      whole[field] = value
    with pytest.raises(ValueError, match=rf'{field} \({said}\): the weights '
                       'are quantized') as caught:
      open_config(tmp_path, whole, read)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('tensors, said', [
    ({'x.weight': np.zeros((2, 2), ml_dtypes.float8_e4m3fn)}, 'F8_E4M3'),
    ({'x.weight': np.zeros((2, 2), ml_dtypes.float8_e5m2)}, 'F8_E5M2'),
    ({'x.weight': np.zeros((2, 2), np.int8), 'x.SCB': np.zeros(2, np.float32)},
     'SCB|I8'),
    ({'x.weight': np.zeros((2, 1), np.uint8),
      'x.weight.absmax': np.zeros(2, np.float32)}, 'absmax'),
    ({'x.qweight': np.zeros((2, 2), np.int32)}, 'x.qweight'),
    ({'x.weight_packed': np.zeros((2, 2), np.int32)}, 'x.weight_packed'),
    ({'x.weight_scale_inv': np.zeros((2, 2), np.float32)}, 'weight_scale_inv'),
])
def test_quantized_weights_are_named_by_the_tensors(tmp_path, tensors, said):
  """Where config.json says nothing of it."""
  safetensors.numpy.save_file(tensors, tmp_path / 'model.safetensors')
  with pytest.raises(ValueError, match=said) as caught:
    pretrained.open_checkpoint(tmp_path)
  assert 'quantized' in str(caught.value) and '\n' not in str(caught.value)


# As transformers 4.47.1 to 5.24 save them; 5 may keep them in a section.
QWEN2_VL_PIXELS = {
    'do_convert_rgb': True, 'do_normalize': True, 'do_rescale': True,
    'do_resize': True, 'image_mean': [0.48145466, 0.4578275, 0.40821073],
    'image_processor_type': 'Qwen2VLImageProcessor',
    'image_std': [0.26862954, 0.26130258, 0.27577711], 'max_pixels': 1003520,
    'merge_size': 2, 'min_pixels': 3136, 'patch_size': 14, 'resample': 3,
    'rescale_factor': 0.00392156862745098, 'temporal_patch_size': 2,
    'size': {'longest_edge': 1003520, 'shortest_edge': 3136}}
LLAVA_PIXELS = {
    **{field: value for field, value in QWEN2_VL_PIXELS.items()
       if field.startswith(('do_', 'image_', 'res'))},
    'crop_size': {'height': 28, 'width': 28}, 'do_center_crop': True,
    'do_pad': True, 'size': {'shortest_edge': 28}}


@pytest.mark.parametrize('file, section', [
    ('preprocessor_config.json', ''),
    ('processor_config.json', 'video_processor'),
    ('processor_config.json', 'image_processor')])
@pytest.mark.parametrize('name, pixels, changes', [
    ('qwen2_vl', QWEN2_VL_PIXELS, {
        'image_mean': [0.5, 0.5, 0.5], 'image_std': [1, 1, 1],
        'do_normalize': False, 'rescale_factor': 1.0, 'resample': 2,
        'patch_size': 16, 'merge_size': 1, 'temporal_patch_size': 1}),
    ('llava_next', LLAVA_PIXELS, {
        'image_mean': [0.5, 0.5, 0.5], 'do_center_crop': False,
        'crop_size': {'height': 224, 'width': 224}, 'do_pad': False})])
def test_images_that_are_made_otherwise_are_refused(
    tmp_path, file, section, name, pixels, changes):
  def read(found):
    (tmp_path / file).write_text(
        json.dumps({section: found} if section else found))
    return open_config(tmp_path, literal('4.47.1', name), READ[name])
  read(pixels)
  for field, value in changes.items():
    with pytest.raises(ValueError, match=f'{file}: got {field} = ') as caught:
      read({**pixels, field: value})
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('content, said', [
    (b'{"model_type": ', 'not JSON'), (b'\xff\xfe{', 'not JSON'),
    (b'', 'an empty file'), (b'[1, 2]', 'got a JSON list, want an object')])
def test_a_file_that_is_no_config_is_named(tmp_path, content, said):
  path = tmp_path / 'config.json'
  path.write_bytes(content)
  for read in (*READ.values(), mm_embed_files.read_config, jaxret.load):
    with pytest.raises(ValueError, match=said) as caught:
      read(tmp_path)
    assert str(caught.value).startswith(str(path))
    assert '\n' not in str(caught.value)


def test_a_retriever_that_is_quantized_is_refused(tmp_path):
  golden = pathlib.Path(__file__).parents[1] / 'golden/mm_embed/model'
  for name in ('config.json', 'retriever_config.json'):
    shutil.copy(golden / name, tmp_path / name)
  assert mm_embed_files.read_config(tmp_path).config.decoder.layers == 3
  path = tmp_path / 'retriever_config.json'
  path.write_text(json.dumps({**json.loads(path.read_text()),
                              'quantization_config': {'quant_method': 'gptq'}}))
  with pytest.raises(ValueError, match='retriever_config.*gptq'):
    mm_embed_files.read_config(tmp_path)
