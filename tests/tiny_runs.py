"""Whole runs through the command line, small enough for a test."""
import json
import pathlib

import jax
import numpy as np
import safetensors.numpy
from flax import traverse_util as traverse

from jaxret import main
from jaxret.data import text
from jaxret.data.shapes import render
from jaxret.data.videochat import prompts
from jaxret.models import decoder, names
from jaxret.models.videochat import model as vlm
from jaxret.models.videochat import vision

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs' / 'blim.py'
SIZES = {'train': 16, 'validation': 6, 'test': 6}

# Of the default config: one layer everywhere, 2 clips of 2 frames at 32 px.
# One length bucket per set of texts: each further one is compiled for.
TINY = {
    'model.width': 32, 'model.mlp_width': 48, 'model.layers': 1,
    'model.heads': 2, 'model.kv_heads': 1, 'model.head_width': 16,
    'model.vocab_size': 300, 'model.visual_width': 16, 'model.clips': 2,
    'model.tokens_per_clip': 2,
    'vision.clips': 2, 'vision.tokens_per_clip': 2, 'vision.n_frames': 2,
    'vision.image_px': 32, 'vision.width': 16, 'vision.layers': 1,
    'vision.heads': 2, 'vision.mlp_width': 32, 'vision.table_frames': 2,
    'vision.table_grid': 2,
    'tower.model.width': 16, 'tower.model.mlp_width': 32,
    'tower.model.layers': 1, 'tower.model.heads': 2,
    'tower.model.embedding_width': 8,
    'tower.train.batch_size': 8, 'tower.train.epochs': 1.0,
    'train.batch_size': 8, 'train.epochs': 1.0, 'eval.max_padding': 10.0,
}


def shapes_flags(root, **fields):
  """Flags for `configs/blim.py` on a rendered corpus of SIZES in `root`."""
  sizes = {f'data.sizes.{split}': size for split, size in SIZES.items()}
  return flags({'data.root': root, **sizes, **TINY, **fields})


def folder_flags(root, **fields):
  """Flags for `configs/blim.py:folder` on the folder `root`."""
  return flags({'data.root': root, **TINY, **fields})


def flags(fields):
  return [f'--config.{name}={value}' for name, value in fields.items()]


def run(variant, workdir, *flags, config=CONFIG):
  """Runs <config>[:variant] in this process; returns the exit code."""
  config = f'{config}:{variant}' if variant else config
  return main.main(
      ['jaxret', f'--config={config}', f'--workdir={workdir}', *flags])


def results(workdir):
  return json.loads((pathlib.Path(workdir) / 'results.json').read_text())


def check_differences(results, direction, pairs):
  """Each metric of each pair, as far as the rows' own numbers say."""
  found = results['differences'][direction]
  metrics = {one['metric'] for one in found}
  assert len(found) == len(metrics) * len(pairs)
  assert {(one['row'], one['baseline']) for one in found} == set(pairs)
  for one in found:
    assert one.keys() == {'row', 'baseline', 'metric', 'difference', 'ci95',
                          'p_value', 'better', 'worse'}
    row, baseline = (results[direction][one[side]][one['metric']]
                     for side in ('row', 'baseline'))
    np.testing.assert_allclose(one['difference'], row - baseline, atol=1e-9)
    low, high = one['ci95']
    assert low <= one['difference'] + 1e-9 and one['difference'] - 1e-9 <= high
    assert 0 < one['p_value'] <= 1


def video_bytes(seed, n_frames=12):
  """An mp4 file of noise."""
  frames = np.random.default_rng(seed).integers(
      0, 256, (n_frames, 32, 32, 3), np.uint8)
  return render.encode_video(frames)


# What models/videochat_flash_files.py says of the released tower.
TINY_TOWER = {'UMT_HD': {'image_px': 32, 'patch_px': 16, 'width': 16,
                         'heads': 2, 'mlp_width': 32},
              'UMT_HD_BLOCKS': 2, 'TOKENS_PER_FRAME': 1}
FEATURE_SHAPE = 4, 4, 8  # clips, tokens, width of imported features


def write_released_model(directory, captions, visual_width):
  """A tiny VideoChat-Flash checkpoint with random weights and a tokenizer.

  Its files and the names in them are as released. visual_width: that of the
  features; with TINY_TOWER's 16 they are those of the tower in it.
  """
  tokenizer = text.train_tokenizer(
      captions, 300, directory, template=prompts.TEMPLATE)
  sizes = {'vocab_size': tokenizer.vocab_size, 'width': 32, 'mlp_width': 48,
           'layers': 2, 'heads': 2, 'kv_heads': 1, 'head_width': 16}
  model = vlm.VlmConfig(
      decoder.DecoderConfig(**sizes), visual_width, *FEATURE_SHAPE[:2])
  tower = vision.VisionTower(vision.VisionConfig(
      **TINY_TOWER['UMT_HD'], n_frames=4, layers=1))
  params = {
      **jax.eval_shape(
          model.module().init, jax.random.key(0),
          np.zeros((1, *FEATURE_SHAPE[:2], visual_width), np.float32),
          np.zeros((1, 17), np.int32))['params'],
      'vision': jax.eval_shape(
          tower.init, jax.random.key(0),
          np.zeros((1, 4, 32, 32, 3), np.float32))['params']}
  random = np.random.default_rng(0)
  params = jax.tree.map(
      lambda leaf: 0.2 * random.normal(size=leaf.shape).astype(np.float32),
      params)
  safetensors.numpy.save_file(
      released_tensors(params), directory / 'model.safetensors')
  (directory / 'config.json').write_text(json.dumps({
      'vocab_size': sizes['vocab_size'], 'hidden_size': 32,
      'intermediate_size': 48, 'num_hidden_layers': 2,
      'num_attention_heads': 2, 'num_key_value_heads': 1, 'rope_theta': 1e6,
      'rms_norm_eps': 1e-6, 'tie_word_embeddings': False,
      'mm_hidden_size': visual_width, 'mm_local_num_frames': 4,
      'mm_vision_tower': 'umt-hd-tiny', 'mm_vision_select_layer': -2}))


def released_tensors(params):
  """{released name: array}, without the parts that BLiM adds."""
  flat = {path: np.asarray(leaf) for path, leaf in
          traverse.flatten_dict(params, sep='/').items()}
  tensors = {}
  for weight in names.VIDEOCHAT_FLASH:
    if weight.optional:
      continue
    stacked = '{layer}' in weight.key
    leaves = flat[weight.path] if stacked else flat[weight.path][None]
    for layer, leaf in enumerate(leaves):
      if weight.transform == 'transpose':
        leaf = leaf.T
      elif weight.transform == 'patch':
        leaf = leaf.reshape(16, 16, 3, 1, -1).transpose(4, 2, 3, 0, 1)
      tensors[weight.key.format(layer=layer)] = np.ascontiguousarray(leaf)
  return tensors
