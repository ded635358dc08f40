"""Models of the scoring bench, with random weights and random inputs."""
import dataclasses
import json
import pathlib

import numpy as np

from jaxret.data import types
from jaxret.models import decoder
from jaxret.models.videochat import model as vlm
from jaxret.scoring.likelihood import score as likelihood


@dataclasses.dataclass(frozen=True)
class Preset:
  """A model, and the tile that suits it: videos by captions, texts by videos.

  text_tile, video_tile: (rows, columns) of likelihood.Options.
  """
  vlm: vlm.VlmConfig
  text_tile: tuple[int, int]
  video_tile: tuple[int, int]


def _qwen2(vocab_size, width, mlp_width, layers, heads, kv_heads, head_width,
           dtype='float32'):
  return decoder.DecoderConfig(
      vocab_size, width, mlp_width, layers, heads, kv_heads, head_width,
      dtype=dtype, param_dtype=dtype)


PRESETS = {
    'tiny': Preset(vlm.VlmConfig(_qwen2(512, 64, 128, 2, 4, 2, 16), 32, 4, 4),
                   (8, 32), (16, 32)),
    'small': Preset(vlm.VlmConfig(
        _qwen2(8192, 256, 1024, 6, 8, 2, 32), 256, 4, 64), (4, 64), (16, 64)),
    'qwen2-7b': Preset(vlm.VlmConfig(
        _qwen2(152064, 3584, 18944, 28, 28, 4, 128, 'bfloat16'), 1024, 4, 64),
        (32, 128), (64, 256)),
}

# Tokens around video and caption, as many as in the authors' MSR-VTT prompts.
BEFORE_VIDEO, AFTER_VIDEO = 14, 11
BEFORE_CAPTION, AFTER_CAPTION = 23, 5
PRIOR_LENGTH = 21


def captions(n_texts, vocab_size, seed=0):
  """Random token ids, as long as real captions and beginning alike as they do.

  captions.json says how long each of 1,000 sorted captions is, and how many
  tokens it has in common with the one before.
  """
  rng = np.random.default_rng(seed)
  path = pathlib.Path(__file__).parent / 'captions.json'
  table = json.loads(path.read_text())
  found = []
  while len(found) < n_texts:
    caption = np.zeros(0, np.int32)
    for length, common in zip(table['length'], table['common']):
      fresh = rng.integers(1, vocab_size, length - common)
      caption = np.concatenate([caption[:common], fresh]).astype(np.int32)
      found.append(caption)
  return [found[i] for i in rng.permutation(len(found))[:n_texts]]


def prompts(model, texts, seed=1):
  """likelihood.Prompts of captions (token arrays) between random tokens."""
  rng = np.random.default_rng(seed)
  def tokens(n):
    return rng.integers(1, model.decoder.vocab_size, n).astype(np.int32)
  visual = np.full(model.clips * model.tokens_per_clip, types.VISUAL, np.int32)
  before, after, end = tokens(BEFORE_CAPTION), tokens(AFTER_CAPTION), tokens(2)
  return likelihood.Prompts(
      np.concatenate([tokens(BEFORE_VIDEO), visual, tokens(AFTER_VIDEO)]),
      tuple(np.concatenate([text, end]) for text in texts),
      tuple(np.concatenate([before, text, after]) for text in texts),
      PRIOR_LENGTH, types.VISUAL)


def features(model, n_videos, seed=2):
  """Random features, float32 [V, clips, tokens, Dv]."""
  return np.random.default_rng(seed).standard_normal(
      (n_videos, model.clips, model.tokens_per_clip, model.visual_width),
      np.float32)
