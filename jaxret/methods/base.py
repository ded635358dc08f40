"""What a method is: pure functions that the loops and evaluators call."""
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np


class Examples(Protocol):
  """Random access to training examples as dicts of arrays, static shapes.

  ids[i] names example i in messages; `constants` are arrays that every step
  sees besides its batch, such as the train-split video vocabulary.
  """
  ids: list[str]
  constants: dict[str, np.ndarray]

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> dict[str, np.ndarray]: ...


class Method(NamedTuple):
  """A retrieval method as pure functions of its parameters.

  name: as in `config.method`.
  init: (key) -> params, {'params': ..., 'lora': ... if any}; may be traced.
  load: (key, mesh) -> params on the mesh, from pretrained files, or None when
    the method trains from `init`.
  loss: (params, constants, batch, key) -> (float32 [B], {name: float32 []});
    without a key there is no dropout.
  examples: (Split, Visuals) -> Examples; of UNITE (training pairs) -> Examples.
  trainable: regexes on '/'-joined parameter paths; all others are frozen.
  train_flops: (batch) -> model FLOPs of forward and backward on one batch.
  tokens: (batch) -> how many tokens the model reads in it.
  check: (texts, shape) raises ValueError for texts (Items) that the method
    cannot read, or features of a video of another shape than it wants.
  embed: (params, constants, batch, key) -> tree of [B, ...], and
  embedding_loss: (that tree, batch) -> as loss, for a method whose loss is of
    embeddings: training in several chunks then still contrasts the whole
    batch, see gradients.chunked. None for other losses.
  """
  name: str
  init: Callable
  load: Callable | None
  loss: Callable
  examples: Callable
  trainable: tuple[str, ...]
  train_flops: Callable
  tokens: Callable
  check: Callable = lambda texts, shape: None
  embed: Callable | None = None
  embedding_loss: Callable | None = None
