"""PEFT's options: the embeddings of PEFT itself, or a refusal by name.

Every adapter is made, written and read again by PEFT, with nothing in it at
its initial value. `pytest -s` prints the table.
"""
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jaxret
from jaxret import sharding

pytest.importorskip('torch')
pytest.importorskip('transformers')
peft = pytest.importorskip('peft')

from tests.parity import peft_reference as reference  # noqa: E402

TOLERANCE = 1e-5
SAME = 'as PEFT'
QKV = ['q_proj', 'v_proj']
LAYER = 'model.language_model.layers.{}.self_attn.q_proj'


class Row:
  """An adapter: fields of LoraConfig, and what is right.

  refused: what the message says, or None where PEFT's numbers are wanted.
  kind: another config than LoraConfig. edit: a change of adapter_config.json.
  file: a change of the written directory. bare: of AutoModel's class. tied:
  of a model whose head is its embedding. slow: not in every run. make: what
  writes it.
  """

  def __init__(self, name, fields=(), refused=None, kind='LoraConfig', edit=(),
               file=None, bare=False, tied=False, slow=True,
               make=reference.make_adapter):
    self.name, self.refused, self.kind = name, refused, kind
    self.fields = {'r': 4, 'lora_alpha': 8, 'target_modules': QKV,
                   **dict(fields)} if kind == 'LoraConfig' else dict(fields)
    self.edit, self.file, self.bare, self.slow = edit, file, bare, slow
    self.tied, self.make = tied, make

  def write(self, base, directory):
    """Writes the adapter for the model in the directory `base`."""
    config = getattr(peft, self.kind)(**self.fields)
    self.make(reference.base(base, self.bare), config, directory)
    if self.edit:
      path = directory / 'adapter_config.json'
      path.write_text(json.dumps(
          json.loads(path.read_text()) | dict(self.edit)))
    if self.file:
      self.file(directory)


def older_names(directory):
  """As a class of transformers before 4.52 names its tensors."""
  def older(text):
    return text.replace('model.language_model.', 'model.').replace(
        'model.visual.', 'visual.')
  path = directory / 'adapter_model.safetensors'
  save_file({older(key): tensor for key, tensor in load_file(path).items()},
            path)
  path = directory / 'adapter_config.json'
  path.write_text(older(path.read_text()))


def plain(name, **fields):
  return Row(name, fields)


def refused(name, word=None, slow=True, **fields):
  return Row(name, fields, refused=word or name.split()[0], slow=slow)


def edited(name, **edit):
  """Of a config that PEFT makes only with what is not here."""
  return Row(name, refused=next(iter(edit)), edit=edit)


def other(kind, word, **fields):
  return Row(f'peft_type {word}', {'target_modules': QKV, **fields},
             f"peft_type = '{word}'", kind)


ROWS = (
    plain('r, lora_alpha, target_modules'),
    plain('use_rslora', use_rslora=True),
    plain('alpha_pattern, an ending', alpha_pattern={'q_proj': 3}),
    plain('alpha_pattern, a whole name of one layer',
          alpha_pattern={f'^{LAYER.format(1)}': 32}),
    plain('rank_pattern, an ending', rank_pattern={'v_proj': 2}),
    plain('rank_pattern of one layer',
          rank_pattern={r'layers\.1\.self_attn\.q_proj': 6}),
    plain('rank_pattern, alpha_pattern and use_rslora', use_rslora=True,
          rank_pattern={'layers.0.self_attn.v_proj': 1},
          alpha_pattern={'layers.1.self_attn.v_proj': 1, 'q_proj': 5}),
    plain('layers_to_transform, a list', layers_to_transform=[1]),
    plain('layers_to_transform, a number, and layers_pattern',
          layers_to_transform=0, layers_pattern='layers'),
    plain('target_modules, a regex of one layer',
          target_modules=r'.*layers\.0\.(self_attn\.[qk]|mlp\.up)_proj'),
    plain('target_modules all-linear, visual layers too',
          target_modules='all-linear'),
    plain('target_modules proj, a convolution among them',
          target_modules=['proj', 'fc1']),
    plain('target_modules of the merger', target_modules=['mlp.0', 'mlp.2']),
    plain('target_modules embed_tokens',
          target_modules=['embed_tokens', 'k_proj']),
    plain('target_modules lm_head', target_modules=['lm_head', 'k_proj']),
    plain('exclude_modules, a list', target_modules='all-linear',
          exclude_modules=['qkv', 'layers.0.mlp.up_proj']),
    plain('exclude_modules, a regex', exclude_modules=r'.*layers\.0\..*'),
    plain('modules_to_save embed_tokens and lm_head',
          modules_to_save=['embed_tokens', 'lm_head']),
    plain('modules_to_save norm', modules_to_save=['norm', 'norm1']),
    plain('modules_to_save merger', modules_to_save=['merger']),
    plain('modules_to_save of one layer', modules_to_save=['layers.1.mlp']),
    plain('trainable_token_indices, a list',
          trainable_token_indices=list(range(0, 400, 3))),
    plain('trainable_token_indices, a dict',
          trainable_token_indices={'embed_tokens': list(range(1, 400, 2))}),
    plain('bias all', bias='all'),
    plain('bias lora_only', bias='lora_only', target_modules=['q_proj', 'qkv']),
    plain('bias all and modules_to_save', bias='all',
          modules_to_save=['merger']),
    plain('lora_bias', lora_bias=True),
    refused('lora_bias of layers without a bias', 'o_proj.lora_B.bias',
            lora_bias=True, target_modules=['o_proj']),
    plain('use_dora', use_dora=True),
    Row('use_dora of all-linear with rank_pattern, use_rslora and a module', {
        'use_dora': True, 'target_modules': 'all-linear', 'use_rslora': True,
        'rank_pattern': {'layers.0.mlp.up_proj': 2},
        'modules_to_save': ['merger']}),
    plain('use_dora of some layers', use_dora=True, layers_to_transform=[0]),
    plain('use_dora of embed_tokens', use_dora=True,
          target_modules=['embed_tokens', 'v_proj']),
    plain('use_dora of a convolution', use_dora=True,
          target_modules=['patch_embed.proj']),
    plain('lora_dropout', lora_dropout=0.5),
    Row('fan_in_fan_out', edit={'fan_in_fan_out': True}),
    *(plain(f'init_lora_weights {value}', init_lora_weights=value)
      for value in (False, 'gaussian', 'orthogonal', 'mica')),
    plain('init_lora_weights eva', init_lora_weights='eva',
          eva_config=peft.EvaConfig(rho=1.0)),
    *(refused(f'init_lora_weights {value}', f"init_lora_weights = '{value}'",
              init_lora_weights=value, slow=value != 'pissa')
      for value in ('pissa', 'pissa_niter_4', 'olora')),
    Row('init_lora_weights pissa, converted by PEFT',
        {'init_lora_weights': 'pissa'}, make=reference.make_converted_pissa),
    *(edited(f'init_lora_weights {value}', init_lora_weights=value)
      for value in ('corda', 'loftq', 'lora_ga')),
    refused('alora_invocation_tokens', alora_invocation_tokens=[5],
            task_type='CAUSAL_LM'),
    refused('target_parameters', target_parameters=['q_proj.weight'],
            target_modules=['v_proj']),
    refused('velora_config', velora_config={'num_groups': 4}),
    edited('layer_replication', layer_replication=[[0, 2], [1, 2]]),
    edited('use_qalora', use_qalora=True),
    edited('use_bdlora', use_bdlora={'nblocks': 2}),
    edited('monteclora_config', monteclora_config={'num_samples': 8}),
    edited('kasa_config', kasa_config={'beta': 1e-4}),
    edited('arrow_config', arrow_config={'top_k': 2}),
    edited('megatron_config', megatron_config={'x': 1}),
    edited('a field of the future', use_something_new=True),
    edited('bias of another kind', bias='boft_only'),
    other('IA3Config', 'IA3', feedforward_modules=[]),
    other('VeraConfig', 'VERA'),
    other('LoHaConfig', 'LOHA'),
    other('LoKrConfig', 'LOKR'),
    other('AdaLoraConfig', 'ADALORA', total_step=10),
    other('OFTConfig', 'OFT', oft_block_size=0, r=4),
    other('FourierFTConfig', 'FOURIERFT', n_frequency=8),
    Row('peft_type PROMPT_TUNING', refused='PROMPT_TUNING',
        edit={'peft_type': 'PROMPT_TUNING'}),
    *(Row(f'a head that is the embedding: {next(iter(fields))}', fields,
          tied=True) for fields in (
              {'modules_to_save': ['embed_tokens']},
              {'trainable_token_indices': list(range(0, 400, 3))},
              {'ensure_weight_tying': True, 'modules_to_save': [
                  'embed_tokens', 'lm_head']},
              {'target_modules': ['embed_tokens', 'k_proj']},
              {'target_modules': ['lm_head', 'k_proj']})),
    Row('the bare model of AutoModel', {'target_modules': 'all-linear'},
        bare=True),
    Row('names of transformers before 4.52', {'target_modules': 'all-linear'},
        file=older_names),
)


@pytest.fixture(scope='module')
def bases(tmp_path_factory):
  """{whether the head is tied to the embedding: the directory of a model}."""
  return {tied: reference.base_directory(tmp_path_factory.mktemp('base'), tied)
          for tied in (False, True)}


@pytest.fixture(scope='module')
def mesh():
  return sharding.make_mesh(devices=jax.devices()[:1])


@pytest.fixture(scope='module')
def unadapted(bases, mesh):
  """(Reader, float32 [items, D] of the model without an adapter)."""
  model = jaxret.load(bases[False], mesh=mesh)
  return model.reader, model.encode(reference.ITEMS, show_progress=False)


@pytest.fixture(scope='module')
def table():
  """Takes (option, outcome) pairs, and prints them at the end."""
  rows = []
  yield rows
  print('\n\n| PEFT option | here | largest difference | moved by |')
  print('|---|---|---|---|')
  for row in rows:
    print(f'| {" | ".join(row)} |')


@pytest.mark.parametrize('row', [
    pytest.param(row, id=row.name, marks=[pytest.mark.slow] if row.slow else [])
    for row in ROWS])
def test_option(row, bases, mesh, unadapted, table, tmp_path):
  base = bases[row.tied]
  row.write(base, tmp_path)
  if row.refused:
    with pytest.raises(ValueError) as error:
      jaxret.load(base, adapter=tmp_path, mesh=mesh)
    assert row.refused in str(error.value) and '\n' not in str(error.value)
    table.append((row.name, f'refused by name: `{row.refused}`', '', ''))
    return
  reader, before = unadapted
  model = reference.base(base, row.bare)
  if row.file is None:
    model, complaints = reference.read_by_peft(model, tmp_path)
    assert not complaints
  else:  # PEFT of today passes over them: the same adapter by today's names
    Row('', row.fields).write(base, tmp_path / 'today')
    model, _ = reference.read_by_peft(model, tmp_path / 'today')
  want = reference.embed(model, reader)
  got = jaxret.load(base, adapter=tmp_path, mesh=mesh).encode(
      reference.ITEMS, show_progress=False)
  np.testing.assert_allclose(got, want, atol=TOLERANCE)
  moved = np.abs(want - before).max()
  assert moved > 1e-3
  table.append((row.name, SAME, f'{np.abs(got - want).max():.1e}',
                f'{moved:.2f}'))
