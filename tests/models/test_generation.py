"""Greedy generation against whole passes, transformers, and eight devices."""
import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import sharding
from jaxret.data import types
from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.data.qwen2_vl import pixels as qwen2_vl
from jaxret.data.qwen2_vl import reader as inputs
from jaxret.models import decoder, generation, lora
from jaxret.models.qwen2_vl import files, vision
from jaxret.models.qwen2_vl import model as model_lib
from jaxret.models.videochat import model as vlm

SPECIAL = {'image': 1, 'video': 2, 'vision_start': 3, 'vision_end': 4}
NEW_TOKENS = 6
TEXT = decoder.DecoderConfig(
    64, 16, 32, 2, 4, 2, 8, tie_embeddings=True, rope_sections=(1, 1, 2))


def qwen2_vl_config():
  tower = vision.VisionConfig(16, width=16, layers=1, heads=2, mlp_width=32)
  return model_lib.Qwen2VlConfig(TEXT, tower, 'mrope')


def spread(params, seed=0):
  """The same shapes with larger values, so that answers are not all alike."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(0.3) * (
      rng.normal(size=leaf.shape).astype(np.float32)), params)


def shown(seed, kind, frames, height, width, words):
  """inputs.Inputs of one medium of noise, some words around it."""
  rng = np.random.default_rng(seed)
  patches, grid = qwen2_vl.patchify(
      rng.integers(0, 256, (frames, height, width, 3), np.uint8))
  tokens = [*rng.integers(5, 64, words), SPECIAL['vision_start'],
            *[SPECIAL[kind]] * visual_tokens.n_tokens(grid),
            SPECIAL['vision_end'], *rng.integers(5, 64, 3)]
  return inputs.Inputs(f'item {seed}', np.array(tokens, np.int32), (kind,),
                       (grid,), (patches,))


def mixture():
  """Prompts of unlike lengths, padded to one shape; eight of them."""
  sizes = (('image', 1, 56, 56), ('video', 4, 56, 56), ('image', 1, 28, 56))
  items = [shown(i, *sizes[i % 3], words=2 + i % 4) for i in range(8)]
  shape = inputs.common_shape(
      {inputs.shape_of(len(one.tokens), one.grids) for one in items})
  return items, inputs.pad(items, shape, SPECIAL, mrope=True)


@pytest.fixture(scope='module')
def model():
  """(module, params, items, batch, what greedy writes without an end)."""
  config = qwen2_vl_config()
  params = spread(jax.jit(functools.partial(model_lib.init, config))(
      jax.random.key(0)))
  items, batch = mixture()
  written = generation.greedy(config.module(), NEW_TOKENS, (), params, batch)
  return config.module(), params, items, batch, jax.device_get(written)


def whole_passes(module, params, batch):
  """(function (arrays, masked) -> logits of the next token, arrays).

  The arrays of `batch` have room for what is written; masked: without the keys
  of what is seen.
  """
  room = batch['tokens'].shape[1] + NEW_TOKENS

  @functools.partial(jax.jit, static_argnums=1)
  def logits(arrays, masked=False):
    visual = module.apply(params, arrays['patches'], arrays['segments'],
                          arrays['coordinates'], method='visual_tokens')
    x = module.apply(params, arrays['tokens'], visual, arrays['visual_index'],
                     method='embed')
    inside = decoder.length_mask(arrays['length'], room)
    keys = inside & (arrays['visual_index'] < 0) if masked else inside
    hidden = module.apply(params, x, keys, arrays['positions'],
                          method='hidden')
    return model_lib.last(hidden, inside) @ (
        params['params']['decoder']['embed']['embedding'].T)

  whole = {name: array.copy() for name, array in batch.items()}
  for name, filler in (('tokens', 0), ('visual_index', -1), ('positions', 0)):
    pad = [(0, 0)] * (whole[name].ndim - 1) + [(0, NEW_TOKENS)]
    whole[name] = np.pad(whole[name], pad, constant_values=filler)
  return logits, whole


def append(whole, tokens, n_rows):
  """One more token behind each prompt."""
  for row in range(n_rows):
    end = whole['length'][row]
    whole['tokens'][row, end] = tokens[row]
    whole['positions'][row, :, end] = whole['positions'][row, :, end - 1] + 1
  whole['length'] += 1


def test_tokens_equal_those_of_whole_passes(model):
  """Without a cache: the prompt and all that was written, read anew."""
  module, params, items, batch, written = model
  logits, whole = whole_passes(module, params, batch)
  for step in range(NEW_TOKENS):
    wanted = np.argmax(logits(whole), 1)
    np.testing.assert_array_equal(written.tokens[:, step], wanted)
    append(whole, wanted, len(items))
  assert len(np.unique(written.tokens)) > 4
  assert written.count.tolist() == [NEW_TOKENS] * 8
  assert not written.ended.any()


def blind_of(batch):
  """The same prompts without what is seen; the rest keeps its positions."""
  rows = [np.flatnonzero(index[:n] < 0) for index, n in zip(
      batch['visual_index'], batch['length'])]
  size = max(map(len, rows))
  def laid_out(array):  # [..., T] of one row each
    return np.stack([np.pad(
        row[..., keep], [(0, 0)] * (row.ndim - 1) + [(0, size - len(keep))])
        for row, keep in zip(array, rows)])
  return {'tokens': laid_out(batch['tokens']),
          'positions': laid_out(batch['positions']),
          'length': np.array([len(keep) for keep in rows], np.int32)}


def log_softmax(logits):
  logits = np.asarray(logits, np.float64)
  return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize('alpha, plausibility', [(0.7, 0.5), (1.0, 1e-9)])
def test_contrastive_tokens_equal_those_of_whole_passes(
    model, alpha, plausibility):
  """Two full passes for each token, of which one masks the media's keys."""
  module, params, items, batch, greedy = model
  written = jax.device_get(generation.contrastive(
      module, NEW_TOKENS, (), params, batch, blind_of(batch),
      generation.Weights(alpha, plausibility)))
  logits, whole = whole_passes(module, params, batch)
  cut = 0
  for step in range(NEW_TOKENS):
    seen, blind = (log_softmax(logits(whole, masked))
                   for masked in (False, True))
    scores = seen - alpha * blind
    unlikely = seen < np.log(plausibility) + seen.max(1, keepdims=True)
    cut += (scores.argmax(1) != np.where(
        unlikely, -np.inf, scores).argmax(1)).sum()
    scores[unlikely] = -np.inf
    wanted = scores.argmax(1)
    np.testing.assert_array_equal(written.tokens[:, step], wanted)
    append(whole, wanted, len(items))
  assert (written.tokens != greedy.tokens).any()
  assert plausibility < 1e-3 or cut  # the cut decides somewhere


def test_contrastive_without_a_prior_is_greedy(model):
  """Token for token, and so it is where nothing else is plausible."""
  module, params, _, batch, greedy = model
  ends = int(greedy.tokens[0, 2]), 0
  blind = blind_of(batch)
  plain = generation.greedy(module, NEW_TOKENS, ends, params, batch)
  for weights in ((0.0, 0.1), (0.9, 1.0)):
    written = generation.contrastive(
        module, NEW_TOKENS, ends, params, batch, blind,
        generation.Weights(*weights))
    jax.tree.map(np.testing.assert_array_equal, written, plain)


def test_eight_devices_write_the_same_against_a_prior(model):
  module, params, _, batch, _ = model
  arguments = module, NEW_TOKENS, ()
  weights = generation.Weights(0.7, 0.05)
  one = generation.contrastive(
      *arguments, params, batch, blind_of(batch), weights)
  mesh = sharding.make_mesh({'data': 4, 'tensor': 2})
  placed = jax.device_put(params, sharding.shardings(mesh, params))
  with jax.set_mesh(mesh):
    many = sharding.to_host(generation.contrastive(
        *arguments, placed, *(sharding.global_batch(mesh, b) for b in (
            batch, blind_of(batch))), weights))
  np.testing.assert_array_equal(many.tokens, one.tokens)


def test_rows_end_at_their_first_end_token(model):
  module, params, _, batch, free = model
  end = int(free.tokens[0, 2])
  written = jax.device_get(generation.greedy(
      module, NEW_TOKENS, (end, 0), params, batch))
  for row in range(8):
    places = np.flatnonzero(np.isin(free.tokens[row], (end, 0)))
    count = places[0] + 1 if len(places) else NEW_TOKENS
    assert written.count[row] == count
    assert written.ended[row] == bool(len(places))
    np.testing.assert_array_equal(
        written.tokens[row, :count], free.tokens[row, :count])
    assert (written.tokens[row, count:] == end).all()
  assert written.ended.any()


def test_eight_devices_write_what_one_does(model):
  module, params, _, batch, one = model
  mesh = sharding.make_mesh({'data': 4, 'tensor': 2})
  placed = jax.device_put(params, sharding.shardings(mesh, params))
  with jax.set_mesh(mesh):
    many = sharding.to_host(generation.greedy(
        module, NEW_TOKENS, (), placed, sharding.global_batch(mesh, batch)))
  np.testing.assert_array_equal(many.tokens, one.tokens)


def test_videochat_flash_continues_its_prompt():
  """Against whole passes; rows of two lengths."""
  module = vlm.Vlm(TEXT, 6)
  rng = np.random.default_rng(0)
  features = rng.normal(size=(2, 2, 3, 6)).astype(np.float32)
  tokens = rng.integers(5, 64, (2, 12)).astype(np.int32)
  tokens[:, 2:8] = types.VISUAL
  lengths = np.array([12, 10], np.int32)
  params = spread(jax.jit(module.init)(jax.random.key(0), features, tokens))
  batch = {'tokens': tokens, 'length': lengths, 'features': features}
  written = jax.device_get(generation.greedy(module, 4, (), params, batch))

  @jax.jit
  def logits(tokens, lengths):
    x = module.apply(params, tokens, module.apply(
        params, features, method='visual_tokens'), method='embed')
    hidden = module.apply(params, x, lengths, method='hidden')
    hidden = jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], 1)[:, 0]
    return hidden @ params['params']['decoder']['embed']['embedding'].T

  tokens = np.pad(tokens, ((0, 0), (0, 4)))
  for step in range(4):
    wanted = np.argmax(logits(tokens, lengths), 1)
    np.testing.assert_array_equal(written.tokens[:, step], wanted)
    tokens[np.arange(2), lengths] = wanted
    lengths = lengths + 1


@pytest.mark.slow
@pytest.mark.parametrize('tied', [True, False])
def test_both_layouts_write_the_same(tied):
  """That of CPU and that of accelerators, with LoRA and both output heads."""
  module = vlm.Vlm(dataclasses.replace(TEXT, tie_embeddings=tied), 6)
  rng = np.random.default_rng(0)
  features = rng.normal(size=(4, 2, 3, 6)).astype(np.float32)
  tokens = rng.integers(5, 64, (4, 12)).astype(np.int32)
  tokens[:, 2:8] = types.VISUAL
  params = spread(jax.jit(module.init)(jax.random.key(0), features, tokens))
  params['lora'] = spread(lora.init(
      jax.random.key(1), params['params'], (
          'decoder/layers/(attention/[qkvo]|mlp/(gate|up|down))',
          *(() if tied else ('decoder/lm_head',))), 2), 1)
  batch = {'tokens': tokens, 'features': features,
           'length': np.array([12, 10, 11, 12], np.int32)}

  @functools.partial(jax.jit, static_argnums=0)
  def written(by_layer, params):
    return generation.continued(
        module, NEW_TOKENS, (), params,
        *module.apply(params, batch, method='start'), by_layer).tokens

  on_cpu = written(True, params)
  np.testing.assert_array_equal(on_cpu, written(False, params))
  assert len(np.unique(on_cpu)) > 4
  plain = written(True, {'params': params['params']})
  assert (on_cpu != plain).any()


def test_tokens_equal_those_of_transformers(tmp_path):
  """Of a tiny random checkpoint as transformers saves it, one row at a time."""
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  torch.manual_seed(0)
  config = transformers.Qwen2VLConfig(
      text_config={
          'vocab_size': 64, 'hidden_size': 16, 'intermediate_size': 32,
          'num_hidden_layers': 2, 'num_attention_heads': 4,
          'num_key_value_heads': 2, 'initializer_range': 0.5,
          'rope_theta': 1e4, 'max_position_embeddings': 512,
          'rope_scaling': {'type': 'mrope', 'mrope_section': [1, 0, 1]}},
      vision_config={
          'embed_dim': 16, 'hidden_size': 16, 'depth': 1, 'num_heads': 2,
          'mlp_ratio': 2, 'initializer_range': 0.5},
      **{f'{kind}_token_id': token for kind, token in SPECIAL.items()})
  theirs = transformers.Qwen2VLForConditionalGeneration(config).eval()
  theirs.generation_config.eos_token_id = None
  theirs.save_pretrained(tmp_path)
  (tmp_path / 'config.json').write_text(json.dumps(config.to_dict()))
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  ours = files.read_config(tmp_path, 'mrope').config
  params = files.load(tmp_path, ours, mesh)
  items, batch = mixture()
  written = jax.device_get(generation.greedy(
      ours.module(), NEW_TOKENS, (), params, batch))
  for row, one in enumerate(items):
    kind, ids = one.kinds[0], torch.from_numpy(one.tokens[None]).long()
    pixels = torch.from_numpy(np.array(vision.pixel_values(one.patches[0])))
    names = {'image': ('pixel_values', 'image_grid_thw'),
             'video': ('pixel_values_videos', 'video_grid_thw')}[kind]
    with torch.inference_mode():
      out = theirs.generate(
          input_ids=ids, attention_mask=torch.ones_like(ids),
          mm_token_type_ids=((ids == SPECIAL['image']).int()
                             + 2 * (ids == SPECIAL['video']).int()),
          do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=0,
          **dict(zip(names, (pixels, torch.tensor([one.grids[0]])))))
    np.testing.assert_array_equal(
        written.tokens[row], out[0, ids.shape[1]:].numpy(), err_msg=one.id)
