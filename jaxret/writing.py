"""`jaxret.generate`: what a model writes, with or without CPN.

  model = jaxret.load_generator('Qwen/Qwen2-VL-2B-Instruct', dtype='bfloat16')
  plain = jaxret.generate([{'video': 'dog.mp4'}], 'Describe the video.', model)
  ours = jaxret.generate([{'video': 'dog.mp4'}], 'Describe the video.', model,
                         alpha=0.5)
"""
import collections
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import tqdm

from jaxret import answers, embedder, generator, loading, reading, sharding
from jaxret.models import generation
from jaxret.scoring.likelihood import choices as choices_lib


class Generated(NamedTuple):
  """text: without the token that ends it. tokens: how many were written, that
  one among them. ended: False where max_tokens were too few."""
  text: str
  tokens: int
  ended: bool


def generate(
    items: Sequence[embedder.Given], prompts: str | Sequence[str],
    model: str | os.PathLike | generator.Generator, *, max_tokens: int = 64,
    alpha: float = 0.0, plausibility: float = 0.1, batch_size: int = 8,
    on_error: str | Callable[[ValueError], None] = 'raise',
    show_progress: bool = True) -> list[Generated | None]:
  """Answers freely, token by token: greedy, or greedy with CPN.

  With alpha the next token is that of the largest log p(y | item, prompt) -
  alpha * log p(y | prompt), the second with the keys of the item's media
  masked, among tokens at least `plausibility` times as likely as the likeliest
  (contrastive decoding, Li et al. 2023). That is candidate prior normalization
  (BLiM) at every step; the paper generates nothing, so that the form is ours.

  Args:
    items, prompts: as items and questions of jaxret.answer.
    model: a Generator, or what jaxret.load_generator opens.
    max_tokens: of an answer, at most. alpha: 0 to 1; 0 is greedy.
    plausibility: above 0, 1 at most; 1 leaves the likeliest token alone.
    batch_size: items read together.
    on_error: 'raise', 'skip' or a function, as for Embedder.encode; what
      cannot be used is None.

  Returns:
    Generated of each item.

  Raises:
    ValueError: one line that names what cannot be used.
  """
  choices_lib.check_alpha(alpha)
  if not 0 < plausibility <= 1:
    raise ValueError(f'plausibility is {plausibility!r}: give a number above '
                     '0, 1 at most')
  for name, value in (('max_tokens', max_tokens), ('batch_size', batch_size)):
    if value < 1:
      raise ValueError(f'{name} is {value}; want 1 at least')
  asked = answers.asked(items, prompts, alpha)
  if not isinstance(model, generator.Generator):
    model = loading.load_generator(model)
  weights = generation.Weights(alpha, plausibility) if alpha else None
  out: list[Generated | None] = [None] * len(asked)
  with tqdm.tqdm(total=len(asked), desc='writing', unit='item',
                 disable=not show_progress) as progress:
    for shapes, group in _groups(model, asked, batch_size, bool(alpha),
                                 reading.reaction(on_error)):
      found = _write(model, shapes, [seen for _, seen in group], max_tokens,
                     weights)
      for (index, _), one in zip(group, found):
        out[index] = one
      progress.update(len(group))
  return out


def _groups(model, asked, batch_size, blind, failed):
  """Yields (shapes, [(index, prompts)]), at most a batch of one shape."""
  reader = model.reader
  def read(index):
    seen = [reader(asked[index], chat=True)]
    return seen + [reader.masked(asked[index], chat=True)] * blind
  waiting: dict[tuple, list] = collections.defaultdict(list)
  for index, seen in reading.usable(
      reading.read_ahead(read, range(len(asked)), 2 * batch_size),
      lambda index: asked[index].id, failed):
    shapes = tuple(reader.bucket(one) for one in seen)
    waiting[shapes].append((index, seen))
    if len(waiting[shapes]) == batch_size:
      yield shapes, waiting.pop(shapes)
  yield from waiting.items()


def _write(model, shapes, seen, max_tokens, weights):
  """[Generated] of prompts, rows filled up to a power of two."""
  shards = sharding.batch_shards(model.mesh)
  size = shards
  while size < len(seen):
    size *= 2
  seen = seen + seen[-1:] * (size - len(seen))
  batches: list[Any] = [
      {name: sharding.constant(model.mesh, array)
       for name, array in model.reader.pad(list(prompts), shape).items()}
      for prompts, shape in zip(zip(*seen), shapes)]
  common = model.module, max_tokens, model.reader.ends, model.params
  with jax.set_mesh(model.mesh):
    written = sharding.to_host(
        generation.greedy(*common, *batches) if weights is None else
        generation.contrastive(*common, *batches, weights))
  return [_generated(model, *row) for row in zip(*map(np.asarray, written))]


def _generated(model, tokens, count, ended):
  return Generated(model.reader.decode(tokens[:count - int(ended)]).strip(),
                   int(count), bool(ended))
