"""UNITE's training: losses and gradients of the model whole and with LoRA."""
import functools
import types

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxret import optim, sharding
from jaxret.methods.unite import method as unite
from jaxret.models import adapter_export, adapter_import, lora
from tests.parity import unite_reference as reference

EMBEDDINGS = 5e-6
GRADIENTS = 1e-3  # relative to the largest element of each tensor


@pytest.fixture(scope='module')
def table(unite_golden):
  return reference.table(unite_golden, 'qwen2vl/train.json')


@pytest.fixture(scope='module')
def golden(unite_golden):
  return {name: reference.read(unite_golden, f'qwen2vl/train_{name}.npz')
          for name in ('full', 'lora')}


@pytest.fixture(scope='module')
def plain(unite_golden):
  return reference.model(unite_golden)


@pytest.fixture(scope='module')
def adapted(unite_golden):
  return reference.model(unite_golden, adapter=True)


def pair_batch(folder, table, arrays, model):
  """The golden queries and candidates as a batch of our method."""
  candidates = reference.case(
      folder, table['candidate_inputs_from'].removesuffix('.npz'))
  queries = {'in/input_ids': arrays['in/query_input_ids'],
             'in/attention_mask': arrays['in/query_attention_mask']}
  batch = {}
  for side, its in (('query', queries), ('candidate', candidates)):
    rows = reference.right_padded(reference.batch(its, model)[0])
    batch |= {f'{side}_{name}': array for name, array in rows.items()}
  modality = arrays['in/target_modal'].astype(np.int32)
  return {**batch, 'modality': modality,
          'positive': np.arange(len(modality), dtype=np.int32)}


def settings(variant):
  return types.SimpleNamespace(
      temperature=variant['temp'], dual=variant['dual_loss'],
      modality_mask=variant['target_modal_mask'], multi_positive=False,
      released=True)


def run(model, settings, trainable, batch):
  """(loss, embeddings, gradients by path) of one device."""
  contrast = functools.partial(unite.embedding_loss, settings)
  chosen, frozen = optim.partition(model.params, trainable)
  def mean_loss(chosen, frozen, batch):
    embeddings = unite.embed_pairs(
        model.config, optim.merge(chosen, frozen), {}, batch, None)
    return contrast(embeddings, batch)[0].mean(), embeddings
  (value, embeddings), gradients = jax.jit(jax.value_and_grad(
      mean_loss, has_aux=True))(chosen, frozen, batch)
  return float(value), embeddings, sharding.flatten(gradients)


def check_gradient(got, want, name):
  deviation = np.abs(np.asarray(got) - want).max(initial=0)
  # Both may be zero: of a loss without negatives, say.
  assert deviation <= GRADIENTS * np.abs(want).max(initial=0), (
      name, deviation)


@pytest.mark.slow
def test_unite_full_training(unite_golden, table, golden, plain):
  arrays = golden['full']
  batch = pair_batch(unite_golden, table, arrays, plain)
  for name, variant in table['variants'].items():
    value, embeddings, gradients = run(
        plain, settings(variant), ('params/decoder/.*',), batch)
    np.testing.assert_allclose(value, arrays[f'{name}/loss'], rtol=1e-4)
    for side, letter in (('query', 'q'), ('candidate', 'c')):
      np.testing.assert_allclose(
          embeddings[side], arrays[f'{name}/{letter}_embeds'], atol=EMBEDDINGS)
    prefix, checked = f'{name}/grad/', 0
    tensors = {key.removeprefix(prefix): array for key, array
               in arrays.items() if key.startswith(prefix)}
    rows = {key: tensors.pop(key) for key in list(tensors)
            if key.endswith(('/rows', '/values'))}
    for key, path, layer, want in reference.locate(tensors, 'params/'):
      check_gradient(gradients[path][layer], want, key)
      checked += 1
    assert checked
    embedding = np.asarray(gradients['params/decoder/embed/embedding'])
    for key in rows:
      if key.endswith('/rows'):
        want = rows[key.removesuffix('rows') + 'values']
        check_gradient(embedding[rows[key]], want, key)
        others = np.delete(embedding, rows[key], 0)
        assert np.abs(others).max(initial=0) <= (
            GRADIENTS * np.abs(want).max(initial=0))
    norm = np.sqrt(sum(float((np.asarray(leaf) ** 2).sum())
                       for leaf in gradients.values()))
    np.testing.assert_allclose(
        norm, arrays[f'{name}/grad_global_norm'], rtol=1e-3)


@pytest.mark.slow
def test_unite_lora_training(unite_golden, table, golden, adapted):
  """Of the variant whose settings give the golden loss with LoRA."""
  arrays = golden['lora']
  batch = pair_batch(unite_golden, table, golden['full'], adapted)
  found = {name: run(adapted, settings(variant), ('lora/.*',), batch)
           for name, variant in table['variants'].items()}
  name = min(found, key=lambda name: abs(found[name][0] - arrays['loss']))
  value, embeddings, gradients = found[name]
  np.testing.assert_allclose(value, arrays['loss'], rtol=1e-4)
  for side, letter in (('query', 'q'), ('candidate', 'c')):
    np.testing.assert_allclose(
        embeddings[side], arrays[f'{letter}_embeds'], atol=EMBEDDINGS)
  tensors = {key.removeprefix('grad/'): array for key, array in arrays.items()
             if key.startswith('grad/')}
  checked = {}
  for key, path, layer, want in reference.locate(tensors, 'lora/'):
    check_gradient(gradients[path][layer], want, key)
    checked[path] = checked.get(path, 0) + want.size
  assert checked == {path: leaf.size for path, leaf in gradients.items()}


def test_unite_merged_adapter(unite_golden, table, golden, adapted):
  arrays = golden['lora']
  assert adapted.config.decoder.lora_scale == table['lora']['scaling']
  params = lora.merge(adapted.params['params'], adapted.params['lora'],
                      adapted.config.decoder.lora_scale)
  flat = sharding.flatten({'params': params})
  tensors = {key.removeprefix('merged_weight/'): array for key, array
             in arrays.items() if key.startswith('merged_weight/')}
  assert tensors
  for key, path, layer, want in reference.locate(tensors, 'params/'):
    np.testing.assert_allclose(flat[path][layer], want, atol=1e-5, err_msg=key)
  batch = pair_batch(unite_golden, table, golden['full'], adapted)
  embeddings = jax.jit(functools.partial(
      unite.embed_pairs, adapted.config))({'params': params}, {}, batch, None)
  for side, letter in (('query', 'q'), ('candidate', 'c')):
    np.testing.assert_allclose(
        embeddings[side], arrays[f'merged_{letter}_embeds'], atol=EMBEDDINGS)


def test_unite_adapter_is_written_as_it_was_read(unite_golden, tmp_path):
  source = unite_golden / 'qwen2vl' / 'lora_adapter'
  adapter_export.export_peft(adapter_import.import_peft(source), tmp_path)
  name = 'adapter_model.safetensors'
  got, want = ({adapter_import.plain_key(key): tensor for key, tensor
                in load_file(directory / name).items()}
               for directory in (tmp_path, source))
  assert got.keys() == want.keys()
  for key in want:
    np.testing.assert_array_equal(got[key], want[key])
  ours, theirs = (reference.table(directory, 'adapter_config.json')
                  for directory in (tmp_path, source))
  for field in ('r', 'lora_alpha', 'peft_type', 'bias'):
    assert ours[field] == theirs[field], field
  # A set there, written in any order.
  assert ours['target_modules'] == sorted(theirs['target_modules'])
