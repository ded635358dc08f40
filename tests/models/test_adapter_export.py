"""What is written for PEFT: round trips, and PEFT itself as the reader."""
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxret import sharding
from jaxret.models import (
  adapter_export,
  adapter_import,
  adapters,
  lora,
  names,
)

RANK, SCALE = 2, 1.5


def factors(rng, inputs, features, layers=()):
  return {'a': rng.normal(size=(*layers, inputs, RANK)).astype(np.float32),
          'b': rng.normal(size=(*layers, RANK, features)).astype(np.float32)}


@pytest.fixture
def adapter():
  rng = np.random.default_rng(0)
  projector = {'in': factors(rng, 6, 8), 'out': factors(rng, 8, 8)}
  tree = {
      'decoder': {
          'layers': {'attention': {'q': factors(rng, 8, 8, (3,)),
                                   'k': factors(rng, 8, 4, (3,))}},
          'lm_head': factors(rng, 8, 12)},
      'projector': {'vtg': projector, 'tvg': projector}}
  head = rng.normal(size=(8, 6)).astype(np.float32)
  return adapters.Adapter(tree, SCALE, head)


@pytest.mark.parametrize('nested', [True, False])
def test_round_trip(adapter, tmp_path, nested):
  adapter_export.export_peft(adapter, tmp_path, nested=nested)
  read = adapter_import.import_peft(tmp_path)
  assert read.scale == SCALE
  jax.tree.map(np.testing.assert_array_equal, read.lora, adapter.lora)
  np.testing.assert_array_equal(read.visual_head, adapter.visual_head)


def test_keys_are_those_of_peft(adapter, tmp_path):
  adapter_export.export_peft(adapter, tmp_path)
  tensors = load_file(tmp_path / 'adapter_model.safetensors')
  key = 'base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight'
  np.testing.assert_array_equal(
      tensors[key], adapter.lora['decoder']['layers']['attention']['q'][
          'a'][2].T)
  prefix = 'base_model.model.model.mm_projector.tvg_mlp.base_model.model.2.'
  assert tensors[f'{prefix}lora_B.weight'].shape == (8, RANK)
  config = json.loads((tmp_path / 'adapter_config.json').read_text())
  assert config['r'] == RANK and config['lora_alpha'] == 3
  assert config['target_modules'] == ['k_proj', 'lm_head', 'q_proj']


def qwen2_with_heads(torch, transformers):
  """A tiny VideoChat-Flash skeleton, as PEFT sees one."""
  model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(
      vocab_size=12, hidden_size=8, intermediate_size=10, num_hidden_layers=3,
      num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False))
  linear = torch.nn.Linear
  model.visual_head = linear(8, 6, bias=False)
  model.model.mm_projector = torch.nn.Module()
  for name in ('mlp', 'tvg_mlp'):
    setattr(model.model.mm_projector, name, torch.nn.Sequential(
        linear(6, 8), torch.nn.GELU(), linear(8, 8)))
  return model


def test_peft_reads_and_merges_what_is_exported(adapter, tmp_path):
  peft = pytest.importorskip('peft')
  torch = pytest.importorskip('torch')
  import transformers
  model = qwen2_with_heads(torch, transformers)
  base = {key: tensor.numpy().copy()
          for key, tensor in model.state_dict().items()}
  adapter_export.export_peft(adapter, tmp_path, nested=False)
  merged = peft.PeftModel.from_pretrained(model, tmp_path).merge_and_unload()
  merged = {key: tensor.detach().numpy()
            for key, tensor in merged.state_dict().items()}
  np.testing.assert_array_equal(
      merged['visual_head.weight'], adapter.visual_head.T)
  ours = lora.merge(
      {'q': {'kernel': np.stack([
          base[f'model.layers.{i}.self_attn.q_proj.weight'].T
          for i in range(3)])},
       'out': {'kernel': base['model.mm_projector.tvg_mlp.2.weight'].T},
       'lm_head': {'kernel': base['lm_head.weight'].T}},
      {'q': adapter.lora['decoder']['layers']['attention']['q'],
       'out': adapter.lora['projector']['tvg']['out'],
       'lm_head': adapter.lora['decoder']['lm_head']}, SCALE)
  for kernel, key in ((ours['q']['kernel'][1],
                       'model.layers.1.self_attn.q_proj.weight'),
                      (ours['out']['kernel'],
                       'model.mm_projector.tvg_mlp.2.weight'),
                      (ours['lm_head']['kernel'], 'lm_head.weight')):
    np.testing.assert_allclose(kernel, merged[key].T, atol=1e-5)


def test_only_known_layers_of_one_rank_are_exported(adapter, tmp_path):
  unknown = adapter._replace(lora={'vision': adapter.lora['projector']})
  with pytest.raises(ValueError, match="unknown paths .'vision/"):
    adapter_export.export_peft(unknown, tmp_path)
  with pytest.raises(ValueError, match='scale None'):
    adapter_export.export_peft(adapter._replace(scale=None), tmp_path)


def test_what_peft_has_to_be_asked_for_is_not_written(adapter, tmp_path):
  for fields, message in (
      ({'rows': {'decoder/embed/embedding': None}}, 'got rows of'),
      ({'scale': {'decoder/lm_head': 1.0}}, 'one rank, a scale'),
      ({'modules': {'decoder': {'layers': {'attention': {'q': {
          'bias': np.zeros((3, 8))}}}}}}, 'attention/q/bias')):
    with pytest.raises(ValueError, match=message):
      adapter_export.export_peft(adapter._replace(**fields), tmp_path)


def test_fields_at_their_defaults_are_left_to_peft(adapter, tmp_path):
  """An older PEFT stops at a field that it does not know."""
  adapter_export.export_peft(adapter, tmp_path)
  config = json.loads((tmp_path / 'adapter_config.json').read_text())
  assert not {'lora_bias', 'use_dora', 'use_rslora', 'rank_pattern'} & {*config}


def test_modules_trained_whole_are_held_and_others_named():
  def tree(*paths):
    return sharding.unflatten({path: np.ones((2, 2), np.float32)
                               for path in paths})
  lora = tree('decoder/layers/attention/q/a', 'decoder/layers/attention/q/b')
  held, others = adapter_export.modules_to_save(tree(
      'decoder/embed/embedding', 'decoder/final_norm/scale',
      'decoder/layers/mlp_norm/scale', 'decoder/layers/attention/q/bias',
      'vision/merger/norm/scale', 'vision/merger/norm/bias',
      'vision/merger/in/kernel', 'vision/patch/kernel'), lora, names.QWEN2_VL)
  assert others == [
      # Its layer has factors, its convolution is laid out otherwise, and of its
      # two tensors one was not trained.
      'decoder/layers/attention/q/bias', 'vision/merger/in/kernel',
      'vision/patch/kernel']
  assert set(sharding.flatten(held)) == {
      'decoder/embed/embedding', 'decoder/final_norm/scale',
      'decoder/layers/mlp_norm/scale', 'vision/merger/norm/scale',
      'vision/merger/norm/bias'}


def test_saved_modules_are_named_as_far_up_as_they_are_whole(tmp_path):
  rng = np.random.default_rng(0)
  lora = {'decoder': {'layers': {'attention': {'q': factors(
      rng, 8, 8, (2,))}}}}
  merger = {'norm': {'scale': np.ones(4), 'bias': np.ones(4)}, 'in': {
      'kernel': np.ones((4, 4)), 'bias': np.ones(4)}, 'out': {
          'kernel': np.ones((4, 8)), 'bias': np.ones(8)}}
  modules = {'vision': {'merger': merger}, 'decoder': {
      'layers': {'mlp_norm': {'scale': np.ones((2, 8))}}}}
  adapter_export.export_peft(
      adapters.Adapter(lora, SCALE, modules=modules), tmp_path,
      weights=names.newer(names.QWEN2_VL))
  config = json.loads((tmp_path / 'adapter_config.json').read_text())
  layer = 'model.language_model.layers.{}.post_attention_layernorm'
  assert config['modules_to_save'] == [
      layer.format(0), layer.format(1), 'model.visual.merger']
  read = adapter_import.import_peft(tmp_path, names.QWEN2_VL)
  jax.tree.map(np.testing.assert_array_equal, read.modules, modules)
