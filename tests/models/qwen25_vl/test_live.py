"""Qwen2.5-VL as the installed transformers computes it; needs PyTorch.

Positions of videos are given to it: those of its versions differ from each
other and from the authors', who are followed here.
"""
import functools

import jax
import numpy as np
import pytest

import jaxret
from jaxret import loading, sharding
from jaxret.data import types
from jaxret.data.qwen2_vl import pixels, prompts
from jaxret.data.qwen25_vl import reader as reader_lib
from jaxret.models import generation
from jaxret.models.qwen25_vl import files
from tests import tiny_unite

pytestmark = pytest.mark.slow

RESOLUTION = pixels.Resolution(
    released=False, processor=(28 * 28, 30 * 28 * 28),
    read_video=(28 * 28, 12 * 28 * 28), fps=2.0, max_frames=6, min_frames=2)
# Windows of three tokens, at edges of less; sides of one token and of many.
ITEMS = [{'text': 'red square moves left'},
         {'text': 'blue circle', 'image': tiny_unite.pixels(0, 120, 190)},
         {'image': [tiny_unite.pixels(2, 28, 300), tiny_unite.pixels(3)]},
         {'video': tiny_unite.pixels(1, 90, 120, frames=6)},
         {'text': 'up', 'image': tiny_unite.pixels(4, 200, 60),
          'video': tiny_unite.pixels(5, frames=3)}]


@pytest.fixture(scope='module')
def theirs(tmp_path_factory):
  """(transformers' model with random weights, the directory it lies in)."""
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  tokenizer = tiny_unite.tokenizer()
  ids = {name: tokenizer.encode(f'<|{token}|>')[0] for name, token in (
      ('image_token_id', 'image_pad'), ('video_token_id', 'video_pad'),
      ('vision_start_token_id', 'vision_start'),
      ('vision_end_token_id', 'vision_end'))}
  torch.manual_seed(0)
  model = transformers.Qwen2_5_VLForConditionalGeneration(
      transformers.Qwen2_5_VLConfig(
          text_config={
              'vocab_size': 400, 'hidden_size': 32, 'intermediate_size': 48,
              'num_hidden_layers': 2, 'num_attention_heads': 4,
              'num_key_value_heads': 2, 'rope_parameters': {
                  'rope_theta': 1e4, 'mrope_section': [1, 1, 2],
                  'rope_type': 'default'},
              'bos_token_id': None, 'eos_token_id': None},
          vision_config={
              'depth': 3, 'hidden_size': 16, 'num_heads': 2, 'window_size': 84,
              'out_hidden_size': 32, 'intermediate_size': 24,
              'fullatt_block_indexes': [1], 'tokens_per_second': 2},
          **ids)).eval()
  with torch.no_grad():
    for weight in model.parameters():
      weight += (0.3 if weight.ndim > 1 else 0.1) * torch.randn_like(weight)
  directory = tmp_path_factory.mktemp('theirs')
  model.save_pretrained(directory)
  return model, directory


@pytest.fixture(params=['mrope', 'sequential'])
def embedder(request, theirs, monkeypatch):
  monkeypatch.setattr(loading.text, 'load_tokenizer',
                      lambda path: tiny_unite.tokenizer())
  return jaxret.load(
      theirs[1], request.param, resolution=RESOLUTION, mesh=one_device())


def one_device():
  return sharding.make_mesh(devices=jax.devices()[:1])


def batch_of(model, inputs, special):
  """transformers' inputs of one item."""
  from jaxret.bench import torch_qwen2_vl
  host = torch_qwen2_vl.Model.__new__(torch_qwen2_vl.Model)
  host.qwen2_vl, host.special = model.model, special
  return host.batch([inputs])


def padded(embedder, inputs):
  return embedder.reader.pad([inputs], embedder.reader.bucket(inputs))


def test_embeddings(theirs, embedder):
  import torch
  model, _ = theirs
  got, want = embedder.encode(ITEMS, show_progress=False), []
  for number, item in enumerate(ITEMS):
    inputs = embedder.reader(jaxret.embedder.as_item(item, number))
    length = len(inputs.tokens)
    positions = np.broadcast_to(np.arange(length), (3, 1, length))
    if embedder.config.position_mode == 'mrope':
      positions = np.moveaxis(
          padded(embedder, inputs)['positions'][:, :, :length], 0, 1)
    with torch.no_grad():
      hidden = model.model(
          **batch_of(model, inputs, embedder.reader.special), use_cache=False,
          position_ids=torch.from_numpy(np.array(positions)).long(),
          ).last_hidden_state[0, -1]
    want.append(torch.nn.functional.normalize(hidden, dim=-1).numpy())
  np.testing.assert_allclose(got, np.stack(want), atol=5e-6)


def test_what_is_written_about_images(theirs):
  """Greedily; of images all versions have the same positions."""
  import torch
  model, directory = theirs
  config, _ = files.read_config(directory, 'mrope')
  params = files.load(directory, config, one_device(), generates=True)
  reader = reader_lib.open_reader(
      config, tiny_unite.tokenizer(), resolution=RESOLUTION)
  write = functools.partial(
      generation.greedy, config.module(), 6, ())
  for seed, size in enumerate(((90, 200), (28, 84), (170, 120))):
    item = types.Item('x', image=tiny_unite.pixels(seed, *size))
    inputs = reader(item)
    prompt = prompts.chat(prompts.seen('image') + 'red or blue')
    inputs = inputs._replace(
        tokens=reader.expanded(prompt, inputs.kinds, inputs.grids))
    got = write(params, reader.pad([inputs], reader.bucket(inputs))).tokens
    batch = batch_of(model, inputs, reader.special)
    batch['mm_token_type_ids'] = (
        batch['input_ids'] == reader.special['image']).int()
    with torch.no_grad():
      want = model.generate(
          **batch, max_new_tokens=6, min_new_tokens=6, do_sample=False)
    np.testing.assert_array_equal(got[0], want[0, len(inputs.tokens):])
