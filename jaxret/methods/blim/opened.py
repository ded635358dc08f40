"""BLiM's model, open from one library call to the next.

  model = opened.open_likelihood('workdirs/blim')
  for texts in queries:
    jaxret.score_matrix(videos, texts, model)

Weights are read once, and a video that was seen is not decoded again.
"""
import copy
import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxret import checkpoint, generator, loading, methods, sharding
from jaxret import run as run_lib
from jaxret.data import text, types, visual_features
from jaxret.methods import base
from jaxret.methods.blim import features as features_lib
from jaxret.methods.blim import prompted_run
from jaxret.methods.blim import run as blim_run
from jaxret.models import quantized

KEPT_BYTES = 1 << 30  # of features, where a model stays open


class Opened:
  """BLiM's model of a workdir, or of a config; read when it is needed.

  config; trained: the workdir that made it, None for a config's own weights.
  kept_bytes: of features of videos, by their content; 0 = none are kept.
  """

  def __init__(self, config: ConfigDict, trained: str | None,
               mesh: Mesh | None = None, kept_bytes: int = 0):
    self.config, self.trained = config, trained
    self.mesh = mesh or sharding.make_mesh(config.mesh)
    self._memory = visual_features.Memory(kept_bytes) if kept_bytes else None
    self._tower: features_lib.Tower | None = None

  @functools.cached_property
  def tokenizer(self) -> text.Tokenizer:
    return run_lib.open_tokenizer(self.config, self.trained)

  @functools.cached_property
  def method(self) -> base.Method:
    return methods.get(self.config.method).method(self.config, self.tokenizer)

  @functools.cached_property
  def params(self) -> dict[str, Any]:
    """Placed on the mesh."""
    return blim_run.parameters(
        self.config, self.method, self.mesh, self.trained)

  def in_8_bits(self, kind: str = 'int8') -> 'Opened':
    """The same with the decoder's layers in 8 bits; see Generator.in_8_bits."""
    params = quantized.quantize(self.params, kind)
    found = copy.copy(self)  # shares what videos gave
    found.params = params
    return found

  def features(self, videos: Sequence[types.Item]) -> np.ndarray:
    """Of media files, float16 [V, clips, tokens, width].

    Raises ValueError that names the first one that cannot be decoded.
    """
    if self._memory is None:
      return self._extracted(videos)
    keys = [visual_features.content_key(one.id, 'video', one.video)
            for one in videos]
    found = {key: self._memory.get(key) for key in keys}
    missing = {key: one for key, one in zip(keys, videos)
               if found[key] is None}
    if missing:
      for key, features in zip(missing, self._extracted(
          list(missing.values()))):
        found[key] = features
        self._memory.put(key, features)
    return np.stack([found[key] for key in keys])

  def _extracted(self, videos):
    frames = features_lib.frames_of(self.config, videos)
    bad = frames.scan()
    if bad:
      index, reason = next(iter(bad.items()))
      raise ValueError(
          f'{videos[index].id}: {reason}' + (
              f' (and {len(bad) - 1} other videos)' if len(bad) > 1 else '')
          + ': leave it out')
    tower = self._tower or self._opened_tower()
    if self._memory is not None:
      self._tower = tower
    return features_lib.extract_all(self.config, frames, tower)

  def _opened_tower(self):
    config = self.config
    if self.trained and 'tower' in config.before:
      _, params = blim_run.open_tower(
          config, self.trained, self.mesh, self.tokenizer)
      return features_lib.trained_tower(config, params)
    return features_lib.pretrained_tower(config, self.mesh)


def open_likelihood(
    model: str | os.PathLike | ConfigDict | generator.Generator,
    mesh: Mesh | None = None
    ) -> 'Opened | prompted_run.Opened | generator.Generator':
  """What `score_matrix` takes as its model, open.

  model: as `score_matrix` takes it. Raises ValueError for one that scores
  nothing.
  """
  if continues_prompts(model):
    return prompted_run.opened(model, mesh)
  return Opened(*config_of(model), mesh, KEPT_BYTES)


def continues_prompts(model: Any) -> bool:
  """Whether it is a model that continues prompts, and not a run of BLiM."""
  if isinstance(model, Opened):
    return False
  if isinstance(model, ConfigDict):
    return prompted_run.is_chosen(model)
  if isinstance(model, (generator.Generator, prompted_run.Opened)):
    return True
  if loading.is_workdir(model):
    config = checkpoint.read_config(model)
    if config.method == 'blim':
      return prompted_run.is_chosen(config)
    return methods.open_generator(config.method) is not None
  if os.path.isdir(model) and not os.path.isfile(f'{model}/config.json'):
    raise ValueError(
        f'{model} holds no config.json: give the work directory of a run of '
        'python -m jaxret.main, the directory or hub name of a model, or a '
        'config with model.pretrained')
  return True


def config_of(model: Any) -> tuple[ConfigDict, str | None]:
  """(config, workdir it was trained in or None) of a model of BLiM."""
  if isinstance(model, ConfigDict):
    if not model.model.pretrained:
      raise ValueError('the config names no weights: set model.pretrained, or '
                       'give the work directory of a trained model')
    return model, None
  if continues_prompts(model):
    known = not isinstance(model, (str, os.PathLike)) or os.path.isdir(model)
    raise ValueError(
        f'{model} {"continues prompts" if known else "holds no config.json"}, '
        'it is no model of BLiM: jaxret.score_matrix scores all pairs with one '
        'that continues prompts')
  config = checkpoint.read_config(model)
  if config.method != 'blim':
    raise ValueError(f'{model} was made by the method {config.method!r}: only '
                     "'blim' gives likelihoods")
  return config, str(model)
