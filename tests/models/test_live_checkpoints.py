"""What the installed transformers saves and computes now; needs PyTorch."""
import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxret import sharding
from tests.models import test_checkpoints as saved

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def make():
  pytest.importorskip('torch')
  pytest.importorskip('transformers')
  from tests.models.checkpoints import make
  return make


@pytest.fixture(scope='module')
def mesh():
  return sharding.make_mesh(devices=jax.devices()[:1])


@pytest.mark.parametrize('case', [
    'qwen2_vl_tied', 'qwen2_vl_untied', 'qwen2_vl_bare', 'bert', 'bert_heads',
    'xlmr', 'xlmr_heads', 'clip', 'llava_next'])
def test_what_is_saved_now(make, case, mesh, tmp_path):
  _, want = make.make(case, tmp_path)
  if case == 'llava_next':
    saved.check_llava_next(tmp_path, mesh, want)
  elif case == 'clip':
    saved.check_clip(tmp_path, want)
  elif case.startswith('qwen2_vl'):
    options = {'head': False} if case.endswith('bare') else {'generates': True}
    saved.check_qwen2_vl(tmp_path, mesh, want, **options)
  else:
    saved.check_text_encoder(tmp_path, want)


def altered(directory, change):
  file = directory / 'model.safetensors'
  tensors = safetensors.numpy.load_file(file)
  change(tensors)
  safetensors.numpy.save_file(tensors, file, {'format': 'pt'})


def test_the_embedding_of_a_tied_model_is_its_head_for_transformers_too(
    make, mesh, tmp_path):
  """A file that holds one of the two, whichever."""
  _, want = make.make('qwen2_vl_tied', tmp_path)
  altered(tmp_path, lambda tensors: tensors.update(
      {'lm_head.weight': tensors.pop('model.embed_tokens.weight')}))
  import transformers
  # Of ours 4.47.1 and 5.24 take one for the other; 4.57.6 warns that it starts
  # the embedding at random.
  assert head_is_embedding(reopened(tmp_path)) == (
      not transformers.__version__.startswith('4.57'))
  saved.check_qwen2_vl(tmp_path, mesh, want, generates=True)


def test_a_tied_head_that_differs_is_used_by_some_transformers(
    make, mesh, tmp_path):
  """Version 5 does not tie it, 4 does: we refuse to choose."""
  make.make('qwen2_vl_tied', tmp_path)
  def change(tensors):
    tensors['lm_head.weight'] = 2 * tensors['model.embed_tokens.weight']
  altered(tmp_path, change)
  import transformers
  assert head_is_embedding(reopened(tmp_path)) == (
      transformers.__version__.startswith('4.'))
  with pytest.raises(ValueError, match='versions of transformers differ'):
    saved.qwen2_vl_outputs(tmp_path, mesh, generates=True)


def reopened(directory):
  import transformers
  return transformers.Qwen2VLForConditionalGeneration.from_pretrained(directory)


def head_is_embedding(model):
  return np.array_equal(model.lm_head.weight.detach(),
                        model.get_input_embeddings().weight.detach())


def test_one_file_comes_before_the_index_for_transformers_too(make, tmp_path):
  make.make('bert', tmp_path)
  import transformers
  want = transformers.BertModel.from_pretrained(tmp_path)
  shutil.copy(tmp_path / 'model.safetensors', tmp_path / 'other.safetensors')
  tensors = safetensors.numpy.load_file(tmp_path / 'other.safetensors')
  safetensors.numpy.save_file(
      {key: tensor + 1 for key, tensor in tensors.items()},
      tmp_path / 'other.safetensors', {'format': 'pt'})
  (tmp_path / 'model.safetensors.index.json').write_text(json.dumps(
      {'weight_map': dict.fromkeys(tensors, 'other.safetensors')}))
  found = transformers.BertModel.from_pretrained(tmp_path)
  for one, other in zip(want.parameters(), found.parameters()):
    np.testing.assert_array_equal(one.detach(), other.detach())
