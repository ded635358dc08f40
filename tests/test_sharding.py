"""The mesh and the rules: every parameter has one place."""
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxret import sharding

L, D, F, V = 2, 16, 32, 64


def parameter_shapes():
  """One leaf per kind of parameter, by path."""
  flat = {'params/log_temperature': ()}
  for model in ('decoder', 'text'):
    layers = f'params/{model}/layers'
    flat |= {
        f'params/{model}/embed/embedding': (V, D),
        f'params/{model}/final_norm/scale': (D,),
        f'params/{model}/lm_head/kernel': (D, V),
        f'{layers}/attention_norm/scale': (L, D),
        f'{layers}/mlp_norm/scale': (L, D),
        f'{layers}/attention/o/kernel': (L, D, D),
        f'{layers}/mlp/gate/kernel': (L, D, F),
        f'{layers}/mlp/up/kernel': (L, D, F),
        f'{layers}/mlp/down/kernel': (L, F, D)}
    for name in 'qkv':
      flat[f'{layers}/attention/{name}/kernel'] = (L, D, D)
      flat[f'{layers}/attention/{name}/bias'] = (L, D)
  for name in 'qkvo':
    flat[f'lora/decoder/layers/attention/{name}/a'] = (L, D, 4)
    flat[f'lora/decoder/layers/attention/{name}/b'] = (L, 4, D)
  for head in ('lm_head', *(f'{p}/{end}' for p in ('vtg', 'tvg')
                            for end in ('in', 'out'))):
    owner = 'decoder' if head == 'lm_head' else 'projector'
    flat[f'lora/{owner}/{head}/a'] = (D, 4)
    flat[f'lora/{owner}/{head}/b'] = (4, D)
    if owner == 'projector':
      flat[f'params/projector/{head}/kernel'] = (D, D)
      flat[f'params/projector/{head}/bias'] = (D,)
  blocks = 'params/vision/blocks'
  flat |= {
      'params/visual_head/kernel': (D, D), 'params/vision/patch/bias': (D,),
      'params/vision/patch/kernel': (3 * 16, D),
      'params/vision/final_norm/scale': (D,),
      'params/vision/final_norm/bias': (D,),
      f'{blocks}/attention_norm/scale': (L, D),
      f'{blocks}/attention_norm/bias': (L, D),
      f'{blocks}/mlp_norm/scale': (L, D), f'{blocks}/mlp_norm/bias': (L, D),
      f'{blocks}/attention/qkv/kernel': (L, D, 3 * D),
      f'{blocks}/attention/q_bias': (L, D),
      f'{blocks}/attention/v_bias': (L, D),
      f'{blocks}/attention/out/kernel': (L, D, D),
      f'{blocks}/attention/out/bias': (L, D),
      f'{blocks}/mlp/in/kernel': (L, D, F), f'{blocks}/mlp/in/bias': (L, F),
      f'{blocks}/mlp/out/kernel': (L, F, D), f'{blocks}/mlp/out/bias': (L, D),
      f'{blocks}/attention/qkv/bias': (L, 3 * D),
      'params/vision/merger/norm/scale': (D,),
      'params/vision/merger/norm/bias': (D,),
      'params/vision/merger/in/kernel': (D, D),
      'params/vision/merger/in/bias': (D,),
      'params/vision/merger/out/kernel': (D, D),
      'params/vision/merger/out/bias': (D,),
      'params/video_projection/kernel': (D, D),
      'params/text_projection/kernel': (D, D)}
  return flat | encoder_shapes() | mm_embed_shapes()


def mm_embed_shapes():
  """What MM-Embed adds: one projector, the newline, latent attention."""
  latent = 'params/latent_attention'
  flat = {'params/image_newline': (D,), f'{latent}/latents': (V, D),
          f'{latent}/folded_keys': (4, V, D),
          f'{latent}/folded_values': (4, V, D)}
  for end in ('in', 'out'):
    flat |= {f'params/projector/{end}/kernel': (D, D),
             f'params/projector/{end}/bias': (D,),
             f'lora/projector/{end}/a': (D, 4),
             f'lora/projector/{end}/b': (4, D)}
  for norm in ('token_norm', 'latent_norm', 'mlp_norm'):
    flat |= {f'{latent}/{norm}/scale': (D,), f'{latent}/{norm}/bias': (D,)}
  for name in 'qkvo':
    flat[f'{latent}/{name}/kernel'] = (D, D)
  for name in ('value', 'gate', 'out'):
    flat |= {f'{latent}/mlp/{name}/kernel': (D, D),
             f'{latent}/mlp/{name}/bias': (D,)}
  return flat


def encoder_shapes():
  """Those of CLIP, SigLIP, BERT and LECCR."""
  flat = {'params/temperature': (), 'params/logit_scale': (),
          'params/queries': (4, D), 'params/vision/positions': (5, D),
          'params/vision/class_embedding': (D,),
          'params/clip_text_head/kernel': (D, D),
          'params/vision_head/projection/kernel': (D, D),
          'params/text_encoder/embed/types': (2, D),
          'params/vision_head/probe': (1, 1, D), 'params/logit_bias': (1,),
          'params/text_head/kernel': (D, D), 'params/text_head/bias': (D,),
          'params/vision_head/mlp/in/kernel': (D, F),
          'params/vision_head/mlp/in/bias': (F,),
          'params/vision_head/mlp/out/kernel': (F, D),
          'params/vision_head/mlp/out/bias': (D,)}
  for name in 'qkvo':
    flat |= {f'params/vision_head/attention/{name}/kernel': (D, D),
             f'params/vision_head/attention/{name}/bias': (D,)}
  for model in ('clip_text', 'text_encoder'):
    flat[f'params/{model}/embed/tokens'] = (V, D)
    flat[f'params/{model}/embed/positions'] = (9, D)
  for norm in ('vision/pre_norm', 'vision_head/norm', 'clip_text/final_norm',
               'text_encoder/embed_norm', 'text_encoder/final_norm'):
    flat |= {f'params/{norm}/scale': (D,), f'params/{norm}/bias': (D,)}
  for head in ('text', 'vision', 'slot', 'matched_slot'):
    flat |= {f'params/heads/{head}/kernel': (D, F),
             f'params/heads/{head}/bias': (F,)}
  for stack in ('vision', 'clip_text', 'text_encoder', 'frames',
                'description_to_slots', 'slots_to_vision', 'vision_to_slots'):
    layers = f'params/{stack}/layers'
    flat |= {f'{layers}/mlp/in/kernel': (L, D, F),
             f'{layers}/mlp/in/bias': (L, F),
             f'{layers}/mlp/out/kernel': (L, F, D),
             f'{layers}/mlp/out/bias': (L, D)}
    for name in 'qkvo':
      flat |= {f'{layers}/attention/{name}/kernel': (L, D, D),
               f'{layers}/attention/{name}/bias': (L, D)}
    for norm in ('attention_norm', 'mlp_norm'):
      flat |= {f'{layers}/{norm}/scale': (L, D),
               f'{layers}/{norm}/bias': (L, D)}
  return flat


def abstract_params():
  return sharding.unflatten({
      path: jax.ShapeDtypeStruct(shape, jnp.float32)
      for path, shape in parameter_shapes().items()})


def test_every_parameter_matches_exactly_one_rule():
  for path, shape in parameter_shapes().items():
    matches = [spec for pattern, spec in sharding.RULES
               if re.fullmatch(pattern, path)]
    assert len(matches) == 1, path
    assert len(matches[0]) <= len(shape), path


def test_stacked_layers_are_never_split_over_their_leading_axis():
  for path in parameter_shapes():
    spec = sharding.spec_for(path)
    if 'layers/' in path or 'blocks/' in path:
      assert not spec or spec[0] is None, path


def test_unmatched_path_and_path_with_two_rules_are_refused():
  with pytest.raises(ValueError, match='params/oops.*none'):
    sharding.spec_for('params/oops')
  rules = (('a/.*', P()), ('.*/b', P()))
  with pytest.raises(ValueError, match=r"'a/b'.*\['a/\.\*', '\.\*/b'\]"):
    sharding.spec_for('a/b', rules)


def test_parameters_of_a_method_from_outside_are_split_by_size():
  mesh = sharding.make_mesh({'data': 2, 'fsdp': 4, 'tensor': 1})
  shapes = {'params/mine/wide': ((8, 16), P(None, 'fsdp')),
            'params/mine/tall': ((16, 3, 5), P('fsdp', None, None)),
            'params/mine/odd': ((7, 3), P(None, None)),
            'params/mine/bias': ((16,), P())}
  tree = sharding.unflatten({
      path: jax.ShapeDtypeStruct(shape, jnp.float32)
      for path, (shape, _) in shapes.items()})
  places = sharding.flatten(sharding.shardings(mesh, tree))
  assert {path: place.spec for path, place in places.items()} == {
      path: spec for path, (_, spec) in shapes.items()}


def test_vocabulary_is_split_over_tensor_and_odd_sizes_stay_whole():
  mesh = sharding.make_mesh({'data': 1, 'fsdp': 2, 'tensor': 4})
  tree = {'params': {'decoder': {'embed': {
      'embedding': jax.ShapeDtypeStruct((64, 16), jnp.float32)}}}}
  spec = sharding.flatten(sharding.shardings(mesh, tree))
  path = 'params/decoder/embed/embedding'
  assert spec[path].spec == P('tensor', 'fsdp')
  tree['params']['decoder']['embed']['embedding'] = jax.ShapeDtypeStruct(
      (63, 16), jnp.float32)
  spec = sharding.flatten(sharding.shardings(mesh, tree))
  assert spec[path].spec == P(None, 'fsdp')


def test_flatten_and_unflatten_are_inverse():
  tree = abstract_params()
  assert sharding.flatten(tree).keys() == parameter_shapes().keys()
  assert sharding.unflatten(sharding.flatten(tree)) == tree


@pytest.mark.parametrize('tensor, n_devices, want', [
    (1, 8, (2, 4, 1)), (2, 8, (1, 4, 2)), (1, 6, (3, 2, 1)), (1, 1, (1, 1, 1))])
def test_weights_are_split_over_few_of_many_devices(
    monkeypatch, tensor, n_devices, want):
  monkeypatch.setattr(sharding, 'MOST_FSDP', 4)
  mesh = sharding.make_mesh({'data': -1, 'fsdp': -1, 'tensor': tensor},
                            jax.devices()[:n_devices])
  assert tuple(mesh.shape.values()) == want


def test_mesh_is_auto_fills_one_axis_and_refuses_what_does_not_fit():
  mesh = sharding.make_mesh({'data': -1, 'tensor': 2})
  assert dict(mesh.shape) == {'data': 4, 'fsdp': 1, 'tensor': 2}
  assert set(mesh.axis_types) == {AxisType.Auto}
  one = sharding.make_mesh({'data': -1}, jax.devices()[:1])
  assert one.size == 1
  with pytest.raises(ValueError, match='does not fit 8 devices'):
    sharding.make_mesh({'data': 3})
  with pytest.raises(ValueError, match="no axis 'model'"):
    sharding.make_mesh({'model': 2})


def test_global_batch_is_split_over_data_and_fsdp_and_comes_back_whole():
  mesh = sharding.make_mesh({'data': 2, 'fsdp': 2, 'tensor': 2})
  rows = np.arange(24.0).reshape(8, 3)
  batch = sharding.global_batch(mesh, {'x': rows})
  assert batch['x'].sharding.spec == P(('data', 'fsdp'))
  assert batch['x'].addressable_shards[0].data.shape == (2, 3)
  np.testing.assert_array_equal(sharding.to_host(batch)['x'], rows)
  assert sharding.process_rows(mesh) == (0, 1)
  with pytest.raises(ValueError, match='batch of 6 .* 4 devices'):
    sharding.global_batch(mesh, {'x': rows[:6]})


def test_constants_are_split_where_they_divide():
  mesh = sharding.make_mesh()
  split = sharding.constant(mesh, np.arange(16))
  whole = sharding.constant(mesh, np.arange(15))
  assert split.sharding.spec == P(('data', 'fsdp'))
  assert whole.sharding.is_fully_replicated
  np.testing.assert_array_equal(sharding.to_host(split), np.arange(16))


def test_start_needs_all_three_or_none(monkeypatch):
  for name in ('COORDINATOR', 'NUM_PROCESSES', 'PROCESS_ID'):
    monkeypatch.delenv(f'JAXRET_{name}', raising=False)
  sharding.start()
  with pytest.raises(ValueError, match='set all three or none'):
    sharding.start(num_processes=2)
