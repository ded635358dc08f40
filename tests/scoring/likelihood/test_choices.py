"""Multiple choice: scores and alpha against plain loops, and POPE's numbers."""
import numpy as np
import pytest

from jaxret.scoring.likelihood import choices

NAN = np.nan


def draw(seed, n=60, most=5):
  """Likelihoods of questions with 1 to `most` choices, and their answers."""
  rng = np.random.default_rng(seed)
  counts = rng.integers(1, most + 1, n)
  shape = n, most
  none = np.arange(most) >= counts[:, None]
  prior = rng.normal(-3, 2, shape).astype(np.float32)
  likelihood = (prior * 0.7 + rng.normal(0, 1, shape)).astype(np.float32)
  answers = [int(rng.integers(count)) for count in counts]
  for row, answer in zip(likelihood, answers):
    row[answer] += 1
  return choices.Likelihoods(np.where(none, NAN, likelihood),
                             np.where(none, NAN, prior)), answers, counts


def loop(parts, answers, counts, alpha):
  """(share of right answers, mean reciprocal rank), one question at a time."""
  right, reciprocal = 0, 0.0
  for n, (answer, count) in enumerate(zip(answers, counts)):
    found = [parts.likelihood[n, c] - np.float32(alpha) * parts.prior[n, c]
             for c in range(count)]
    rank = 1 + sum(found[c] >= found[answer] for c in range(count)
                   if c != answer)
    right += rank == 1
    reciprocal += 1 / rank
  return round(right / len(answers), 8), reciprocal / len(answers)


@pytest.mark.parametrize('seed', range(8))
def test_alpha_is_the_best_of_the_grid_by_brute_force(seed):
  parts, answers, counts = draw(seed)
  grid = choices.cpn.GRID
  quality = [loop(parts, answers, counts, alpha) for alpha in grid]
  best = max(range(len(grid)), key=quality.__getitem__)  # the first of equals
  assert choices.choose_alpha(parts, answers) == grid[best]
  np.testing.assert_allclose(choices.sweep(parts, answers),
                             [100 * q[0] for q in quality])


def test_equal_qualities_take_the_smaller_alpha():
  parts = choices.Likelihoods(np.array([[0.0, -9.0]]), np.array([[-1.0, -1.0]]))
  assert choices.choose_alpha(parts, [0]) == 0.0
  # Right from 0.5 on, where there is no tie any more.
  parts = choices.Likelihoods(np.array([[0.0, -1.8]]), np.array([[0.0, -4.0]]))
  assert choices.choose_alpha(parts, [1]) == 0.5
  assert choices.choose_alpha(parts._replace(prior=None), [1]) == 0.0


def test_scores_of_choices_that_are_not_there_are_never_best():
  parts, answers, counts = draw(3)
  found = choices.scores(parts, 0.4)
  for n, count in enumerate(counts):
    assert np.isfinite(found[n, :count]).all()
    assert np.isneginf(found[n, count:]).all()
  with pytest.raises(ValueError, match='its answer is choice'):
    choices.ranks(found, [counts[0], *answers[1:]])


def test_a_choice_without_a_prior_is_never_best():
  """NaN is what NumPy takes for the largest."""
  parts = choices.Likelihoods(np.array([[-1.0, -2, -3]], np.float32),
                              np.array([[-1, NAN, -1]], np.float32))
  assert np.isneginf(choices.scores(parts, 0.5)).tolist() == [
      [False, True, False]]


@pytest.mark.parametrize('wrong', [-1, 'count', 5])
def test_alpha_is_not_chosen_by_answers_that_are_no_choice(wrong):
  """-1 would count as the last column, and what is not there as a miss."""
  parts, answers, counts = draw(4)
  n = int(np.argmin(counts))
  answers[n] = counts[n] if wrong == 'count' else wrong
  with pytest.raises(ValueError, match=f'question {n}: its answer is choice'):
    choices.choose_alpha(parts, answers)


@pytest.mark.parametrize('alpha', [-0.1, 1.1, NAN, 'a', True, None])
def test_alpha_is_a_share(alpha):
  parts = draw(0)[0]
  with pytest.raises(ValueError, match='alpha is .*from 0 to 1'):
    choices.scores(parts, alpha)


def test_alpha_needs_a_prior_and_choosing_needs_questions():
  parts = draw(0)[0]
  with pytest.raises(ValueError, match='no prior to subtract'):
    choices.scores(parts._replace(prior=None), 0.5)
  with pytest.raises(ValueError, match='no question to choose alpha on'):
    choices.choose_alpha(choices.Likelihoods(*(m[:0] for m in parts)), [])


def test_yes_no_by_hand():
  """Two hits, one false alarm, one miss, three rightly denied."""
  said = [True, True, True, False, False, False, False]
  truth = [True, True, False, True, False, False, False]
  found = choices.yes_no(said, truth)
  np.testing.assert_allclose(
      [found[k] for k in ('accuracy', 'precision', 'recall', 'f1',
                          'yes_share')],
      [500 / 7, 200 / 3, 200 / 3, 200 / 3, 300 / 7])
  nothing = choices.yes_no([False], [True])
  assert nothing['precision'] == nothing['f1'] == 0.0
  with pytest.raises(ValueError, match='yes/no'):
    choices.yes_no([], [])
