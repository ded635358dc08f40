"""Checkpoints that versions of transformers saved give what they computed.

checkpoints/<version>/ holds what that version saved and its own numbers; see
checkpoints/make.py.
"""
import functools
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxret import sharding
from jaxret.data.qwen2_vl import layout
from jaxret.models import bert, clip, encoder_names, pretrained
from jaxret.models.llava import files as llava_files
from jaxret.models.qwen2_vl import files as qwen2_vl_files

HERE = pathlib.Path(__file__).parent / 'checkpoints'
VERSIONS = ('4.47.1', '4.57.6', '5.24.0')
ATOL = 1e-5


@pytest.fixture(scope='module')
def mesh():
  return sharding.make_mesh(devices=jax.devices()[:1])


@functools.cache
def expected(directory):
  with np.load(directory / 'expected.npz') as arrays:
    return dict(arrays)


def tensors_of(directory):
  return safetensors.numpy.load_file(directory / 'model.safetensors')


def written(source, target, tensors=None, **config):
  """A copy of a checkpoint with other tensors or fields of config.json."""
  target.mkdir(exist_ok=True)
  whole = json.loads((source / 'config.json').read_text())
  (target / 'config.json').write_text(json.dumps(whole | config))
  if tensors is None:
    shutil.copy(source / 'model.safetensors', target)
  else:
    safetensors.numpy.save_file(tensors, target / 'model.safetensors')
  return target


def qwen2_vl_outputs(
    directory, mesh, mode='sequential', inputs=None, **options):
  """{'hidden': [1, T, D]}, and 'logits' where the model is to generate.

  inputs: the arrays of expected.npz, where none lies in the directory.
  """
  config, special = qwen2_vl_files.read_config(directory, mode)
  params = qwen2_vl_files.load(directory, config, mesh, **options)
  return run_qwen2_vl(config, special, params, inputs or expected(directory),
                      'generates' in options)


def run_qwen2_vl(config, special, params, found, logits):
  tokens, grids = found['tokens'], ((1, 4, 4),)
  laid = layout.lay_out(grids, 1, 16)
  index = layout.visual_index(
      tokens[0], ('image',), grids, laid.patch_index, special, 'row')
  positions = layout.mrope_positions(tokens[0], ('image',), grids, special)
  return compiled(config, qwen2_vl_run, logits)(
      params, tokens, found['patches'][None, None], laid.segments[None],
      laid.coordinates[None], index[None], positions[None])


def qwen2_vl_run(module, logits, tokens, patches, segments, coordinates, index,
                 positions):
  visual = module.visual_tokens(patches, segments, coordinates)
  x = module.embed(tokens, visual, index)
  hidden = module.hidden(x, jnp.ones(tokens.shape, bool), positions)
  if not logits:
    return {'hidden': hidden}
  return {'hidden': hidden, 'logits': head(module, hidden)}


def head(module, hidden):
  return sum(left @ right for left, right in module.vocabulary_terms(hidden))


@functools.cache
def compiled(config, method, *fixed):
  """(params, *arrays) -> what the method of a module gives."""
  def run(module, *arrays):
    return method(module, *fixed, *arrays)
  return jax.jit(functools.partial(config.module().apply, method=run))


def check_qwen2_vl(directory, mesh, want, mode='sequential', **options):
  got = qwen2_vl_outputs(directory, mesh, mode, want, **options)
  for name, value in got.items():
    np.testing.assert_allclose(value, want[f'{mode}_{name}'], atol=ATOL)


@pytest.mark.parametrize('case, mode', [
    ('qwen2_vl_tied', 'mrope'), ('qwen2_vl_untied', 'sequential')])
@pytest.mark.parametrize('version', VERSIONS)
def test_qwen2_vl(version, case, mode, mesh):
  directory = HERE / version / case
  check_qwen2_vl(directory, mesh, expected(directory), mode, generates=True)


@pytest.mark.parametrize('tied', [False, True])
@pytest.mark.parametrize('version', VERSIONS[1:])
def test_qwen2_vl_as_auto_model_saves_it(version, tied, mesh, tmp_path):
  source = HERE / version / 'qwen2_vl_bare'
  directory = written(source, tmp_path, tie_word_embeddings=tied)
  text = json.loads((directory / 'config.json').read_text())
  if 'text_config' in text:
    text['text_config']['tie_word_embeddings'] = tied
    (directory / 'config.json').write_text(json.dumps(text))
  check_qwen2_vl(directory, mesh, expected(source), head=False)
  if not tied:
    with pytest.raises(ValueError, match='missing: lm_head.weight; got .*, no '
                       r'output head \(lm_head.\*\); want the model with its'):
      qwen2_vl_outputs(directory, mesh, generates=True)


def test_qwen2_vl_without_its_tower_is_named(mesh):
  """AutoModel was the decoder alone before transformers 4.52."""
  directory = HERE / '4.47.1' / 'qwen2_vl_bare'
  with pytest.raises(ValueError, match='got a bare model, as AutoModel saves it'
                     r', no vision tower \(visual.\*\); want every tensor'):
    qwen2_vl_outputs(directory, mesh, head=False)


@pytest.mark.parametrize('case', ['bert', 'bert_heads', 'xlmr', 'xlmr_heads'])
@pytest.mark.parametrize('version', VERSIONS)
def test_text_encoders(version, case):
  directory = HERE / version / case
  check_text_encoder(directory, expected(directory))


def check_text_encoder(directory, want):
  checkpoint, config = bert.open_bert(directory)
  module, mask = bert.Bert(config), want['mask'].astype(bool)
  abstract = jax.eval_shape(
      module.init, jax.random.key(0), want['tokens'], mask)
  params, _ = pretrained.load(checkpoint, encoder_names.BERT,
                              {'text_encoder': abstract['params']})
  hidden = run_encoder(
      module, {'params': params['text_encoder']}, want['tokens'], mask)
  np.testing.assert_allclose(hidden[mask], want['hidden'][mask], atol=ATOL)


@pytest.mark.parametrize('version', VERSIONS)
def test_clip(version):
  directory = HERE / version / 'clip'
  check_clip(directory, expected(directory))


@functools.partial(jax.jit, static_argnums=0)
def run_encoder(module, params, *inputs):
  return module.apply(params, *inputs)


def check_clip(directory, want):
  checkpoint, table, config = clip.open_clip(directory)
  tower = clip.ClipVision(config.vision)
  projection = clip.ClipVisionHead(
      config.vision.encoder, config.embedding_width)
  key, pixels = jax.random.key(0), jnp.asarray(want['pixels'])
  hidden, vision = jax.eval_shape(tower.init_with_output, key, pixels)
  abstract = {'vision': vision['params'],
              'vision_head': jax.eval_shape(
                  projection.init, key, hidden)['params']}
  params, _ = clip.load(checkpoint, table, abstract)
  hidden = run_encoder(tower, {'params': params['vision']}, pixels)
  embeds = run_encoder(
      projection, {'params': params['vision_head']}, hidden[:, 0])
  np.testing.assert_allclose(hidden, want['hidden'], atol=ATOL)
  embeds /= np.linalg.norm(embeds, axis=-1, keepdims=True)
  np.testing.assert_allclose(embeds, want['image_embeds'], atol=ATOL)


@pytest.mark.parametrize('version', VERSIONS)
def test_llava_next(version, mesh):
  directory = HERE / version / 'llava_next'
  check_llava_next(directory, mesh, expected(directory))


def check_llava_next(directory, mesh, want):
  # The base of the rotary positions is never a default of ours.
  found = llava_files.read_config(directory, rope_theta=1e4)
  params = llava_files.load(directory, found.config, mesh)
  # 0 is the newline, 1 to 4 are the whole image, 5 to 8 its only tile.
  seen = [1, 2, 3, 4, 5, 6, 0, 7, 8, 0]
  index = np.array([[-1, -1, *seen, -1, -1]])
  hidden, logits = compiled(found.config, llava_next_run)(
      params, want['tokens'], want['pixels'], index)
  np.testing.assert_allclose(hidden, want['hidden'], atol=ATOL)
  np.testing.assert_allclose(logits, want['logits'], atol=ATOL)


def llava_next_run(module, tokens, pixels, index):
  x = module.inputs(tokens, pixels, index)
  hidden = module.hidden(x, jnp.ones(x.shape[:2], bool))
  return hidden, head(module, hidden)
