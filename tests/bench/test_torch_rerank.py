"""Our parameters as transformers' Qwen3-VL: all of them, no other."""
import jax
import pytest

from jaxret.bench import rerank
from jaxret.models.qwen3_vl import model as qwen3_vl

pytestmark = pytest.mark.slow


def test_every_parameter_is_handed_over():
  pytest.importorskip('torch')
  from jaxret.bench import torch_rerank
  config = rerank.PRESETS['tiny'].config
  params = qwen3_vl.init(config, jax.random.key(0))
  model = torch_rerank.load(config, params, {'image': 638, 'video': 639})
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert sum(weight.numel() for weight in model.parameters()) == count
  read = model.model.language_model.embed_tokens
  assert model.lm_head.weight is read.weight
