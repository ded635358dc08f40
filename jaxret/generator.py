"""Models that continue prompts, as jaxret.load_generator opens them.

  model = jaxret.load_generator('Qwen/Qwen2-VL-2B-Instruct')
  scores = jaxret.score_sequences(['a dog', 'a cat'], [' barks'], model)
"""
import functools
from typing import Any, Protocol

import jax
from jax.sharding import Mesh

from jaxret import process_settings, sharding
from jaxret.data import types
from jaxret.models import quantized
from jaxret.scoring.likelihood import kernels


class Config(Protocol):
  """The sizes of a model that continues prompts; hashable.

  module: gives the Linen module that jaxret.models describes.
  """
  name: str

  def __hash__(self) -> int: ...

  def module(self) -> Any: ...


class Reader(Protocol):
  """Turns items into prompts, and texts into suffixes, see jaxret.models."""
  ends: tuple[int, ...]

  def __call__(self, item: types.Item, chat: bool = False) -> Any: ...

  def masked(self, item: types.Item, chat: bool = False) -> Any: ...

  def bucket(self, prompt: Any) -> tuple[int, ...]: ...

  def pad(self, prompts: list, shape: tuple[int, ...]) -> dict[str, Any]: ...

  def suffix(self, text: str, name: str) -> Any: ...

  def decode(self, ids: Any) -> str: ...


class Generator:
  """A model that continues prompts of text, images and videos.

  config, params: as `open_generator` of a wing gives them, with an output
  head; reader: of the wing's `continuations`; mesh: where the work is done.
  module: the Linen module, which generation.greedy takes. continuation: what
  scoring.likelihood.sequences takes.
  """

  def __init__(self, config: Config, params: dict[str, Any], reader: Reader,
               mesh: Mesh | None = None):
    process_settings.exact_float32()
    self.config, self.reader = config, reader
    self.mesh = mesh or sharding.make_mesh()
    self.params = jax.device_put(
        params, sharding.shardings(self.mesh, params))
    self.module = config.module()
    self.continuation = continuation(config)

  def __repr__(self) -> str:
    devices = self.mesh.devices.ravel()
    return (f'Generator({self.config.name}, '
            f'{len(devices)} x {devices[0].device_kind})')

  def in_8_bits(self, kind: str = 'int8') -> 'Generator':
    """This model with its layers in 8 bits: half the memory of bfloat16.

    Logits stay float32. kind: 'int8', or 'fp8' (e4m3) for devices that multiply
    it. Raises ValueError where qwix is not installed; see models.quantized, and
    scoring.rank_preservation for what that does to rankings.
    """
    return Generator(self.config, quantized.quantize(self.params, kind),
                     self.reader, self.mesh)


@functools.lru_cache
def continuation(config: Config) -> kernels.Continuation:
  """What scoring needs of a model; cached, so that `jit` compiles once."""
  module = config.module()
  def apply(method):
    return lambda params, *args: module.apply(params, *args, method=method)
  return kernels.Continuation(
      apply('start'), apply('suffix'),
      apply(lambda module, tokens: module.decoder.embed_tokens(tokens)),
      apply('vocabulary_terms'))
