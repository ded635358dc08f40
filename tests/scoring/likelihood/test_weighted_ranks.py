"""Ranks under many weights: those of each score matrix on its own."""
import numpy as np
import pytest

from jaxret import metrics
from jaxret.scoring.likelihood import cpn, weighted_ranks

QUERIES, CANDIDATES = 13, 9
WEIGHTS = [cpn.Weights(alpha, c, d) for alpha in (0.0, 0.3, 1.0)
           for c in (0.0, 0.6, 1.0) for d in (0.0, 0.4, 1.0)]


def make(seed, rounded, **changes):
  """A Direction and its answers; rounded scores are full of ties."""
  rng = np.random.default_rng(seed)
  def draw(*shape):
    values = rng.normal(size=shape)
    # Quarters are added and halved without rounding: ties stay ties.
    return (np.round(values * 2) / 4 if rounded else values).astype(np.float32)
  full = QUERIES, CANDIDATES
  relevant = [np.sort(rng.choice(CANDIDATES, rng.integers(1, 4), False))
              for _ in range(QUERIES)]
  return cpn.Direction(draw(*full), draw(*full), draw(1, CANDIDATES),
                       draw(*full))._replace(**changes), relevant


def one_by_one(direction, relevant, weights):
  score = (cpn.bidirectional if direction.first_stage is None
           else cpn.ensemble)
  return np.stack([
      metrics.ranks(np.broadcast_to(
          cpn.masked(score(direction, w), direction.keep),
          (QUERIES, CANDIDATES)), relevant)
      for w in weights])


@pytest.mark.parametrize('absent', [
    (), ('first_stage',), ('query', 'first_stage'), ('prior', 'first_stage'),
    ('candidate', 'prior', 'first_stage')])
@pytest.mark.parametrize('cells', [1 << 18, 4 * CANDIDATES])
def test_ranks_are_those_of_each_matrix(absent, cells, monkeypatch):
  """In one block or in several, the last of which is shorter."""
  monkeypatch.setattr(weighted_ranks, '_BLOCK_CELLS', cells)
  direction, relevant = make(0, False, **dict.fromkeys(absent))
  found = weighted_ranks.ranks(direction, WEIGHTS, relevant)
  assert found.shape == (len(WEIGHTS), QUERIES)
  np.testing.assert_array_equal(
      found, one_by_one(direction, relevant, WEIGHTS))
  assert len(np.unique(found, axis=0)) > 1 or 'candidate' in absent


@pytest.mark.parametrize('seed', range(5))
def test_ties_count_against_us(seed):
  direction, relevant = make(seed, True)
  weights = [cpn.Weights(alpha, c, d) for alpha in (0.0, 0.5, 1.0)
             for c in (0.0, 0.5, 1.0) for d in (0.5, 1.0)]
  found = weighted_ranks.ranks(direction, weights, relevant)
  np.testing.assert_array_equal(
      found, one_by_one(direction, relevant, weights))
  tied = direction._replace(
      candidate=np.zeros((QUERIES, CANDIDATES), np.float32), prior=None,
      query=None, first_stage=None)
  for ranks in weighted_ranks.ranks(tied, [cpn.Weights()], relevant):
    np.testing.assert_array_equal(
        ranks, [1 + CANDIDATES - len(r) for r in relevant])


def test_pairs_that_were_left_out_come_last():
  keep = np.random.default_rng(3).random((QUERIES, CANDIDATES)) < 0.5
  direction, relevant = make(3, False, keep=keep)
  for name in ('candidate', 'query'):
    getattr(direction, name)[~keep] = np.nan  # never scored
  np.testing.assert_array_equal(
      weighted_ranks.ranks(direction, WEIGHTS, relevant),
      one_by_one(direction, relevant, WEIGHTS))


def test_rows_that_agree_may_be_one():
  direction, relevant = make(4, False, query=None, first_stage=None)
  same = direction._replace(prior=np.repeat(direction.prior, QUERIES, 0))
  np.testing.assert_array_equal(
      weighted_ranks.ranks(direction, WEIGHTS, relevant),
      weighted_ranks.ranks(same, WEIGHTS, relevant))


@pytest.mark.parametrize('name', ['candidate', 'query', 'prior', 'first_stage'])
def test_a_score_that_is_no_number_is_named(name):
  direction, relevant = make(5, False)
  matrix = getattr(direction, name)
  matrix[-1, 2] = np.nan
  row = 0 if name == 'prior' else QUERIES - 1
  with pytest.raises(ValueError, match=f'a score of query {row} is NaN'):
    weighted_ranks.ranks(direction, [cpn.Weights(0.5, 0.5, 0.5)], relevant)


@pytest.mark.parametrize('wanted', [[], [-1], [CANDIDATES], [0, 99]])
def test_answers_that_there_are_not_are_refused(wanted):
  """A gather would clamp them, in silence."""
  direction, relevant = make(6, False)
  relevant[2] = np.array(wanted, int)
  with pytest.raises(ValueError, match='query 2 has the relevant candidates'):
    weighted_ranks.ranks(direction, [cpn.Weights()], relevant)


def test_an_answer_named_twice_counts_once():
  direction, relevant = make(7, True)
  twice = [np.concatenate([r, r]) for r in relevant]
  np.testing.assert_array_equal(
      weighted_ranks.ranks(direction, WEIGHTS, twice),
      weighted_ranks.ranks(direction, WEIGHTS, relevant))


def test_ranks_of_large_blocks_are_those_of_each_matrix():
  """Where vectorized code combines scores and scalar code the answers'."""
  rng, size = np.random.default_rng(8), 300
  def draw(*shape):
    return rng.standard_normal(shape, np.float32)
  direction = cpn.Direction(draw(size, size), draw(size, size), draw(1, size))
  direction.candidate[np.arange(size), np.arange(size)] += 2
  relevant = [np.array([q]) for q in range(size)]
  weights = [cpn.Weights(alpha / 10, c / 10) for alpha in range(11)
             for c in range(11)]
  found = weighted_ranks.ranks(direction, weights, relevant)
  assert found.min() == 1
  want = np.stack([metrics.ranks(cpn.bidirectional(direction, w), relevant)
                   for w in weights])
  np.testing.assert_array_equal(found, want)


def test_little_of_a_transposed_file_is_read_at_a_time(tmp_path, monkeypatch):
  """Blocks of blocks, the last of which are shorter, of memory maps."""
  direction, relevant = make(9, True)
  np.save(tmp_path / 'query.npy', direction.query.T)
  mapped = direction._replace(
      query=np.load(tmp_path / 'query.npy', mmap_mode='r').T)
  want = weighted_ranks.ranks(direction, WEIGHTS, relevant)
  monkeypatch.setattr(weighted_ranks, '_BLOCK_CELLS', 2 * CANDIDATES)
  monkeypatch.setattr(weighted_ranks, '_READ_CELLS', 5 * CANDIDATES)
  np.testing.assert_array_equal(
      weighted_ranks.ranks(mapped, WEIGHTS, relevant), want)


def test_scores_beyond_a_float_are_no_answer_in_silence():
  """Infinity less infinity is no number, whichever weights lead to it."""
  direction, relevant = make(10, False, first_stage=None)
  direction.candidate[4, 1] = direction.query[4, 1] = 3e38
  for weights in (cpn.Weights(0.5), cpn.Weights(0.0, 0.5)):
    weighted_ranks.ranks(direction, [weights], relevant)
  direction.prior[0, 1] = direction.candidate[4, 1] = np.inf
  with pytest.raises(ValueError, match='a score of query 4 is NaN'):
    weighted_ranks.ranks(direction, [cpn.Weights(0.5)], relevant)
