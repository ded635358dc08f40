"""Candidate prior normalization and its weights, against hand loops."""
import numpy as np
import pytest

from jaxret import by_rows, metrics
from jaxret.scoring.likelihood import cpn

QUERIES, CANDIDATES = 7, 5


def make_direction(seed=0, **changes):
  rng = np.random.default_rng(seed)
  def matrix(*shape):
    return rng.normal(size=shape).astype(np.float32)
  full = QUERIES, CANDIDATES
  return cpn.Direction(
      matrix(*full), matrix(*full), matrix(1, CANDIDATES), matrix(*full)
  )._replace(**changes)


RELEVANT = tuple(np.array([q % CANDIDATES]) for q in range(QUERIES))


def by_hand(direction, alpha, c, d):
  """d (c query + (1 - c) (candidate - alpha prior)) + (1 - d) first stage."""
  score = np.empty((QUERIES, CANDIDATES))
  for q in range(QUERIES):
    for k in range(CANDIDATES):
      cpn_score = direction.candidate[q, k] - alpha * direction.prior[0, k]
      blim = c * direction.query[q, k] + (1 - c) * cpn_score
      score[q, k] = d * blim + (1 - d) * direction.first_stage[q, k]
  return score


def test_rows_are_what_the_formulas_say():
  direction = make_direction()
  rows = cpn.rows(direction, cpn.fixed(0.3, 0.4, 0.8),
                  paper=cpn.fixed(0.9, 0.6, 0.5))
  np.testing.assert_array_equal(rows['first_stage'], direction.first_stage)
  np.testing.assert_array_equal(
      rows['candidate_likelihood'], direction.candidate)
  np.testing.assert_array_equal(rows['query_likelihood'], direction.query)
  wanted = {'cpn': (0.3, 0, 1), 'bidirectional': (0, 0.4, 1),
            'blim': (0.3, 0.4, 1), 'ensemble': (0.3, 0.4, 0.8),
            'cpn_paper': (0.9, 0, 1), 'bidirectional_paper': (0, 0.6, 1),
            'blim_paper': (0.9, 0.6, 1), 'ensemble_paper': (0.9, 0.6, 0.5)}
  assert set(rows) == {*wanted, 'first_stage', 'candidate_likelihood',
                       'query_likelihood'}
  for row, weights in wanted.items():
    np.testing.assert_allclose(
        rows[row], by_hand(direction, *weights), atol=1e-6, err_msg=row)
    assert rows[row].dtype == np.float32


def test_rows_without_a_first_stage_or_a_direction():
  direction = make_direction(first_stage=None)
  rows = cpn.rows(direction, cpn.choose(direction, RELEVANT))
  assert set(rows) == {'candidate_likelihood', 'query_likelihood', 'cpn',
                       'bidirectional', 'blim'}
  only_query = make_direction(candidate=None, prior=None, first_stage=None)
  chosen = cpn.choose(only_query, RELEVANT)
  rows = cpn.rows(only_query, chosen)
  assert set(rows) == {'query_likelihood', 'blim'}
  np.testing.assert_array_equal(rows['blim'], only_query.query)
  only_candidate = make_direction(query=None, first_stage=None)
  rows = cpn.rows(only_candidate, cpn.fixed(0.5, 0.7, 1.0))
  assert set(rows) == {'candidate_likelihood', 'cpn', 'blim'}
  np.testing.assert_array_equal(rows['blim'], rows['cpn'])


def test_pairs_that_were_not_scored_rank_last():
  keep = np.zeros((QUERIES, CANDIDATES), bool)
  keep[:, 1] = keep[:, 3] = True
  direction = make_direction(keep=keep)
  unscored = np.where(keep, direction.candidate, np.nan)
  rows = cpn.rows(direction._replace(candidate=unscored),
                  cpn.fixed(0.3, 0.4, 0.8))
  for row, score in rows.items():
    score = np.asarray(score)
    np.testing.assert_array_equal(score[~keep], -100)
    assert (score[keep] > -100).all(), row
  assert cpn.masked(unscored, None) is unscored


@pytest.mark.parametrize('keep', [None, np.eye(QUERIES, CANDIDATES) == 1])
def test_blocks_of_rows_are_the_whole_to_the_bit(keep, monkeypatch):
  """And so are single queries."""
  direction = make_direction(3, keep=keep)
  weights = {'': cpn.fixed(0.3, 0.4, 0.8), 'paper': cpn.fixed(0, 0.6, 0.5)}
  rows = cpn.rows(direction, weights[''], paper=weights['paper'])
  whole = {f'{row}{suffix and "_"}{suffix}': formula(direction, w) for (
      suffix, w) in weights.items() for row, formula in (
          ('cpn', lambda d, w: cpn.normalized(d, w['cpn'].alpha)),
          ('bidirectional', lambda d, w: cpn.bidirectional(
              d, w['bidirectional'])),
          ('blim', lambda d, w: cpn.bidirectional(d, w['blim'])),
          ('ensemble', lambda d, w: cpn.ensemble(d, w['ensemble'])))}
  for block_cells in (1, 2 * CANDIDATES, 1 << 20):
    monkeypatch.setattr(by_rows, '_BLOCK_CELLS', block_cells)
    for row, scores in whole.items():
      np.testing.assert_array_equal(
          rows[row], cpn.masked(scores, keep), strict=True)
  for query in range(QUERIES):
    part = cpn.rows(cpn.of_queries(direction, [query]), weights[''],
                    paper=weights['paper'])
    for row in rows:
      np.testing.assert_array_equal(part[row][0], rows[row][query])


def test_rows_are_made_when_they_are_asked_for():
  made = []
  def maker(row):
    return lambda: made.append(row) or row
  rows = cpn.Rows({'a': maker('a')}).joined({'b': maker('b')})
  assert 'a' in rows and 'c' not in rows and len(rows) == 2
  assert list(rows) == ['a', 'b'] and not made
  for row, scores in rows.items():
    assert made == list('ab')[:len(made)] and scores == row == made[-1]
  assert made == ['a', 'b']
  # What is mapped from disk is not read to be listed, nor copied.
  direction = make_direction(first_stage=None)
  assert cpn.rows(direction, cpn.fixed(0, 0, 1))[
      'candidate_likelihood'] is direction.candidate


def quality(score, relevant):
  """(R@1, mean reciprocal rank) by a double loop, ties against us."""
  ranks = []
  for row, wanted in zip(score, relevant):
    best = max(row[k] for k in wanted)
    ranks.append(1 + sum(row[k] >= best for k in range(len(row))
                         if k not in wanted))
  return np.mean([rank == 1 for rank in ranks]), np.mean(
      [1 / rank for rank in ranks])


@pytest.mark.parametrize('seed', range(3))
def test_chosen_weights_are_the_best_of_the_grid(seed):
  direction, grid = make_direction(seed), cpn.GRID
  chosen = cpn.choose(direction, RELEVANT)
  options = {
      'cpn': [(a, 0, 1) for a in grid],
      'bidirectional': [(0, c, 1) for c in grid],
      'blim': [(a, c, 1) for a in grid for c in grid],
      'ensemble': [(chosen['blim'].alpha, chosen['blim'].c, d) for d in grid]}
  for row, weights in options.items():
    best = max(quality(by_hand(direction, *w), RELEVANT) for w in weights)
    got = quality(by_hand(direction, *chosen[row]), RELEVANT)
    np.testing.assert_allclose(got, best, err_msg=row)


@pytest.mark.parametrize('absent', [
    (), ('first_stage',), ('prior',), ('query',), ('candidate', 'prior')])
@pytest.mark.parametrize('seed', range(4))
def test_choices_are_those_of_one_matrix_after_the_other(seed, absent):
  """Plain NumPy, one weight at a time; scores are full of ties."""
  direction = make_direction(seed)
  direction = cpn.Direction(*(
      None if part is None else np.round(part * 2) / 4 for part in direction
  ))._replace(**dict.fromkeys(absent))
  alphas = cpn.GRID if {'candidate', 'prior'}.isdisjoint(absent) else (0.0,)
  mixed = cpn.GRID if {'candidate', 'query'}.isdisjoint(absent) else (0.0,)
  def best(options, score):
    def quality_of(weights):
      ranks = metrics.ranks(score(weights), RELEVANT)
      return round(metrics.recall_at_k(ranks, 1), 6), metrics.mrr(ranks)
    return max(options, key=quality_of)  # the first of equals
  def both(weights):
    return cpn.bidirectional(direction, weights)
  blim = best([cpn.Weights(a, c) for a in alphas for c in mixed], both)
  wanted = {'blim': blim, 'cpn': cpn.Weights(), 'bidirectional': best(
      [cpn.Weights(0.0, c) for c in mixed], both)}
  if direction.candidate is not None:
    wanted['cpn'] = best([cpn.Weights(a) for a in alphas],
                         lambda w: cpn.normalized(direction, w.alpha))
  if direction.first_stage is not None:
    wanted['ensemble'] = best([blim._replace(d=d) for d in cpn.GRID],
                              lambda w: cpn.ensemble(direction, w))
  assert cpn.choose(direction, RELEVANT) == wanted


def test_ties_go_to_less_correction():
  direction = make_direction(
      candidate=np.eye(QUERIES, CANDIDATES, dtype=np.float32) * 50)
  direction = direction._replace(query=direction.candidate)
  relevant = tuple(np.array([min(q, CANDIDATES - 1)]) for q in range(QUERIES))
  chosen = cpn.choose(direction, relevant)
  assert chosen['cpn'] == cpn.Weights(0.0, 0.0, 1.0)
  assert chosen['blim'].alpha == 0.0 and chosen['blim'].c == 0.0


def test_choosing_looks_at_validation_alone():
  """The rows of another split take the weights that validation chose."""
  validation, test = make_direction(1), make_direction(2)
  chosen = cpn.choose(validation, RELEVANT)
  before = [np.copy(matrix) for matrix in validation[:4]]
  rows = cpn.rows(test, chosen)
  np.testing.assert_allclose(
      rows['blim'], by_hand(test, *chosen['blim'][:2], 1), atol=1e-6)
  scrambled = test._replace(candidate=-test.candidate, query=test.query[::-1])
  cpn.rows(scrambled, chosen)
  assert cpn.choose(validation, RELEVANT) == chosen
  for matrix, old in zip(validation[:4], before):
    np.testing.assert_array_equal(matrix, old)


def test_sweep_is_recall_of_cpn_for_each_alpha():
  direction = make_direction(4)
  recall = cpn.sweep(direction, RELEVANT)
  for alpha, value in zip(cpn.GRID, recall):
    score = by_hand(direction, alpha, 0, 1)
    assert value == pytest.approx(100 * quality(score, RELEVANT)[0])
  assert value == metrics.recall_at_k(metrics.ranks(
      cpn.normalized(direction, 1.0), RELEVANT), 1)
