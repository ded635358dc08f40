"""The golden files of CLIP and SigLIP 2 in the form that our code takes.

Every size comes from the configs, the tables or the arrays themselves.
"""
import dataclasses
import functools
import json
import pathlib
import shutil
import tempfile
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxret import embedder, loading, sharding
from jaxret.models import encoder_names, pretrained

EMBEDDING, HIDDEN, LOGITS = 2e-6, 1e-4, 5e-5
PIXELS = 1e-5


class Case(NamedTuple):
  """One golden case: what cases.json says, its arrays, the opened model."""
  said: dict[str, Any]
  arrays: dict[str, np.ndarray]
  model: embedder.Embedder

  @property
  def config(self):
    return self.model.config

  @property
  def params(self):
    return self.model.params['params']

  @property
  def images(self):
    return [{'image': self.arrays[key]} for key in self.said['image_keys']]

  @property
  def other_pixels(self):
    """How far torchvision's resize lies from PIL's: a grey level."""
    return PIXELS + self.said['checks']['pixel_values_torchvision_maxdiff']


@functools.cache
def cases(folder):
  """{name: Case} of all of a system."""
  found = {}
  for name, said in json.loads(
      (folder / 'cases.json').read_text())['cases'].items():
    with np.load(folder / said['file']) as arrays:
      found[name] = Case(said, dict(arrays), _opened(folder, said))
  return found


def _opened(folder, said):
  """The model on one device, with the tokenizer that the case names."""
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  tokenizer = folder / said.get('tokenizer', f'{said["model"]}/tokenizer.json')
  with tempfile.TemporaryDirectory() as directory:
    shutil.copytree(folder / said['model'], directory, dirs_exist_ok=True)
    for name in ('tokenizer.json', 'tokenizer_config.json'):
      shutil.copyfile(tokenizer.parent / name, pathlib.Path(directory, name))
    return loading.load(directory, trim_text=True, mesh=mesh)


def logit_terms(folder, said):
  """What makes logits of similarities, float32 each: scale and bias or 0."""
  checkpoint = pretrained.open_checkpoint(folder / said['model'])
  terms = {key: checkpoint.tensors[key] for key in ('logit_scale', 'logit_bias')
           if key in checkpoint.tensors}
  table = (encoder_names.SIGLIP if 'logit_bias' in terms
           else encoder_names.CLIP)
  wanted = {key: jax.ShapeDtypeStruct(tensor.shape, np.float32)
            for key, tensor in terms.items()}
  params, missing = pretrained.load(checkpoint, table, wanted)
  assert not missing
  return (np.exp(np.asarray(params['logit_scale'])).item(),
          np.asarray(params.get('logit_bias', 0.0)).item())


def batch(model, items):
  """All items at one bucket, as the embedder pads them."""
  read = [model.reader(embedder.as_item(item, i))
          for i, item in enumerate(items)]
  shape = max(map(model.reader.bucket, read))
  return model.reader.pad(read, shape)


def shortened(config, params, n_layers):
  """A tower's config and parameters with its first layers alone."""
  part = dataclasses.replace(config, encoder=dataclasses.replace(
      config.encoder, layers=n_layers))
  return part, {**params, 'layers': jax.tree.map(
      lambda leaf: leaf[:n_layers], params['layers'])}


def norm(x, params, eps):
  """A layer norm, float64, of golden hidden states."""
  x = np.asarray(x, np.float64)
  x = x - x.mean(-1, keepdims=True)
  x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + eps)
  return x * np.asarray(params['scale']) + np.asarray(params['bias'])


def check(got, want, atol, message=''):
  np.testing.assert_allclose(
      np.asarray(got), want, rtol=0, atol=atol, err_msg=message)


def check_embeddings(case):
  """The door itself: texts and pixels in, unit vectors out."""
  encode = functools.partial(case.model.encode, show_progress=False)
  texts, seen = encode(case.said['texts']), encode(case.images)
  for vectors, name in ((texts, 'text'), (seen, 'image')):
    assert vectors.dtype == np.float32
    check(vectors, case.arrays[f'out/{name}_embeds'], EMBEDDING, name)
  return texts, seen


def check_logits(folder, case):
  texts, seen = check_embeddings(case)
  scale, bias = logit_terms(folder, case.said)
  logits = scale * (seen @ texts.T) + bias
  check(logits, case.arrays['out/logits_per_image'], LOGITS)
  if 'out/logits_per_text' in case.arrays:
    check(logits.T, case.arrays['out/logits_per_text'], LOGITS)
  return logits
