"""Compiled ranks: those of plain NumPy, to the last bit, or NumPy's own."""
import types

import numpy as np
import pytest

from jaxret import metrics
from jaxret.scoring.likelihood import compiled_ranks, cpn, weighted_ranks

QUERIES, CANDIDATES = 60, 40
WEIGHTS = [cpn.Weights(alpha, c, d) for alpha in cpn.GRID for c in cpn.GRID
           for d in (0.3, 1.0)]


@pytest.fixture(autouse=True)
def calls(monkeypatch):
  """Compiles however few the scores; how many blocks went that way."""
  monkeypatch.setattr(compiled_ranks, '_MIN_SCORES', 0)
  monkeypatch.setattr(weighted_ranks, '_BLOCK_CELLS', 7 * CANDIDATES)
  seen, own = [], compiled_ranks.block_ranks
  def block_ranks(*args):
    seen.append(args)
    return own(*args)
  monkeypatch.setattr(compiled_ranks, 'block_ranks', block_ranks)
  return seen


def make(seed, step=None, n_answers=1, **changes):
  """A Direction and its answers; multiples of a step are full of ties."""
  rng = np.random.default_rng(seed)
  def draw(*shape):
    values = rng.normal(size=shape) - 30
    return (np.round(values / step) * step if step else values).astype(
        np.float32)
  full = QUERIES, CANDIDATES
  relevant = [np.sort(rng.choice(CANDIDATES, rng.integers(1, n_answers + 1),
                                 False)) for _ in range(QUERIES)]
  direction = cpn.Direction(draw(*full), draw(*full), draw(1, CANDIDATES),
                            draw(*full), rng.random(full) < 0.6)
  return direction._replace(**changes), relevant


def plain(direction, relevant, weights):
  score = (cpn.bidirectional if direction.first_stage is None
           else cpn.ensemble)
  return np.stack([metrics.ranks(np.broadcast_to(
      cpn.masked(score(direction, w), direction.keep),
      (QUERIES, CANDIDATES)), relevant) for w in weights])


@pytest.mark.parametrize('absent', [
    (), ('first_stage', 'keep'), ('query', 'first_stage', 'keep'),
    ('candidate', 'prior', 'keep')])
@pytest.mark.parametrize('step', [None, 0.1, 0.5])
@pytest.mark.parametrize('n_answers', [1, 5])
def test_ranks_are_those_of_the_plain_formulas(absent, step, n_answers, calls):
  """Tenths are no floats: whether they tie depends on every rounding."""
  direction, relevant = make(
      n_answers, step, n_answers, **dict.fromkeys(absent))
  np.testing.assert_array_equal(
      weighted_ranks.ranks(direction, WEIGHTS, relevant),
      plain(direction, relevant, WEIGHTS))
  assert len(calls) == -(-QUERIES // 7)


def test_scores_are_rounded_as_numpy_rounds_them():
  """Compiled as in a run: tests are not, and fuse no product with a sum."""
  rng = np.random.default_rng(0)
  parts = {name: rng.normal(size=(8, 500)).astype(np.float32) - 30
           for name in compiled_ranks.PARTS} | {'keep': None}
  table = compiled_ranks._table([cpn.Weights(0.3, 0.7, 0.9)])
  scores = compiled_ranks._scores(np, parts, table[0], lambda x: x)
  reached = compiled_ranks._reached.lower(
      parts, table, scores[:, 0][None], np.int32(0)).compile(
          {'xla_backend_optimization_level': 3})
  for column in range(0, 500, 25):  # each reaches itself, and not the next one
    best = scores[:, column]
    for wanted in best, np.nextafter(best, np.float32(np.inf)):
      np.testing.assert_array_equal(
          reached(parts, table, wanted[None], np.int32(0))[0],
          (scores >= wanted[:, None]).sum(1))


@pytest.mark.parametrize('value', [np.nan, np.inf, 1e30, 1e-30])
@pytest.mark.parametrize('part', ['candidate', 'prior'])
def test_other_numbers_are_left_to_numpy(part, value, calls):
  direction, relevant = make(3, first_stage=None, keep=None)
  row = 0 if part == 'prior' else 30
  getattr(direction, part)[row, 5] = value
  if np.isnan(value):
    with pytest.raises(ValueError, match=f'a score of query {row} is NaN'):
      weighted_ranks.ranks(direction, WEIGHTS, relevant)
    return
  weights = [w for w in WEIGHTS if value < 1e30 or w.c < 1 or part == 'prior']
  weights = [w for w in weights if np.isfinite(value) or 0 < w.c < 1]
  with np.errstate(invalid='ignore', over='ignore'):
    np.testing.assert_array_equal(
        weighted_ranks.ranks(direction, weights, relevant),
        plain(direction, relevant, weights))
  assert len(calls) == (0 if part == 'prior' else -(-QUERIES // 7) - 1)


def test_without_a_device_that_is_a_cpu_it_is_numpy(monkeypatch, calls):
  direction, relevant = make(4)
  def refuse(backend):
    raise RuntimeError(f'unknown backend {backend}')
  monkeypatch.setattr(compiled_ranks, 'jax',
                      types.SimpleNamespace(local_devices=refuse))
  compiled_ranks._cpu.cache_clear()
  try:
    np.testing.assert_array_equal(
        weighted_ranks.ranks(direction, WEIGHTS[:30], relevant),
        plain(direction, relevant, WEIGHTS[:30]))
  finally:
    compiled_ranks._cpu.cache_clear()
  assert not calls


def test_little_is_not_worth_compiling(monkeypatch, calls):
  monkeypatch.undo()
  assert not compiled_ranks.pays(1e6)
  assert compiled_ranks.pays(121 * 5000 * 5000)


def test_the_best_weights_are_the_same(monkeypatch):
  direction, relevant = make(5, 0.1, 3, keep=None)
  compiled = cpn.choose(direction, relevant)
  monkeypatch.setattr(compiled_ranks, '_MIN_SCORES', np.inf)
  assert cpn.choose(direction, relevant) == compiled
