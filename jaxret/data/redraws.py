"""Rows of training batches whose media cannot be read, drawn anew.

Before training only headers are read (pair_examples.readable), which a damaged
body passes; decoding everything first would take hours on a real corpus. Such
a pair is left out when it is drawn: its row gets the first pair that can be
read of a sequence that seed, step and row alone decide. So a batch depends on
the files and the step, not on when the damage was seen: a run that is killed
and resumed, or one on several processes, gives the same batches, and a corpus
without damage gives those of its order. The number of examples stays, and with
it every checkpoint of the workdir.
"""
import threading

import numpy as np

from jaxret.data import media

TRIES = 8  # then the disk is gone, not a file


class Redraws:
  """What data.loader.train_batches does instead of raising a MediaError.

  mixture: of the sources that `order` draws from, each row anew from its own
  source, as batches of one source need. report: (MediaError), called once for
  each item that is left out, in the thread that read it.
  """

  def __init__(self, mixture, order, seed, report):
    self._mixture, self._order, self._seed = mixture, order, seed
    self._report, self._reported = report, set()
    self._lock = threading.Lock()

  def __call__(self, examples, error, step, batch_size, row):
    """(index, example) for a row whose first choice raised `error`.

    Raises ValueError where no pair can be read among the TRIES first ones.
    """
    self._leave_out(error)
    indices = self.indices(step, batch_size, row)[:TRIES]
    for index in indices:
      try:
        return int(index), dict(examples[int(index)])
      except media.MediaError as other:
        self._leave_out(other)
    raise ValueError(
        f'{error}; nor can any of the {len(indices)} pairs that were drawn in '
        'its place be used: see that all media can be reached, or remove what '
        'is damaged or lower train.batch_size, and run again')

  def indices(self, step, batch_size, row):
    """Examples to try in the place of a row, int64 [n], best first.

    Those of its source that its batch has none of; what two rows of one batch
    try first is never the same.
    """
    drawn = [self._order(step, batch_size, r) for r in range(batch_size)]
    source = self._mixture.index(drawn[row])
    first = int(self._mixture.starts[source])
    rest = np.setdiff1d(
        np.arange(first, first + int(self._mixture.sizes[source])), drawn)
    rest = np.random.default_rng((self._seed, 2, step)).permutation(rest)
    return rest[np.argsort(
        (np.arange(len(rest)) - row) % batch_size, kind='stable')]

  def _leave_out(self, error):
    with self._lock:
      if error.name not in self._reported:
        self._reported.add(error.name)
        self._report(error)
