"""Qwen2-VL's parts: who sees whom, blocks, positions, refusals."""
import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxret.models import decoder
from jaxret.models.qwen2_vl import files as qwen2_vl_files
from jaxret.models.qwen2_vl import model as qwen2_vl
from jaxret.models.qwen2_vl import vision

SMALL = vision.VisionConfig(
    out_width=12, width=16, layers=1, heads=2, mlp_width=24)


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_last_hidden_state_of_either_padding():
  hidden = normal(3, 4, 2)
  keys = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]], bool)
  np.testing.assert_array_equal(
      qwen2_vl.last(jnp.asarray(hidden), jnp.asarray(keys)),
      hidden[[0, 1, 2], [1, 3, 3]])


def test_unit_vectors():
  x = normal(3, 5)
  np.testing.assert_allclose(
      qwen2_vl.unit(x), x / np.linalg.norm(x, axis=1, keepdims=True),
      rtol=1e-6)
  assert np.isfinite(qwen2_vl.unit(np.zeros((1, 5)))).all()


def text_config(**fields):
  sizes = {'vocab_size': 8, 'width': 12, 'mlp_width': 8, 'layers': 1,
           'heads': 1, 'kv_heads': 1, 'head_width': 8}
  return decoder.DecoderConfig(**{**sizes, **fields})


@pytest.mark.parametrize('make, message', [
    (lambda: qwen2_vl.Qwen2VlConfig(text_config(), SMALL, 'both'),
     "position_mode 'both' is unknown"),
    (lambda: qwen2_vl.Qwen2VlConfig(text_config(), SMALL, 'mrope'),
     r'rope_sections \(\): want three numbers .* sum to 4'),
    (lambda: qwen2_vl.Qwen2VlConfig(text_config(width=16), SMALL),
     'tokens of width 12, the decoder wants 16'),
    (lambda: vision.VisionConfig(out_width=8, width=18, heads=3),
     'width 18 with 3 heads'),
])
def test_sizes_that_do_not_fit_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.parametrize('fields, message', [
    ({'model_type': 'llama'}, "got model_type 'llama', want qwen2_vl"),
    ({'hidden_act': 'gelu'}, "got hidden_act = 'gelu'"),
    ({'vision_config': {'hidden_act': 'gelu'}}, "want 'quick_gelu'"),
    ({}, 'gives tokens of width 3584, the decoder wants 8192'),
])
def test_other_models_are_refused(tmp_path, fields, message):
  (tmp_path / 'config.json').write_text(json.dumps(
      {'model_type': 'qwen2_vl', **fields}))
  with pytest.raises(ValueError, match=message):
    qwen2_vl_files.read_config(tmp_path)
  with pytest.raises(ValueError, match='no such file'):
    (tmp_path / 'config.json').unlink()
    qwen2_vl_files.read_config(tmp_path)
