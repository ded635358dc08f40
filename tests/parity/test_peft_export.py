"""Adapters that we train, applied by PEFT in the classes of transformers.

Today's versions run here. JAXRET_OLDER_TRANSFORMERS names directories with
older ones of transformers and PEFT, as a PYTHONPATH (4.47.1 and 0.13.2, say),
and runs the same there: `pip install --target`.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jaxret
from jaxret import methods, sharding
from jaxret import run as run_lib
from jaxret.data import text
from jaxret.data.sets import mixed
from jaxret.methods import embedding_run
from jaxret.models import (
  adapter_export,
  adapter_import,
  adapters,
  names,
  pretrained,
)
from jaxret.models.llava import embedder
from jaxret.models.llava import names as mm_embed_names
from tests import tiny_unite
from tests.models.llava import test_adapter as mm_embed_test
from tests.parity import blim_reference

pytest.importorskip('torch')
pytest.importorskip('transformers')
peft = pytest.importorskip('peft')

from tests.parity import peft_elsewhere  # noqa: E402
from tests.parity import peft_reference as reference  # noqa: E402

OLDER = os.environ.get('JAXRET_OLDER_TRANSFORMERS')
WHERE = ('today', pytest.param('older', marks=pytest.mark.skipif(
    not OLDER, reason='JAXRET_OLDER_TRANSFORMERS names no directories')))
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_device')]


def settings(config, base, trainable):
  """Two steps of LoRA, and of what else `trainable` names."""
  config.update({'before': (), 'starts_from': '', 'negatives': ''})
  config.data.update(shape=(), candidate_shape=(), max_tokens=160)
  config.pairs.update(per_source=False, sources=(), weights=())
  config.model.update(pretrained=str(base), tokenizer='',
                      trainable=('lora/.*', trainable))
  config.model.lora.update(rank=4, alpha=8, targets=(
      'decoder/layers/attention/[qkvo]', 'decoder/layers/mlp/(gate|up|down)'))
  config.optim.update(learning_rate=1e-2, warmup_epochs=0.0)
  config.train.update(batch_size=8, steps=2)
  return config


def train(config, directory, pairs):
  """The parameters that a run ends with; its adapter is in the directory."""
  embeds = methods.embeds(config.method)
  tokenizer = text.load_tokenizer(config.model.pretrained)
  return embedding_run.train(
      embedding_run.Run(config, directory, sharding.make_mesh(), embeds,
                        tokenizer, {}),
      run_lib.Stage(config.method, config, directory), {'all': pairs},
      embeds.reader(config, tokenizer))


def write_merged(directory, adapter, base, table):
  """The base with an imported adapter in it, by the names of the table."""
  adapter = adapter_import.import_peft(adapter, table)
  tensors = {names.plain(key): tensor
             for key, tensor in load_file(base).items()}
  save_file(tensors, directory / 'base.safetensors')
  # What other transforms lay out is no part of an adapter here.
  simple = {weight.path: weight for weight in table
            if weight.transform in ('copy', 'transpose')}
  params, _ = pretrained.load(pretrained.Checkpoint('base', {
      key: tensor for key, tensor in tensors.items()
      if adapter_import._place({weight.key: 1 for weight in simple.values()},
                               key)}),
      [weight._replace(spare_layers=0) for weight in simple.values()])
  merged = adapters.merge({'params': params}, adapter)
  for path, leaf in sharding.flatten(merged['params']).items():
    weight = simple[path]
    for layer, part in enumerate(leaf if '{' in weight.key else [leaf]):
      tensors[weight.key.format(layer=layer)] = np.ascontiguousarray(
          turned(np.asarray(part), weight.transform))
  save_file(tensors, directory / 'merged.safetensors')


def turned(array, transform):
  return array.T if transform == 'transpose' else array


def compare(kind, directory, where):
  """PEFT applies the adapter, without a word, as we merge it."""
  if where == 'today':
    found = peft_elsewhere.outputs(kind, directory)
  else:
    script = pathlib.Path(peft_elsewhere.__file__)
    subprocess.run([sys.executable, script, kind, directory], check=True,
                   env={**os.environ, 'PYTHONPATH': OLDER}, timeout=300)
    found = np.load(directory / 'outputs.npz')
  assert not list(found['complaints'])
  np.testing.assert_allclose(
      found['peft'], found['merged'], rtol=1e-5, atol=1e-5)
  assert np.abs(found['peft'] - found['base']).max() > 1e-3


@pytest.fixture(scope='module')
def unite(tmp_path_factory):
  """(directory of the base, work directory, trained parameters)."""
  base = reference.base_directory(tmp_path_factory.mktemp('base'))
  config = settings(tiny_unite.make_config(), base, 'params/vision/merger/.*')
  pairs = [tiny_unite.Pair(tiny_unite.item('text', i),
                           tiny_unite.item('image', i)) for i in range(8)]
  workdir = tmp_path_factory.mktemp('unite')
  return base, workdir, train(config, workdir, pairs)


def test_today_embeds_as_unite_was_trained(unite):
  base, workdir, params = unite
  model = jaxret.load(base)
  wrapped, complaints = reference.read_by_peft(
      reference.base(base), workdir / 'adapter')
  assert not complaints
  got = reference.embed(wrapped, model.reader)
  again = jaxret.load(base, adapter=workdir / 'adapter')
  np.testing.assert_allclose(
      got, again.encode(reference.ITEMS, show_progress=False), atol=1e-5)
  before = model.encode(reference.ITEMS, show_progress=False)
  assert np.abs(got - before).max() > 1e-3
  config = json.loads((workdir / 'adapter/adapter_config.json').read_text())
  assert config['modules_to_save'] == ['model.visual.merger']
  kernel = params['params']['vision']['merger']['in']['kernel']
  read = adapter_import.import_peft(workdir / 'adapter', names.QWEN2_VL)
  np.testing.assert_array_equal(
      read.modules['vision']['merger']['in']['kernel'], kernel)


@pytest.mark.parametrize('where', WHERE)
def test_unite(unite, tmp_path, where):
  base, workdir, _ = unite
  shutil.copy(base / 'config.json', tmp_path)
  if where == 'today':
    shutil.copytree(workdir / 'adapter', tmp_path / 'adapter')
  else:
    adapter_export.export_peft(
        adapter_import.import_peft(workdir / 'adapter', names.QWEN2_VL),
        tmp_path / 'adapter', nested=False, weights=names.QWEN2_VL)
  write_merged(tmp_path, workdir / 'adapter', base / 'model.safetensors',
               names.QWEN2_VL)
  compare('qwen2_vl', tmp_path, where)


@pytest.mark.parametrize('where', WHERE)
def test_mm_embed(mm_embed_golden, tmp_path, where):
  base = mm_embed_golden / 'model'
  config = mm_embed_test.settings(mm_embed_golden.parent, tmp_path)
  shown = mm_embed_test.items(16)
  pairs = [mixed.Pair(query, candidate, mixed.modality(candidate), None, 'find')
           for query, candidate in zip(shown[:8], shown[8:])]
  train(config, tmp_path, pairs)
  whole = json.loads((base / 'config.json').read_text())
  retriever = json.loads((base / whole['retriever']).read_text())
  (tmp_path / 'config.json').write_text(json.dumps(
      {**whole, 'text_config': retriever['text_config']}))
  write_merged(tmp_path, tmp_path / 'adapter', base / 'model.safetensors',
               mm_embed_names.MM_EMBED)
  compare('mm_embed', tmp_path, where)


def test_all_linear_layers_of_mm_embed_are_merged_as_by_peft(
    mm_embed_golden, tmp_path):
  """Its tower and projector among them, and a layer that never runs."""
  directory = mm_embed_golden / 'model'
  whole = json.loads((directory / 'config.json').read_text())
  retriever = json.loads((directory / whole['retriever']).read_text())
  def build():
    model, _ = peft_elsewhere.mm_embed(
        {**whole, 'text_config': retriever['text_config']})
    return peft_elsewhere.load(model, directory / 'model.safetensors')
  reference.make_adapter(build(), peft.LoraConfig(
      r=2, target_modules='all-linear', use_dora=True, modules_to_save=[
          'linear_2']), tmp_path)
  wrapped, complaints = reference.read_by_peft(build(), tmp_path)
  assert not complaints
  want = {key.replace('vision_tower.', 'vision_tower.vision_model.'): tensor
          for key, tensor in wrapped.merge_and_unload().state_dict().items()}
  before = build().state_dict()
  config, params = embedder.open_embedder(
      directory, sharding.make_mesh(), adapter=tmp_path)
  flat, checked = sharding.flatten(params['params']), 0
  for weight in mm_embed_names.MM_EMBED:
    if weight.path in flat and weight.transform == 'transpose' and (
        not weight.key.startswith('latent')):
      leaf = flat[weight.path] if '{' in weight.key else [flat[weight.path]]
      for layer, kernel in enumerate(leaf):
        key = weight.key.format(layer=layer)
        np.testing.assert_allclose(kernel, want[key].T, atol=1e-5, err_msg=key)
        assert np.abs(kernel - before[key.replace(
            '.vision_model.', '.')].numpy().T).max() > 1e-3, key
        checked += 1
  assert checked > 20


@pytest.mark.parametrize('where', WHERE)
def test_blim(blim_golden, tmp_path, where):
  """The factors and the head that the authors' training ends with."""
  shutil.copy(blim_golden / 'config.json', tmp_path)
  lora = blim_reference.settings(blim_golden)['lora']
  adapter = adapter_import.import_peft(
      load_file(blim_golden / 'trained_params.safetensors'))
  adapter_export.export_peft(
      adapter._replace(scale=lora['alpha'] / lora['r']), tmp_path / 'adapter',
      nested=False)
  base = {adapter_import.plain_key(key): tensor for key, tensor in load_file(
      blim_golden / 'model_peft.safetensors').items() if '.lora_' not in key}
  save_file(base, tmp_path / 'plain.safetensors')
  write_merged(tmp_path, tmp_path / 'adapter', tmp_path / 'plain.safetensors',
               adapters.BLIM)
  compare('blim', tmp_path, where)
