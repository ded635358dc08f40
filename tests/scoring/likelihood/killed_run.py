"""Scores a small random set into a directory; the kill test ends it early.

  python -m tests.scoring.likelihood.killed_run DIRECTORY [TOPK]

With TOPK, the pairs alone that a random first stage keeps.
"""
import sys

import jax
import numpy as np

from jaxret import sharding
from jaxret.bench import presets
from jaxret.data import types
from jaxret.methods.blim import evaluator
from jaxret.methods.blim import likelihood as blim_likelihood
from jaxret.methods.blim import method as blim
from jaxret.models import decoder
from jaxret.models.videochat import model as vlm
from jaxret.scoring.likelihood import cascades
from jaxret.scoring.likelihood import score as likelihood

VLM = vlm.VlmConfig(
    decoder.DecoderConfig(vocab_size=64, width=16, mlp_width=24, layers=1,
                          heads=2, kv_heads=1, head_width=8),
    visual_width=6, clips=2, tokens_per_clip=2)
VIDEOS, TEXTS = 40, 40


def kept(topk):
  """bool [V, T], the pairs that are scored; None = all."""
  if not topk:
    return None
  scores = np.random.default_rng(4).normal(size=(VIDEOS, TEXTS))
  return cascades.kept(scores, topk) | cascades.kept(scores.T, topk).T


def main(directory, topk=0):
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  params = jax.jit(lambda key: blim.init(VLM, (), 0, key))(jax.random.key(0))
  params = jax.device_put(params, sharding.replicated(mesh))
  features = presets.features(VLM, VIDEOS)
  prompts = presets.prompts(VLM, presets.captions(TEXTS, 64))
  split = types.Split(
      'killed', 'test', tuple(types.Item(f'v{i}') for i in range(VIDEOS)),
      tuple(types.Item(f't{i}', text='-') for i in range(TEXTS)),
      np.arange(TEXTS, dtype=np.int32))
  evaluator.score(
      blim_likelihood.likelihood_model(VLM), params, mesh,
      evaluator.LikelihoodInputs(split, features, prompts, features.mean(2)),
      likelihood.Options(rows=2, columns=4, max_padding=9.0), directory,
      kept(topk))


if __name__ == '__main__':
  main(sys.argv[1], *map(int, sys.argv[2:]))
