"""Seeded batches for training, read ahead by threads, resumable anywhere."""
import functools

import numpy as np

from jaxret.data import media

# A CPU device reads an array where it lies if it begins at a multiple of this;
# another one is copied first, which takes longer than to stack it.
ALIGNMENT = 64  # bytes


def steps_per_epoch(n_examples, batch_size):
  """Whole batches in an epoch; what remains is dropped.

  Errors: ValueError when there are fewer examples than one batch takes.
  """
  if not 0 < batch_size <= n_examples:
    raise ValueError(
        f'batch_size {batch_size} does not fit {n_examples} examples; choose '
        f'--config.train.batch_size from 1 to {n_examples}')
  return n_examples // batch_size


def train_batches(examples, batch_size, seed, start_step=0, process_index=0,
                  process_count=1, n_threads=8, with_index=False, order=None,
                  instead=None):
  """Endless batches, shuffled anew in every epoch.

  Step s holds the same global batch whatever `start_step`, the number of
  threads or of processes: it depends on `seed` and s alone. Each process gets
  its contiguous block of the rows. A batch never spans two epochs.

  examples: len(), and [i] -> dict of arrays with the same shapes for every i.
  batch_size: global; a multiple of `process_count`.
  with_index: adds 'index', int64 [B]: which example each row is.
  order: (step, batch_size, row of the global batch) -> which example, for
    instance mixture.MixedOrder; in place of the shuffled epochs and `seed`.
  instead: a redraws.Redraws, which gives (which example, it) for a row whose
    example raises a media.MediaError; None = that is raised.
  Returns an iterator of dicts of arrays, [batch_size / process_count, ...].
  Errors: ValueError when the sizes do not fit; what examples[i] raises.
  """
  n_steps = steps_per_epoch(len(examples), batch_size)
  if batch_size % process_count:
    raise ValueError(
        f'batch_size {batch_size} is not a multiple of the {process_count} '
        'processes; choose one that is')
  import grain  # slow to import
  n_rows = batch_size // process_count
  order = order or _Order(len(examples), n_steps, seed)

  def read(row):
    """Row `row` of this process, counted from the first step."""
    step, offset = divmod(int(row), n_rows)
    index, example = _drawn(examples, order, instead, step, batch_size,
                            process_index * n_rows + offset)
    return {**example, 'index': np.int64(index)} if with_index else example

  rows = grain.MapDataset.range(start_step * n_rows, np.iinfo(np.int64).max)
  options = grain.ReadOptions(
      num_threads=n_threads, prefetch_buffer_size=max(2 * n_rows, n_threads))
  batches = rows.map(read).to_iter_dataset(options).batch(
      n_rows, batch_fn=_stacked)
  return iter(batches)


def _stacked(rows):
  """{name: the arrays of all rows, [rows, ...], aligned}."""
  return {name: _aligned_stack([row[name] for row in rows])
          for name in rows[0]}


def _aligned_stack(arrays):
  first = np.asarray(arrays[0])
  shape = len(arrays), *first.shape
  n_bytes = len(arrays) * first.nbytes
  memory = np.empty(n_bytes + ALIGNMENT, np.uint8)
  start = -memory.ctypes.data % ALIGNMENT
  out = memory[start:start + n_bytes].view(first.dtype).reshape(shape)
  return np.stack(arrays, out=out, casting='no')


def _drawn(examples, order, instead, step, batch_size, row):
  """(which example stands in a row of the global batch, the example)."""
  index = order(step, batch_size, row)
  try:
    return index, dict(examples[index])
  except media.MediaError as error:
    if instead is None:
      raise
    return instead(examples, error, step, batch_size, row)


class _Order:
  """Which example stands in which row of which step."""

  def __init__(self, n_examples, n_steps, seed):
    self._n_steps = n_steps
    # Threads near the end of an epoch read from two of them.
    self._permutation = functools.lru_cache(maxsize=2)(
        lambda epoch: np.random.default_rng((seed, epoch)).permutation(
            n_examples))

  def __call__(self, step, batch_size, row):
    epoch, batch = divmod(step, self._n_steps)
    return int(self._permutation(epoch)[batch * batch_size + row])
