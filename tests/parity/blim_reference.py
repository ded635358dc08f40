"""The golden files of BLiM in the form that our code takes.

Every size comes from config.json, README.json or the arrays themselves.
"""
import json
import re
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load_file

from jaxret.data import types
from jaxret.models import adapter_import, decoder, names, pretrained
from jaxret.models.videochat import files as videochat
from jaxret.models.videochat import model as vlm
from jaxret.scoring.likelihood import score as likelihood
from jaxret.scoring.likelihood import tries

VISUAL = types.VISUAL
FILL = -100.0  # the value of a pair that a cascade does not score
TABLE = names.DECODER + names.BLIM_HEADS
HEADS = tuple(w for w in names.BLIM_HEADS if w.path == 'visual_head/kernel')


class Sequence(NamedTuple):
  """tokens: int32 [T]; n_prefix: index of the first token that is scored."""
  tokens: np.ndarray
  n_prefix: int


class Model(NamedTuple):
  """A VlmConfig and parameters {'params': ..., 'lora': ... if any}."""
  vlm: vlm.VlmConfig
  params: dict[str, Any]


def read(folder, name):
  with np.load(folder / name) as arrays:
    return dict(arrays)


def settings(folder):
  return json.loads((folder / 'README.json').read_text())['settings']


def vtg(prompts, caption):
  """Caption given video: prefix, caption, <|im_end|>, newline."""
  suffix = prompts.vtg_suffix(caption)
  return Sequence(np.concatenate([prompts.vtg_prefix, suffix]),
                  len(prompts.vtg_prefix))


def tvg(prompts, caption, n_clips):
  """Video given caption: prefix, one VISUAL per clip, <|im_end|>, newline."""
  prefix = prompts.tvg_prefix(caption)
  visual = np.full(n_clips, VISUAL, np.int32)
  return Sequence(np.concatenate([prefix, visual, prompts.vtg_suffix(caption)[
      -2:]]), len(prefix))


def vlm_config(folder, lora_scale=1.0):
  """Sizes from config.json; clips and their tokens from the features."""
  sizes = videochat.read_config(folder)
  features = read(folder, 'test_inputs.npz')['video_features']
  config = decoder.DecoderConfig(**sizes['decoder'], lora_scale=lora_scale)
  return vlm.VlmConfig(config, sizes['visual_width'], *features.shape[1:3])


def merged_model(folder):
  checkpoint = pretrained.open_checkpoint(folder / 'model_merged.safetensors')
  params, missing = pretrained.load(checkpoint, TABLE)
  assert not missing
  return Model(vlm_config(folder), {'params': params})


def lora_model(folder):
  """The base weights of the PEFT state dict, its adapter beside them."""
  tensors = load_file(folder / 'model_peft.safetensors')
  plain = {adapter_import.plain_key(key): tensor
           for key, tensor in tensors.items()}
  base = {key: tensor for key, tensor in plain.items() if 'lora_' not in key}
  params, missing = pretrained.load(
      pretrained.Checkpoint('model_peft', base), TABLE)
  assert not missing
  lora = settings(folder)['lora']
  return Model(vlm_config(folder, lora['alpha'] / lora['r']),
               {'params': params,
                'lora': adapter_import.import_peft(tensors).lora})


def locate(tensors, root):
  """Where each of the authors' tensors lies in our parameters.

  root: 'lora/' if the factors are wanted, for a PEFT state dict; the visual
  head is a parameter of its own under both.
  Yields (key, path, index of the layer or (), array as ours is laid out).
  """
  for key, tensor in tensors.items():
    plain = adapter_import.plain_key(key)
    for weight in (names.LORA + HEADS if root == 'lora/' else TABLE):
      match = re.fullmatch(
          re.escape(weight.key).replace(r'\{layer\}', r'(\d+)'), plain)
      if match:
        break
    else:
      raise AssertionError(f'{key} is in no table')
    prefix = 'params/' if weight in HEADS else root
    array = tensor.T if weight.transform == 'transpose' else tensor
    yield key, prefix + weight.path, tuple(map(int, match.groups())), array


def expand(ids, n_visual):
  """The ids with every placeholder repeated n_visual times."""
  counts = np.where(ids == VISUAL, n_visual, 1)
  return np.repeat(ids, counts).astype(np.int32)


def _stripped(arrays, kind, row):
  """(ids, labels) of one row without its padding."""
  keep = arrays[f'{kind}_mask'][row].astype(bool)
  return arrays[f'{kind}_ids'][row][keep], arrays[f'{kind}_labels'][row][keep]


def _split_texts(folder, arrays):
  """(visual prefix, labels of each row, text prefix of each row)."""
  ignored = settings(folder)['ignore_index']
  n_visual = int(np.prod(arrays['video_features'].shape[1:3]))
  visual_prefixes, labels, text_prefixes = [], [], []
  for row in range(len(arrays['vtg_ids'])):
    ids, targets = _stripped(arrays, 'vtg', row)
    scored = targets != ignored
    np.testing.assert_array_equal(targets[scored], ids[scored])
    labels.append(ids[scored].astype(np.int32))
    visual_prefixes.append(expand(ids[~scored], n_visual))
    ids, _ = _stripped(arrays, 'tvg', row)
    first_clip = np.flatnonzero(ids == VISUAL)[0]
    text_prefixes.append(ids[:first_clip].astype(np.int32))
  for prefix in visual_prefixes:
    np.testing.assert_array_equal(prefix, visual_prefixes[0])
  return visual_prefixes[0], labels, text_prefixes


def prompts(folder):
  """likelihood.Prompts of the test texts."""
  prefix, labels, text_prefixes = _split_texts(
      folder, read(folder, 'test_inputs.npz'))
  return likelihood.Prompts(
      prefix, tuple(labels), tuple(text_prefixes),
      settings(folder)['tvg_prefix_length'], VISUAL)


def batch(folder, arrays, sizes=None):
  """(visual prefix, batch as blim.BlimExamples gives it).

  sizes: (labels, text prefix) to pad to; default: the longest of the batch.
  """
  prefix, labels, text_prefixes = _split_texts(folder, arrays)
  def padded(rows, size):
    lengths = np.array([len(row) for row in rows], np.int32)
    return tries.stack(rows, size or lengths.max()), lengths
  label_size, prefix_size = sizes or (None, None)
  labels, label_length = padded(labels, label_size)
  text_prefix, text_prefix_length = padded(text_prefixes, prefix_size)
  return prefix, {
      'features': arrays['video_features'],
      'video_index': arrays['vocab_index'].astype(np.int32),
      'labels': labels, 'label_length': label_length,
      'text_prefix': text_prefix, 'text_prefix_length': text_prefix_length,
      'visual_prefix_length': np.full(len(labels), len(prefix), np.int32)}
