"""adapter_config.json: every field is read, harmless, or refused by name."""
import json

import pytest

from jaxret.models import adapter_config

PLAIN = {'peft_type': 'LORA', 'r': 4, 'lora_alpha': 8,
         'target_modules': ['q_proj', 'mlp.up_proj']}
LAYER = 'model.layers.{}.self_attn.{}_proj'


def config(**fields):
  return adapter_config.AdapterConfig('file', {**PLAIN, **fields})


def read(directory, **fields):
  path = directory / adapter_config.FILE
  path.write_text(json.dumps({**PLAIN, **fields}))
  return adapter_config.read(path)


def test_absent_fields_have_peft_s_defaults(tmp_path):
  path = tmp_path / adapter_config.FILE
  path.write_text('{"peft_type": "LORA"}')
  found = adapter_config.read(path)
  assert adapter_config.scale(found, LAYER.format(0, 'q'), 8) == 1.0
  assert adapter_config.targets(found, 'x') is None


@pytest.mark.parametrize('fields', [
    {name: {'any': 'value'}} for name, _ in adapter_config.HARMLESS] + [
        {'something_new': empty} for empty in (None, False, 0, {}, [], '')] + [
            {'init_lora_weights': value} for value in adapter_config.INITIAL])
def test_what_changes_no_number_is_read(tmp_path, fields):
  assert read(tmp_path, **fields).fields == {**PLAIN, **fields}


@pytest.mark.parametrize('fields, message', [
    ({'peft_type': 'IA3'}, "peft_type = 'IA3', want 'LORA'"),
    ({'something_new': [1]}, r'something_new = \[1\], which is not implem'),
    ({'megatron_config': {'a': 1}}, 'megatron_config'),
    ({'bias': 'vera_only'}, "bias = 'vera_only', want 'none' or 'all' or"),
    ({'init_lora_weights': 'pissa_niter_4'}, 'it changes the base model'),
    ({'init_lora_weights': 1}, 'init_lora_weights = 1'),
    ({'r': 0}, 'got r = 0, want a whole number above 0'),
    ({'r': 2.5}, 'got r = 2.5'),
    ({'r': True}, 'got r = True'),
    ({'lora_alpha': -1}, 'lora_alpha = -1, want a finite number above 0'),
    ({'lora_alpha': float('nan')}, 'lora_alpha = nan'),
    ({'lora_alpha': float('inf')}, 'lora_alpha = inf'),
    ({'lora_alpha': '16'}, "lora_alpha = '16'"),
    ({'rank_pattern': {'q_proj': 0}}, 'r of q_proj = 0'),
    ({'alpha_pattern': {'q_proj': None}}, 'lora_alpha of q_proj = None')])
def test_what_is_not_implemented_is_refused(tmp_path, fields, message):
  with pytest.raises(ValueError, match=message) as error:
    read(tmp_path, **fields)
  assert '\n' not in str(error.value)


def test_what_is_no_config_is_refused(tmp_path):
  path = tmp_path / adapter_config.FILE
  with pytest.raises(ValueError, match='no such file; want a directory that'):
    adapter_config.read(path)
  for content, message in (('{', 'not JSON'), ('[1]', 'got a JSON list')):
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
      adapter_config.read(path)


def test_the_scale_is_of_each_module():
  found = config(
      rank_pattern={'v_proj': 2, r'layers\.1\.self_attn\.q_proj': 16},
      alpha_pattern={'^model.layers.0.self_attn.q_proj': 3})
  for layer, name, rank, want in (
      (0, 'q', 4, 3 / 4), (1, 'q', 16, 8 / 16), (2, 'q', 4, 2.0),
      (1, 'v', 2, 4.0), (0, 'k', 4, 2.0)):
    assert adapter_config.scale(found, LAYER.format(layer, name), rank) == want
  assert adapter_config.scale(config(use_rslora=True), 'x', 4) == 8 / 2
  # An ending is of whole names: 'v_proj' is not 'kv_proj'.
  assert adapter_config.scale(found, 'model.kv_proj', 4) == 2.0
  with pytest.raises(ValueError, match='says rank 2 of .*v_proj, its factors ha'
                                       've 4'):
    adapter_config.scale(found, LAYER.format(0, 'v'), 4)


@pytest.mark.parametrize('fields, wanted', [
    ({}, 'q0 q1 q2'),
    ({'target_modules': r'.*layers\.[01]\..*[kq]_proj'}, 'q0 q1 k0 k1'),
    ({'target_modules': 'all-linear'}, 'q0 q1 q2 k0 k1 k2'),
    ({'target_modules': [LAYER.format(1, 'k')]}, 'k1'),
    ({'layers_to_transform': [0, 2]}, 'q0 q2'),
    ({'layers_to_transform': 1, 'layers_pattern': 'layers'}, 'q1'),
    ({'layers_to_transform': 1, 'layers_pattern': ['blocks', 'layers']}, 'q1'),
    ({'layers_to_transform': 1, 'layers_pattern': 'blocks'}, ''),
    ({'layers_to_transform': []}, 'q0 q1 q2'),
    ({'exclude_modules': ['layers.1.self_attn.q_proj']}, 'q0 q2'),
    ({'exclude_modules': r'.*\.[02]\..*'}, 'q1'),
    ({'modules_to_save': ['layers.0.self_attn']}, 'q1 q2')])
def test_targets_are_those_of_peft(fields, wanted):
  found = config(**fields)
  got = [f'{name}{layer}' for name in 'qk' for layer in range(3)
         if adapter_config.targets(found, LAYER.format(layer, name))]
  assert got == wanted.split()
  # An embedding is no linear layer.
  assert not adapter_config.targets(
      config(target_modules='all-linear'), 'embed_tokens', linear=False)


def test_targets_agree_with_peft():
  peft = pytest.importorskip('peft')
  from peft.tuners import tuners_utils
  for fields in ({'layers_to_transform': [1]}, {
      'layers_to_transform': [0], 'layers_pattern': ['layers', 'h']}, {
          'target_modules': r'(?!visual).*\.q_proj'}, {
              'exclude_modules': ['q_proj']}, {'modules_to_save': ['layers']}):
    theirs = peft.LoraConfig(**{'target_modules': ['q_proj'], **fields})
    for module in ('model.layers.0.self_attn.q_proj', 'visual.h.0.q_proj',
                   'layers.1.q_proj', 'model.layers.1.x.0.q_proj', 'q_proj'):
      want = tuners_utils.check_target_module_exists(theirs, module)
      want = bool(want) and type(want).__name__ != '_ExcludedModule'
      ours = config(**{'target_modules': ['q_proj'], **fields})
      assert bool(adapter_config.targets(ours, module)) == want, (
          fields, module)


def test_saved_modules_and_tokens():
  found = config(modules_to_save=['norm', 'lm_head'])
  assert adapter_config.saves(found, 'model.norm') == ['norm']
  assert adapter_config.saves(found, 'lm_head') == ['lm_head']
  assert not adapter_config.saves(found, 'model.norm1')
  assert adapter_config.token_indices(
      config(trainable_token_indices=[3, 5]), 'model.embed_tokens') == [3, 5]
  assert adapter_config.token_indices(config(
      trainable_token_indices={'embed_tokens': [7]}), 'a.embed_tokens') == [7]
  assert adapter_config.token_indices(config(
      trainable_token_indices={'x': [7]}), 'a.embed_tokens') is None
  assert adapter_config.token_indices(config(), 'embed_tokens') is None


def test_every_field_of_peft_is_known():
  """What a newer PEFT adds is refused until it is looked at: here."""
  peft = pytest.importorskip('peft')
  written = peft.LoraConfig().to_dict()
  refused = {name for name in written if name not in adapter_config.READ
             and name not in dict(adapter_config.HARMLESS)}
  assert refused == {
      'alora_invocation_tokens', 'arrow_config', 'kasa_config',
      'layer_replication', 'megatron_config', 'monteclora_config',
      'target_parameters', 'use_bdlora', 'use_qalora', 'velora_config'}
  assert not any(written[name] for name in refused)
