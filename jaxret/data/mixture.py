"""Sources of training examples mixed by weight, in an order that resumes."""
import numpy as np

ROUND = 1000  # draws after which every source has had its exact share


class Mixture:
  """Several sources as one: len(), [i], and the order in which to draw.

  sources: {name: sequence}. Example i of a source follows those of the
  sources before it. `index` says which source example i is of.
  """

  def __init__(self, sources):
    empty = [name for name, source in sources.items() if not len(source)]
    if empty or not sources:
      raise ValueError(f'the source {(empty or ["list"])[0]!r} is empty; leave '
                       'it out')
    self.names = tuple(sources)
    self._sources = tuple(sources.values())
    self.sizes = np.array([len(source) for source in self._sources])
    self.starts = np.cumsum(self.sizes) - self.sizes

  def __len__(self):
    return int(self.sizes.sum())

  def __getitem__(self, i):
    source = self.index(i)
    return self._sources[source][int(i - self.starts[source])]

  def index(self, i):
    return int(np.searchsorted(self.starts, i, 'right')) - 1


class MixedOrder:
  """Which example of a Mixture stands in which row of which step.

  For data.loader.train_batches(order=...): it depends on the seed and the step
  alone, so that a run resumes from one integer.

  weights: {name: share}, of any sum; None = in proportion to the sizes.
  per_source: every batch is drawn from one source, so that its negatives are
    of one kind; otherwise every row is drawn by itself.
  aligned: sources of one size are read in one order, and rows of a batch begin
    at one place of it: where example i of both is about the same medium, a
    batch has it in several modalities. The source with most rows in a batch
    reads each example about as often, others those that come first.
  In ROUND draws, of batches or of rows, each source has its exact share; the
  draws of a round are shuffled. Each source is read in epochs, shuffled anew.
  """

  def __init__(self, mixture, batch_size, seed, weights=None,
               per_source=False, aligned=False):
    self._mixture, self._seed = mixture, seed
    self._batch_size, self._per_source = batch_size, per_source
    self._aligned = aligned
    self._quotas = _quotas(mixture, weights)
    self._stride = -(-batch_size * int(self._quotas.max()) // ROUND)
    self._drawn = np.repeat(np.arange(len(self._quotas)), self._quotas)
    if per_source and mixture.sizes.min() < batch_size:
      name = mixture.names[int(np.argmin(mixture.sizes))]
      raise ValueError(
          f'source {name!r} has {mixture.sizes.min()} examples, a batch is '
          f'{batch_size}: with batches per source each must fill one; lower '
          '--config.train.batch_size, or leave the source out')
    self._cached = {}

  def __call__(self, step, batch_size, row):
    if batch_size != self._batch_size:
      raise ValueError(f'the order is for batches of {self._batch_size}, not '
                       f'of {batch_size}')
    if self._aligned:
      return self._in_line(step, row)
    draw = step if self._per_source else step * batch_size + row
    number, place = divmod(draw, ROUND)
    sources, before = self._round(number)
    source = sources[place]
    nth = number * int(self._quotas[source]) + int(before[place])
    size = int(self._mixture.sizes[source])
    if self._per_source:
      epoch, batch = divmod(nth, size // batch_size)
      place = batch * batch_size + row
    else:
      epoch, place = divmod(nth, size)
    order = self._permutation(source, epoch)
    return int(self._mixture.starts[source] + order[place])

  def _in_line(self, step, row):
    """The example of a row where sources are read in line with each other."""
    first = step * self._batch_size
    def of_draw(draw):
      number, place = divmod(draw, ROUND)
      return int(self._round(number)[0][place])
    source = of_draw(first + row)
    nth = sum(of_draw(draw) == source for draw in range(first, first + row))
    size = int(self._mixture.sizes[source])
    epoch, batch = divmod(step, max(1, size // self._stride))
    place = (batch * self._stride + nth) % size
    return int(self._mixture.starts[source]
               + self._shared_permutation(size, epoch)[place])

  def _round(self, number):
    """(source of each draw, how many of the same came before it), [ROUND]."""
    def make():
      sources = np.random.default_rng(
          (self._seed, 0, number)).permutation(self._drawn)
      before = np.zeros(ROUND, np.int64)
      for source in range(len(self._quotas)):
        own = sources == source
        before[own] = np.arange(own.sum())
      return sources, before
    return self._kept(('round',), number, make)

  def _permutation(self, source, epoch):
    return self._kept(
        ('source', source), epoch, lambda: np.random.default_rng(
            (self._seed, 1, source, epoch)).permutation(
                self._mixture.sizes[source]))

  def _shared_permutation(self, size, epoch):
    return self._kept(('size', size), epoch, lambda: np.random.default_rng(
        (self._seed, 2, size, epoch)).permutation(size))

  def _kept(self, name, number, make):
    """What `make` gives; threads near a border read from two of them."""
    key = (*name, number % 2)
    found = self._cached.get(key)
    if found is None or found[0] != number:
      found = self._cached[key] = number, make()
    return found[1]


def _quotas(mixture, weights):
  """Draws of each source in a round, int [n]; they sum to ROUND."""
  if weights is None:
    shares = mixture.sizes / mixture.sizes.sum()
  else:
    if set(weights) != set(mixture.names) or min(weights.values()) <= 0:
      raise ValueError(f'weights {dict(weights)} for the sources '
                       f'{", ".join(mixture.names)}; wanted one above 0 for '
                       'each')
    shares = np.array([weights[name] for name in mixture.names], np.float64)
    shares /= shares.sum()
  if len(shares) > ROUND:
    raise ValueError(f'{len(shares)} sources; at most {ROUND} can be mixed')
  # One each at least; the rest by largest remainder.
  exact = shares * (ROUND - len(shares))
  quotas = 1 + np.floor(exact).astype(int)
  rest = np.argsort(np.floor(exact) - exact, kind='stable')
  quotas[rest[:ROUND - quotas.sum()]] += 1
  return quotas
