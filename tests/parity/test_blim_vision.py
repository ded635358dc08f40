"""BLiM's visual side against the authors' code: tower, merging, weights."""
import json

import jax
import numpy as np
import PIL.Image
import pytest
from safetensors.numpy import load_file

from jaxret.models import (
  adapter_export,
  adapter_import,
  lora,
  names,
  pretrained,
)
from jaxret.models.videochat import tome, vision


@pytest.fixture(scope='module')
def settings(blim_golden):
  return json.loads((blim_golden / 'README.json').read_text())['settings']


@pytest.fixture(scope='module')
def umt(blim_golden):
  return np.load(blim_golden / 'umt.npz')


@pytest.fixture(scope='module')
def config(settings):
  sizes = settings['umt']
  return vision.VisionConfig(
      image_px=sizes['img'], patch_px=sizes['patch'],
      n_frames=sizes['num_frames'], width=sizes['dim'],
      layers=sizes['blocks_run'], heads=sizes['heads'],
      mlp_width=4 * sizes['dim'])


@pytest.fixture(scope='module')
def params(blim_golden, config):
  pixels = jax.ShapeDtypeStruct(
      (1, config.n_frames, config.image_px, config.image_px, 3), np.float32)
  abstract = jax.eval_shape(
      vision.VisionTower(config).init, jax.random.key(0), pixels)['params']
  checkpoint = pretrained.open_checkpoint(blim_golden / 'umt.safetensors')
  loaded, missing = pretrained.load(
      checkpoint, names.VISION, {'vision': abstract})
  assert not missing
  return loaded['vision']


@pytest.fixture(scope='module')
def clips(umt, config):
  """float32 [clips, n_frames, H, W, 3]."""
  pixels = umt['pixel_values'].transpose(0, 2, 3, 1)
  return pixels.reshape(-1, config.n_frames, *pixels.shape[1:])


@jax.jit
def merge_lora(params, factors, scale):
  return lora.merge(params, factors, scale)


def test_blim_pixel_values(umt, config):
  size = (config.image_px, config.image_px)
  frames = np.stack([
      PIL.Image.fromarray(frame).resize(size, PIL.Image.Resampling.BICUBIC)
      for frame in umt['raw_frames']])
  np.testing.assert_allclose(
      vision.pixel_values(frames), umt['pixel_values'].transpose(0, 2, 3, 1),
      atol=2e-6)


def test_blim_positions(umt, config):
  # Both sides round in float32; the reference also interpolates in it.
  np.testing.assert_allclose(
      vision.positions(config, config.n_frames), umt['pos_embed'][0],
      atol=2e-6)
  np.testing.assert_allclose(
      vision.positions(config, 1), umt['img_pos_embed'][0], atol=2e-6)


def test_blim_positions_of_the_released_tower(umt):
  rows = umt['real_pos_embed']
  real = vision.VisionConfig(width=rows.shape[1])
  np.testing.assert_allclose(
      vision.positions(real, real.n_frames)[umt['real_pos_rows']], rows,
      atol=1e-6)


def test_blim_patch_embedding(umt, config, params, clips):
  patches = vision.patches(clips, config.patch_px)
  np.testing.assert_allclose(
      patches @ params['patch']['kernel'] + params['patch']['bias'],
      umt['patch_embed'], atol=2e-5)


def test_blim_vision_tower(umt, config, params, clips, monkeypatch):
  def run(pixels):
    tower = vision.VisionTower(config)
    return jax.jit(lambda x: tower.apply({'params': params}, x))(pixels)
  np.testing.assert_allclose(run(clips), umt['features'], atol=2e-5)
  np.testing.assert_allclose(
      run(clips[:, :1]), umt['image_features'], atol=2e-5)
  monkeypatch.setattr(vision, 'QUERY_BLOCK', 50)
  np.testing.assert_allclose(run(clips), umt['features'], atol=2e-5)


def test_blim_stored_features(umt, config, params, clips):
  """Frames of one video in, merged tokens of all its clips out."""
  encode = jax.jit(vision.encode_clips, static_argnums=(0, 3))
  frames = clips.reshape(1, -1, *clips.shape[2:])
  want = umt['tome_features']
  got = encode(config, params, frames, want.shape[1])
  np.testing.assert_allclose(got[0], want, atol=2e-5)


@pytest.mark.slow
def test_blim_token_merging(blim_golden, settings):
  golden = np.load(blim_golden / 'tome.npz')
  merge = jax.jit(tome.merge_tokens, static_argnums=(1, 2))
  for heads in settings['tome']['heads']:
    for target in settings['tome']['targets']:
      want = golden[f'merged_h{heads}_to{target}']
      assert want.shape[1] == target
      np.testing.assert_allclose(
          merge(golden['x'], target, heads), want, atol=1e-5)


def test_blim_token_merging_steps_and_sizes(blim_golden, settings):
  golden = np.load(blim_golden / 'tome.npz')
  x = golden['x']
  size = np.ones((*x.shape[:2], 1), np.float32)
  heads = settings['tome']['heads'][0]
  for name in ('step1', 'step2'):
    merged = x.shape[1] - golden[name].shape[1]
    x, size = tome.merge_step(x, size, merged, heads)
    np.testing.assert_allclose(x, golden[name], atol=1e-5)
    np.testing.assert_array_equal(size, golden[f'{name}_size'])


def test_blim_adapter_folds_into_the_merged_weights(blim_golden, settings):
  wrapped = load_file(blim_golden / 'model_peft.safetensors')
  adapter = adapter_import.import_peft(wrapped)
  plain = {adapter_import.plain_key(key): tensor
           for key, tensor in wrapped.items() if '.lora_' not in key}
  table = names.DECODER + names.BLIM_HEADS
  base, _ = pretrained.load(pretrained.Checkpoint('peft', plain), table)
  want, missing = pretrained.load(
      pretrained.open_checkpoint(blim_golden / 'model_merged.safetensors'),
      table)
  assert not missing
  scale = settings['lora']['alpha'] / settings['lora']['r']
  jax.tree.map(
      lambda got, leaf: np.testing.assert_allclose(got, leaf, atol=1e-6),
      merge_lora(base, adapter.lora, scale), want)


def test_blim_adapter_round_trip_keeps_the_authors_names(
    blim_golden, settings, tmp_path):
  trained = load_file(blim_golden / 'trained_params.safetensors')
  scale = settings['lora']['alpha'] / settings['lora']['r']
  adapter = adapter_import.import_peft(trained)._replace(scale=scale)
  adapter_export.export_peft(adapter, tmp_path)
  exported = load_file(tmp_path / 'adapter_model.safetensors')
  assert set(exported) == {
      key.replace('.default', '') for key in trained}
  for key, tensor in trained.items():
    np.testing.assert_array_equal(
        exported[key.replace('.default', '')], tensor)
  assert adapter_import.import_peft(tmp_path).scale == scale
