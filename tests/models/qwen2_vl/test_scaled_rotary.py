"""Qwen2-VL with scaled rotary positions, saved by transformers: its numbers."""
import jax
import numpy as np
import pytest

import jaxret
from jaxret import loading, sharding
from jaxret.data import types
from jaxret.data.qwen2_vl import pixels
from tests import tiny_unite

ROPES = {
    'yarn': {'rope_type': 'yarn', 'factor': 4.0,
             'original_max_position_embeddings': 64},
    'linear': {'rope_type': 'linear', 'factor': 3.0},
    'dynamic': {'rope_type': 'dynamic', 'factor': 3.0},
    'longrope': {'rope_type': 'longrope', 'factor': 2.0,
                 'short_factor': [1.0, 1.5, 2.0, 4.0],
                 'long_factor': [3.0, 4.0, 5.0, 6.0]},
    'llama3': {'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0,
               'high_freq_factor': 4.0,
               'original_max_position_embeddings': 32}}
ITEMS = [{'text': 'red square moves left'},
         {'text': 'blue circle', 'image': tiny_unite.pixels(0)},
         {'video': tiny_unite.pixels(1, frames=4)}]


def saved(directory, rope):
  """transformers' model, with random weights, and its directory's reader."""
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  tokenizer = tiny_unite.tokenizer()
  ids = {name: tokenizer.encode(f'<|{token}|>')[0] for name, token in (
      ('image_token_id', 'image_pad'), ('video_token_id', 'video_pad'),
      ('vision_start_token_id', 'vision_start'),
      ('vision_end_token_id', 'vision_end'))}
  torch.manual_seed(0)
  model = transformers.Qwen2VLForConditionalGeneration(
      transformers.Qwen2VLConfig(
          text_config={
              'vocab_size': 400, 'hidden_size': 32, 'intermediate_size': 48,
              'num_hidden_layers': 2, 'num_attention_heads': 4,
              'num_key_value_heads': 2, 'max_position_embeddings': 2048,
              'rope_parameters': {'rope_theta': 1e4,
                                  'mrope_section': [1, 1, 2], **rope},
              'bos_token_id': None, 'eos_token_id': None},
          vision_config={'depth': 1, 'embed_dim': 16, 'num_heads': 2,
                         'hidden_size': 32, 'mlp_ratio': 2}, **ids)).eval()
  with torch.no_grad():
    for weight in model.parameters():
      weight += (0.3 if weight.ndim > 1 else 0.1) * torch.randn_like(weight)
  model.save_pretrained(directory)
  return model


def theirs(model, embedder, item):
  """UNITE's embedding of one item by transformers, with positions as given."""
  import torch

  from jaxret.bench import torch_qwen2_vl
  host = torch_qwen2_vl.Model.__new__(torch_qwen2_vl.Model)
  host.qwen2_vl = model.model
  inputs = embedder.reader(types.Item('x', **item))
  batch = host.batch([inputs])
  if embedder.config.position_mode == 'sequential':
    return host.embed(batch).detach().numpy()[0]
  padded = embedder.reader.pad([inputs], embedder.reader.bucket(inputs))
  positions = padded['positions'][:, :, :len(inputs.tokens)]
  hidden = model.model(
      **batch, use_cache=False, position_ids=torch.from_numpy(
          np.moveaxis(positions, 0, 1)).long()).last_hidden_state[0, -1]
  return torch.nn.functional.normalize(hidden, dim=-1).detach().numpy()


def check(directory, monkeypatch, rope, position_mode):
  model = saved(directory, rope)
  monkeypatch.setattr(loading.text, 'load_tokenizer',
                      lambda path: tiny_unite.tokenizer())
  embedder = jaxret.load(
      directory, position_mode, mesh=sharding.make_mesh(
          devices=jax.devices()[:1]),
      resolution=pixels.resolution(tiny_unite.make_config().media))
  got = embedder.encode(ITEMS, show_progress=False)
  want = np.stack([theirs(model, embedder, item) for item in ITEMS])
  np.testing.assert_allclose(got, want, atol=1e-5)
  return got


@pytest.mark.slow
@pytest.mark.parametrize('position_mode', ['sequential', 'mrope'])
def test_each_scaling_is_that_of_transformers(
    tmp_path, monkeypatch, position_mode):
  """And they differ, but for dynamic, which begins past its length."""
  found = {name: check(tmp_path / name, monkeypatch, rope, position_mode)
           for name, rope in {'default': {}, **ROPES}.items()}
  for name in set(ROPES) - {'dynamic'}:
    assert np.abs(found[name] - found['default']).max() > 1e-3
  np.testing.assert_array_equal(found['dynamic'], found['default'])
