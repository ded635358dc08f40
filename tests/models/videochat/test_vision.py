"""The video tower: positions, patches, attention, sizes."""
import dataclasses
import functools
import math

import flax.traverse_util as traverse
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret.models.videochat import vision

TINY = vision.VisionConfig(
    image_px=12, patch_px=4, n_frames=2, width=16, layers=3, heads=2,
    mlp_width=24, table_grid=4)


@pytest.fixture(scope='module')
def tiny_params():
  """Random values everywhere: zero biases would hide a missing one."""
  shapes = jax.eval_shape(
      vision.VisionTower(TINY).init, jax.random.key(0),
      jax.ShapeDtypeStruct((1, 2, 12, 12, 3), jnp.float32))['params']
  rng = np.random.default_rng(1)
  return jax.tree.map(
      lambda leaf: rng.normal(0.2, 0.2, leaf.shape).astype(np.float32), shapes)


@pytest.fixture(scope='module')
def tiny_pixels():
  rng = np.random.default_rng(2)
  return rng.normal(size=(2, 2, 12, 12, 3)).astype(np.float32)


encode_clips = jax.jit(vision.encode_clips, static_argnums=(0, 3))


@functools.partial(jax.jit, static_argnums=0)
def run(config, params, pixels):
  return vision.VisionTower(config).apply({'params': params}, pixels)


@pytest.mark.parametrize('n_in, n_out', [(14, 28), (14, 6), (14, 4), (5, 7)])
def test_resize_matrices_equal_pytorch(n_in, n_out):
  torch = pytest.importorskip('torch')
  x = np.random.default_rng(0).normal(size=(1, 2, n_in, n_in))
  interpolate = torch.nn.functional.interpolate
  want = interpolate(torch.tensor(x), size=(n_out, n_out), mode='bicubic',
                     align_corners=False)
  matrix = vision.bicubic_matrix(n_in, n_out)
  np.testing.assert_allclose(matrix @ x @ matrix.T, want, atol=1e-6)
  want = interpolate(torch.tensor(x[0]), size=n_out, mode='linear')
  np.testing.assert_allclose(
      x[0] @ vision.linear_matrix(n_in, n_out).T, want, atol=1e-6)


def test_bicubic_weights_by_hand():
  matrix = vision.bicubic_matrix(8, 16)
  # Output 5 lies at 2.25: taps 1, 2, 3, 4 at distances 1.25, .25, .75, 1.75.
  want = [-0.10546875, 0.87890625, 0.26171875, -0.03515625]
  np.testing.assert_allclose(matrix[5, 1:5], want)
  np.testing.assert_allclose(matrix.sum(-1), 1)
  np.testing.assert_allclose(vision.bicubic_matrix(9, 9), np.eye(9))


def test_positions_without_resize_are_the_sinusoids():
  config = dataclasses.replace(TINY, image_px=16, table_frames=2)
  table = vision.positions(config, 2)
  for row in range(2 * 4 * 4):
    for column in range(16):
      angle = row / 10000 ** (2 * (column // 2) / 16)
      want = math.cos(angle) if column % 2 else math.sin(angle)
      assert table[row, column] == pytest.approx(want, abs=1e-6)
  np.testing.assert_array_equal(vision.positions(config, 1), table[:16])


def test_patch_embedding_is_the_convolution(tiny_pixels):
  kernel = np.random.default_rng(0).normal(size=(5, 3, 1, 4, 4))
  conv = jax.lax.conv_general_dilated(
      jnp.moveaxis(tiny_pixels, -1, 1), jnp.asarray(kernel, jnp.float32),
      (1, 4, 4), 'VALID')
  ours = vision.patches(tiny_pixels, 4) @ kernel.transpose(
      2, 3, 4, 1, 0).reshape(-1, 5)
  np.testing.assert_allclose(
      ours, conv.reshape(2, 5, -1).swapaxes(1, 2), atol=1e-4)


def test_pixel_values_by_hand():
  frames = np.array([[[0, 128, 255]]], np.uint8)
  want = [(0 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224,
          (1 - 0.406) / 0.225]
  got = vision.pixel_values(frames)
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got[0, 0], want, rtol=1e-6)


def test_tower_equals_numpy(tiny_params, tiny_pixels):
  """Block by block, head by head, in float64."""
  p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tiny_params)
  norm = lambda x, at, eps: (  # noqa: E731
      (x - x.mean(-1, keepdims=True)) / np.sqrt(
          x.var(-1, keepdims=True) + eps) * at['scale'] + at['bias'])
  gelu = np.vectorize(lambda x: x * (1 + math.erf(x / 2 ** 0.5)) / 2)
  x = np.asarray(vision.patches(tiny_pixels, 4), np.float64)
  x = x @ p['patch']['kernel'] + p['patch']['bias']
  x = x + vision.positions(TINY, 2)
  for layer in range(3):
    block = jax.tree.map(lambda leaf, i=layer: leaf[i], p['blocks'])
    attention, mlp = block['attention'], block['mlp']
    qkv = norm(x, block['attention_norm'], 1e-6) @ attention['qkv']['kernel']
    q, k, v = np.split(qkv, 3, -1)
    q, v = q + attention['q_bias'], v + attention['v_bias']
    out = np.zeros_like(q)
    for head in (slice(0, 8), slice(8, 16)):
      score = np.exp(q[..., head] @ k[..., head].swapaxes(1, 2) / 8 ** 0.5)
      out[..., head] = score / score.sum(-1, keepdims=True) @ v[..., head]
    x = x + out @ attention['out']['kernel'] + attention['out']['bias']
    y = norm(x, block['mlp_norm'], 1e-6) @ mlp['in']['kernel']
    x = x + gelu(y + mlp['in']['bias']) @ mlp['out']['kernel'] + (
        mlp['out']['bias'])
  want = norm(x, p['final_norm'], 1e-12)
  np.testing.assert_allclose(
      run(TINY, tiny_params, tiny_pixels), want, atol=2e-5)


def test_query_blocks_change_no_value_and_no_gradient():
  rng = np.random.default_rng(4)
  qkv = rng.normal(size=(3, 2, 18, 2, 4)).astype(np.float32)
  def total(qkv, block):
    return (vision.blockwise_attend(*qkv, block) ** 3).sum()
  grad = jax.jit(jax.value_and_grad(total), static_argnums=1)
  for got, want in zip(grad(qkv, 7), grad(qkv, 18)):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_attention_over_a_full_clip_never_holds_all_scores():
  x = jax.ShapeDtypeStruct((1, 3136, 16, 64), jnp.float32)
  compiled = jax.jit(vision.blockwise_attend, static_argnums=3).lower(
      x, x, x, 512).compile()
  all_scores = 16 * 3136 * 3136 * 4
  assert compiled.memory_analysis().temp_size_in_bytes < all_scores / 2


def test_full_size_tower_has_the_released_parameters():
  config = vision.VisionConfig(dtype='bfloat16', param_dtype='bfloat16')
  params = jax.eval_shape(
      vision.VisionTower(config).init, jax.random.key(0),
      jax.ShapeDtypeStruct((1, 4, 448, 448, 3), jnp.float32))['params']
  flat = traverse.flatten_dict(params, sep='/')
  assert flat['patch/kernel'].shape == (768, 1024)
  assert flat['blocks/mlp/in/kernel'].shape == (23, 1024, 4096)
  block = (3 * 1024 ** 2 + 2 * 1024) + (1024 ** 2 + 1024) + (
      2 * 4 * 1024 ** 2 + 4096 + 1024) + 2 * 2 * 1024
  want = 769 * 1024 + 23 * block + 2 * 1024
  assert sum(math.prod(leaf.shape) for leaf in flat.values()) == want
  assert want == 290_479_104
  features = jax.eval_shape(
      lambda p, frames: vision.encode_clips(config, p, frames, 64), params,
      jax.ShapeDtypeStruct((2, 16, 448, 448, 3), jnp.uint8))
  assert features.shape == (2, 4, 64, 1024)
  assert features.dtype == jnp.bfloat16


def test_clips_are_encoded_one_by_one(tiny_params):
  frames = np.random.default_rng(3).integers(
      0, 256, (2, 6, 12, 12, 3), np.uint8)
  features = encode_clips(TINY, tiny_params, frames, 5)
  assert features.shape == (2, 3, 5, 16)
  # The clips of both videos in another order: video 0's last comes first.
  order = np.array([2, 4, 4, 0, 1, 5])
  clips = frames.reshape(6, 2, 12, 12, 3)[order]
  moved = encode_clips(TINY, tiny_params, clips.reshape(frames.shape), 5)
  np.testing.assert_allclose(
      moved.reshape(6, 5, 16), features.reshape(6, 5, 16)[order],
      atol=1e-5)


def test_an_image_has_positions_of_its_own(tiny_params):
  frame = np.full((1, 1, 12, 12, 3), 90, np.uint8)
  image = encode_clips(TINY, tiny_params, frame, 9)
  assert image.shape == (1, 1, 9, 16)
  pixels = vision.pixel_values(frame)
  tokens = run(TINY, tiny_params, pixels)
  np.testing.assert_allclose(image[0], tokens, atol=1e-5)


def test_bad_sizes_are_answered_in_one_line(tiny_params):
  with pytest.raises(ValueError, match='5 frames do not make clips of 2'):
    vision.encode_clips(
        TINY, tiny_params, np.zeros((1, 5, 12, 12, 3), np.uint8), 5)
  with pytest.raises(ValueError, match='resize the frames or set image_px'):
    run(TINY, tiny_params, jnp.zeros((1, 2, 16, 16, 3)))
  with pytest.raises(ValueError, match='image_px 30 is no multiple of 16'):
    vision.VisionConfig(image_px=30)
  with pytest.raises(ValueError, match="want one of 'xla', 'cudnn'"):
    vision.VisionConfig(attention='flash')
