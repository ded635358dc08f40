"""Reading checkpoints: values, slices, sharding, and every refusal."""
import json

import flax.traverse_util as traverse
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from jaxret import sharding as sharding_lib
from jaxret.models import decoder, names, pretrained
from jaxret.models.videochat import files as videochat
from jaxret.models.videochat import model as vlm

SIZES = {
    'vocab_size': 12, 'hidden_size': 8, 'intermediate_size': 10,
    'num_hidden_layers': 2, 'num_attention_heads': 4,
    'num_key_value_heads': 2, 'rope_theta': 1e6, 'rms_norm_eps': 1e-6,
    'tie_word_embeddings': False, 'mm_hidden_size': 6,
    'mm_local_num_frames': 4, 'mm_vision_select_layer': -2,
}
TINY_SIZES = {'visual_width': 6, 'decoder': {
    'vocab_size': 12, 'width': 8, 'mlp_width': 10, 'layers': 2, 'heads': 4,
    'kv_heads': 2, 'head_width': 2}}
TABLE = names.DECODER + names.BLIM_HEADS
TVG = ('projector/tvg/in/kernel', 'projector/tvg/in/bias',
       'projector/tvg/out/kernel', 'projector/tvg/out/bias')


def released_tensors():
  """A tiny VideoChat-Flash checkpoint under its released names."""
  shapes = {
      'model.embed_tokens.weight': (12, 8), 'model.norm.weight': (8,),
      'lm_head.weight': (12, 8), 'model.mm_projector.mlp.0.weight': (8, 6),
      'model.mm_projector.mlp.0.bias': (8,),
      'model.mm_projector.mlp.2.weight': (8, 8),
      'model.mm_projector.mlp.2.bias': (8,)}
  for i in range(2):
    shapes |= {f'model.layers.{i}.{key}': shape for key, shape in (
        ('input_layernorm.weight', (8,)),
        ('post_attention_layernorm.weight', (8,)),
        ('self_attn.q_proj.weight', (8, 8)), ('self_attn.q_proj.bias', (8,)),
        ('self_attn.k_proj.weight', (4, 8)), ('self_attn.k_proj.bias', (4,)),
        ('self_attn.v_proj.weight', (4, 8)), ('self_attn.v_proj.bias', (4,)),
        ('self_attn.o_proj.weight', (8, 8)),
        ('mlp.gate_proj.weight', (10, 8)), ('mlp.up_proj.weight', (10, 8)),
        ('mlp.down_proj.weight', (8, 10)))}
  rng = np.random.default_rng(0)
  return {key: rng.normal(size=shape).astype(ml_dtypes.bfloat16)
          for key, shape in shapes.items()}


def vlm_shapes(sizes, **numerics):
  config = decoder.DecoderConfig(**sizes['decoder'], **numerics)
  module = vlm.Vlm(config, sizes['visual_width'])
  return jax.eval_shape(
      module.init, jax.random.key(0),
      jax.ShapeDtypeStruct((1, 2, 3, sizes['visual_width']), jnp.float32),
      jax.ShapeDtypeStruct((1, 9), jnp.int32))['params']


@pytest.fixture
def model_dir(tmp_path):
  """The tiny checkpoint in two shards."""
  tensors = released_tensors()
  weight_map = {key: f'model-{i % 2}.safetensors'
                for i, key in enumerate(sorted(tensors))}
  for shard in set(weight_map.values()):
    safetensors.numpy.save_file(
        {key: tensor for key, tensor in tensors.items()
         if weight_map[key] == shard}, tmp_path / shard)
  (tmp_path / 'model.safetensors.index.json').write_text(
      json.dumps({'weight_map': weight_map}))
  (tmp_path / 'config.json').write_text(json.dumps(SIZES))
  return tmp_path


def checkpoint(**changes):
  return pretrained.Checkpoint('tiny', released_tensors() | changes)


def test_sharded_checkpoint_fills_the_model(model_dir):
  shapes = vlm_shapes(videochat.read_config(model_dir))
  params, missing = pretrained.load(
      pretrained.open_checkpoint(model_dir), TABLE, shapes)
  assert set(missing) == {*TVG, 'visual_head/kernel'}
  flat = traverse.flatten_dict(params, sep='/')
  want = traverse.flatten_dict(shapes, sep='/')
  assert set(flat) == set(want) - set(missing)
  for path, leaf in flat.items():
    assert (leaf.shape, leaf.dtype) == (want[path].shape, want[path].dtype)
  tensors = released_tensors()
  for layer in range(2):
    np.testing.assert_array_equal(
        flat['decoder/layers/mlp/up/kernel'][layer],
        tensors[f'model.layers.{layer}.mlp.up_proj.weight'].T)
  np.testing.assert_array_equal(
      flat['decoder/embed/embedding'], tensors['model.embed_tokens.weight'])


class Recorder:
  """An array that counts the elements read from it."""

  def __init__(self, array):
    self.array, self.shape, self.dtype = array, array.shape, array.dtype
    self.elements = 0

  def __getitem__(self, index):
    part = self.array[index]
    self.elements += part.size
    return part


def test_each_device_reads_its_own_slice():
  rng = np.random.default_rng(1)
  tensors = {key: Recorder(rng.normal(size=shape).astype(np.float32))
             for key, shape in {
                 'encoder.blocks.0.mlp.fc1.weight': (16, 8),
                 'encoder.blocks.1.mlp.fc1.weight': (16, 8),
                 'encoder.patch_embed.proj.weight': (8, 3, 1, 2, 2),
                 'encoder.vision_layernorm.bias': (8,)}.items()}
  table = tuple(weight for weight in names.VISION if weight.path in (
      'vision/blocks/mlp/in/kernel', 'vision/patch/kernel',
      'vision/final_norm/bias'))
  mesh = sharding_lib.make_mesh({'data': 1, 'fsdp': 2, 'tensor': 4})
  def sharding(*axes):
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
  params, _ = pretrained.load(
      pretrained.Checkpoint('tiny', tensors), table, None,
      {'vision': {'blocks': {'mlp': {'in': {
          'kernel': sharding(None, 'fsdp', 'tensor')}}},
                  'patch': {'kernel': sharding('fsdp', 'tensor')},
                  'final_norm': {'bias': sharding()}}})
  kernel = params['vision']['blocks']['mlp']['in']['kernel']
  assert {shard.data.shape for shard in kernel.addressable_shards} == {
      (2, 4, 4)}
  for layer in range(2):
    tensor = tensors[f'encoder.blocks.{layer}.mlp.fc1.weight']
    np.testing.assert_array_equal(kernel[layer], tensor.array.T)
    assert tensor.elements == tensor.array.size
  conv = tensors['encoder.patch_embed.proj.weight'].array
  patch = np.asarray(params['vision']['patch']['kernel']).reshape(2, 2, 3, 8)
  for y, x, channel, feature in np.ndindex(2, 2, 3, 8):
    assert patch[y, x, channel, feature] == conv[feature, channel, 0, y, x]
  # Replicated on eight devices, read once.
  assert tensors['encoder.vision_layernorm.bias'].elements == 8


@pytest.mark.parametrize('change, message', [
    ({'model.layers.0.mlp.extra.weight': np.zeros(2)},
     'fit no parameter: model.layers.0.mlp.extra.weight;'),
    ({'model.layers.2.mlp.up_proj.weight': np.zeros((10, 8))},
     'fit no parameter: model.layers.2.mlp.up_proj.weight;'),
    ({'visual_head.weight': np.zeros((5, 8))},
     r'visual_head.weight has shape \(5, 8\), .* want \(8, 6\)'),
    ({'model.mm_projector.tvg_mlp.0.extra': np.zeros(1)}, 'tvg_mlp.0.extra'),
])
def test_extra_or_misshapen_tensors_are_named_in_one_line(change, message):
  with pytest.raises(ValueError, match=message) as caught:
    pretrained.load(checkpoint(**change), TABLE, vlm_shapes(TINY_SIZES))
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('number', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('key', [
    'model.norm.weight', 'model.layers.1.mlp.down_proj.weight'])
@pytest.mark.parametrize('dtype', [
    ml_dtypes.bfloat16, np.float16, np.float32])
def test_a_tensor_that_is_not_finite_is_named(tmp_path, key, number, dtype):
  """Its last number; the largest of its type is none of them."""
  tensors = {name: tensor.astype(dtype)
             for name, tensor in released_tensors().items()}
  tensors['lm_head.weight'][:] = ml_dtypes.finfo(dtype).max
  file = tmp_path / 'model.safetensors'
  safetensors.numpy.save_file(tensors, file)
  whole = pretrained.open_checkpoint(tmp_path)
  pretrained.load(whole, TABLE)
  tensors[key].ravel()[-1] = number
  safetensors.numpy.save_file(tensors, file)
  for source, name in ((pretrained.open_checkpoint(tmp_path), file),
                       (pretrained.Checkpoint('tiny', tensors), 'tiny')):
    with pytest.raises(ValueError) as caught:
      pretrained.load(source, TABLE)
    assert str(caught.value) == (
        f'{name}: {key} holds NaN or infinity; the file is damaged or its '
        'training diverged: take another')


def test_a_wide_tensor_is_checked_to_its_end():
  """It is read in strips; a shard with the bad number is enough."""
  array = np.zeros((2, 2 * pretrained.STRIP + 1), np.float32)
  table = (names.Weight('head/kernel', 'head.weight'),)
  assert pretrained.load(pretrained.Checkpoint(
      'tiny', {'head.weight': array}), table)[0]['head']['kernel'].size
  array[1, -1] = np.nan
  with pytest.raises(ValueError, match='tiny: head.weight holds NaN'):
    pretrained.load(pretrained.Checkpoint(
        'tiny', {'head.weight': array}), table)


def test_missing_tensors_are_named_in_one_line():
  tensors = released_tensors()
  del tensors['model.layers.1.self_attn.k_proj.bias']
  tiny = pretrained.Checkpoint('tiny', tensors)
  with pytest.raises(ValueError, match='missing: model.layers.1.self_attn.k_'):
    pretrained.load(tiny, TABLE, vlm_shapes(TINY_SIZES))
  with pytest.raises(ValueError, match='no known tensor .* decoder/another'):
    pretrained.load(tiny, TABLE, {'decoder': {
        'another': jax.ShapeDtypeStruct((1,), jnp.float32)}})


def test_parts_not_asked_for_and_ignored_tensors_may_stay():
  tower = {f'{names.VISION_PREFIX}encoder.vision_layernorm.{name}': np.ones(4)
           for name in ('weight', 'bias')}
  changes = tower | {
      'model.layers.0.self_attn.rotary_emb.inv_freq': np.ones(1)}
  shapes = vlm_shapes(TINY_SIZES)
  params, _ = pretrained.load(checkpoint(**changes), names.VIDEOCHAT_FLASH,
                              {'decoder': shapes['decoder']})
  assert set(params) == {'decoder'}


def test_the_vision_block_that_does_not_run_may_stay():
  def block(i):
    return {f'encoder.blocks.{i}.norm1.bias': np.full(4, float(i))}
  table = tuple(w for w in names.VISION if w.key.endswith('norm1.bias'))
  abstract = {'vision': {'blocks': {'attention_norm': {
      'bias': jax.ShapeDtypeStruct((2, 4), jnp.bfloat16)}}}}
  three = block(0) | block(1) | block(2)
  params, _ = pretrained.load(
      pretrained.Checkpoint('tiny', three), table, abstract)
  bias = params['vision']['blocks']['attention_norm']['bias']
  assert bias.dtype == jnp.bfloat16
  np.testing.assert_array_equal(bias[1], 1)
  with pytest.raises(ValueError, match='fit no parameter: encoder.blocks.3'):
    pretrained.load(
        pretrained.Checkpoint('tiny', three | block(3)), table, abstract)


def test_what_is_no_model_is_refused_in_one_line(tmp_path, monkeypatch):
  import huggingface_hub
  def offline(*args, **kwargs):
    raise OSError('no route to host\nlong story')
  monkeypatch.setattr(huggingface_hub, 'snapshot_download', offline)
  with pytest.raises(ValueError, match='no route to host') as caught:
    pretrained.open_checkpoint('someone/some-model')
  assert '\n' not in str(caught.value)
  with pytest.raises(ValueError, match='no such directory; name one'):
    pretrained.open_checkpoint(tmp_path / 'absent')
  with pytest.raises(ValueError, match='want safetensors'):
    pretrained.open_checkpoint(tmp_path)
  with pytest.raises(ValueError, match='config.json: no such file'):
    videochat.read_config(tmp_path)
  (tmp_path / 'model.safetensors').write_bytes(b'cut off')
  with pytest.raises(ValueError, match='not a whole safetensors file'):
    pretrained.open_checkpoint(tmp_path)


def test_a_missing_shard_is_named(model_dir):
  (model_dir / 'model-1.safetensors').unlink()
  with pytest.raises(ValueError, match='lists model-1.safetensors, which is m'):
    pretrained.open_checkpoint(model_dir)


def test_flat_loading_keeps_bfloat16(tmp_path):
  tensors = {'x': np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)}
  safetensors.numpy.save_file(tensors, tmp_path / 'x.safetensors')
  checkpoint = pretrained.open_checkpoint(tmp_path / 'x.safetensors')
  loaded = checkpoint.tensors['x'][:]
  assert loaded.dtype == ml_dtypes.bfloat16
  np.testing.assert_array_equal(loaded, tensors['x'])


@pytest.mark.parametrize('dtype, kind', [
    (np.uint8, 'U8'), (np.int8, 'I8'), (np.int32, 'I32'), (np.bool_, 'BOOL')])
def test_a_type_that_is_no_float_is_named_where_it_is_read(
    tmp_path, dtype, kind):
  file = tmp_path / 'model.safetensors'
  def load(key):
    safetensors.numpy.save_file(
        released_tensors() | {key: np.ones((8, 10)).astype(dtype)}, file)
    return pretrained.load(pretrained.open_checkpoint(tmp_path), TABLE,
                           vlm_shapes(TINY_SIZES))
  load('model.layers.0.self_attn.rotary_emb.inv_freq')
  key = 'model.layers.1.mlp.down_proj.weight'
  with pytest.raises(ValueError) as caught:
    load(key)
  assert str(caught.value) == (
      f'{file}: {key} is of type {kind}, want one of F64, F32, F16, BF16: a '
      'parameter is none of whole numbers')


def test_float8_is_named(tmp_path):
  file = tmp_path / 'model.safetensors'
  save_float8(released_tensors(), 'model.norm.weight', file)
  with pytest.raises(ValueError, match=r'model.norm.weight \(F8_E4M3\): the '
                     'weights are quantized, want them in bfloat16'):
    pretrained.open_checkpoint(tmp_path)


def save_float8(tensors, key, file):
  """As save_file, which does not know this type, writes bytes of it."""
  safetensors.numpy.save_file(
      {**tensors, key: np.zeros(tensors[key].shape, np.uint8)}, file)
  content = file.read_bytes()
  size = int.from_bytes(content[:8], 'little')
  header = json.loads(content[8:8 + size])
  header[key]['dtype'] = 'F8_E4M3'
  header = json.dumps(header).encode()
  file.write_bytes(
      len(header).to_bytes(8, 'little') + header + content[8 + size:])


@pytest.mark.parametrize('key', [
    'mlp.up_proj.qweight', 'mlp.up_proj.qzeros', 'mlp.up_proj.g_idx',
    'mlp.up_proj.SCB', 'mlp.up_proj.weight.absmax',
    'mlp.up_proj.weight.quant_state.bitsandbytes__nf4',
    'mlp.up_proj.weight_scale_inv', 'mlp.up_proj.weight_packed'])
def test_quantized_weights_are_named(tmp_path, key):
  """GPTQ and AWQ, bitsandbytes, FP8, compressed-tensors."""
  key = f'model.layers.0.{key}'
  safetensors.numpy.save_file(released_tensors() | {
      key: np.ones(3, np.float32)}, tmp_path / 'model.safetensors')
  with pytest.raises(ValueError) as caught:
    pretrained.open_checkpoint(tmp_path)
  assert str(caught.value) == (
      f'{tmp_path / "model.safetensors"}: {key} (F32): the weights are '
      'quantized, want them in bfloat16, float16 or float32: take the model '
      'that was quantized, or dequantize and save it again')


@pytest.mark.parametrize('prefix', ['module.', 'model.', '_orig_mod.'])
def test_a_prefix_changes_nothing(prefix):
  want, _ = pretrained.load(checkpoint(), TABLE, vlm_shapes(TINY_SIZES))
  wrapped = {prefix + key: tensor for key, tensor in released_tensors().items()}
  found, missing = pretrained.load(
      pretrained.Checkpoint('tiny', wrapped), TABLE, vlm_shapes(TINY_SIZES))
  jax.tree.map(np.testing.assert_array_equal, found, want)
  assert set(missing) == {*TVG, 'visual_head/kernel'}


def test_generating_from_an_untied_blim_wants_its_head():
  tensors = released_tensors()
  del tensors['lm_head.weight']
  with pytest.raises(ValueError, match=r'no output head \(lm_head.\*\); want'):
    pretrained.load(pretrained.Checkpoint('tiny', tensors), TABLE,
                    vlm_shapes(TINY_SIZES), generates=True)


def test_layers_that_lack_are_not_blamed_on_the_download():
  tensors = {key: tensor for key, tensor in released_tensors().items()
             if '.layers.1.' not in key}
  with pytest.raises(ValueError) as caught:
    pretrained.load(pretrained.Checkpoint('tiny', tensors), TABLE,
                    vlm_shapes(TINY_SIZES))
  assert str(caught.value) == (
      'tiny: these tensors are missing: model.layers.1.input_layernorm.weight, '
      'model.layers.1.mlp.down_proj.weight, model.layers.1.mlp.gate_proj.weight'
      ' and 9 more; got a model laid out as transformers saves it; want every '
      'tensor that is read: compare config.json with the file')
