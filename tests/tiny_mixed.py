"""A benchmark of mixed pools and random vectors, for tests."""
import numpy as np

from jaxret import retrieval
from jaxret.data import types
from jaxret.data.sets import mixed
from jaxret.methods.mm_embed import evaluator

WIDTH = 8


def item(name):
  """Even numbers are texts, odd ones images."""
  number = int(name.rpartition(':')[2])
  if number % 2:
    return types.Item(name, image=f'{name}.png')
  return types.Item(name, name)


def benchmark():
  pools = {pool: tuple(item(f'{pool}:{i}') for i in range(start, 40, step))
           for pool, start, step in (('a', 0, 2), ('b', 1, 2), ('c', 0, 1))}
  def task(name, pool, modality, **fields):
    rng = np.random.default_rng(len(name))
    names = [i.id for own in pools.values() for i in own]
    return mixed.Task(
        name, tuple(types.Item(f'{name}:{i}', f'{name} {i}') for i in range(6)),
        ('say', 'say', 'tell') * 2, tuple(
            {str(rng.choice(names)): 1, pools[pool][i].id: 2}
            for i in range(6)), pool, modality, **fields)
  return mixed.Benchmark('toy', pools, (
      task('first', 'a', 'text'), task('second', 'b', 'image', depth=10),
      task('third', 'c', 'text', is_composed=True, excluded=tuple(
          (f'c:{20 + i}', 'b:1') for i in range(6)))))


class Encoder:
  """Random vectors by content and prompt; counts what it is asked."""

  def __init__(self, fail_after=None, left_out=()):
    self.calls, self._fail_after, self._left_out = [], fail_after, left_out

  def __call__(self, items, prompt):
    if self._fail_after is not None and len(self.calls) >= self._fail_after:
      raise KeyboardInterrupt
    self.calls += [(one.id, prompt) for one in items]
    return np.stack([self.vector(one, prompt) for one in items])

  def vector(self, one, prompt):
    if one.id in self._left_out:
      return np.full(WIDTH, np.nan, np.float32)
    seed = [*f'{one.id}{prompt}'.encode()]
    vector = np.random.default_rng(seed).standard_normal(WIDTH)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def rank(found, encoder, workdir):
  union = evaluator.Union(found)
  return union, evaluator.rank(
      found, union, retrieval.Encoder(encoder, {'weights': 'w'}), workdir,
      block_items=7)
