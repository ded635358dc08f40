"""From the Directions of a split to the rows of results.json."""
import functools
from typing import NamedTuple

import numpy as np

from jaxret import by_rows, metrics
from jaxret.methods.blim import evaluator
from jaxret.scoring import all_queries
from jaxret.scoring.likelihood import cpn

# That dual softmax and QB-norm are applied to; <row>_<method> is their name.
NORMALIZED_ROWS = ('candidate_likelihood', 'blim')
# Of which results.json says how unequally candidates are ranked first.
HUBNESS_ROWS = ('candidate_likelihood', 'query_likelihood', 'cpn',
                'bidirectional', 'blim')
# Of which the prior of what is ranked first is kept, query by query, beside
# that of what should be.
PRIOR_OF_FIRST = 'prior_percentile_of_first'
PRIOR_ROWS = ('candidate_likelihood', 'cpn')
RIGHT_ANSWER = 'right_answer'
_BLOCK_CELLS = 1 << 19


class Table(NamedTuple):
  """What is known of the rows, each {direction: {row: ...}}.

  summaries: as metrics.summary has them. ranks: int64 [Q]. matrices: cpn.Rows
  of the score matrices [Q, C].
  """
  summaries: dict[str, dict[str, dict]]
  ranks: dict[str, dict[str, np.ndarray]]
  matrices: dict[str, cpn.Rows]


def tabulate(found, split, chosen, temperatures=None, **others):
  """The Table of a split.

  One matrix after the other: no more than a few of [Q, C] are held at once.

  Args:
    found: {direction: cpn.Direction}.
    split: types.Split.
    chosen, others: {direction: {row: Weights}}; others by their row's suffix.
    temperatures: as choose_temperatures returns them; None = without the rows
      that they are of.
  """
  answers, table = evaluator.relevant(split), Table({}, {}, {})
  for name in evaluator.DIRECTIONS:
    rows = cpn.rows(
        found[name], chosen[name],
        **{suffix: weights[name] for suffix, weights in others.items()})
    if temperatures is not None:
      rows = _with_all_queries(rows, temperatures[name])
    table.matrices[name] = rows
    table.ranks[name] = {row: metrics.ranks(rows[row], answers[name])
                         for row in rows}
    table.summaries[name] = {row: metrics.summary(ranks)
                             for row, ranks in table.ranks[name].items()}
  return table


def choose_temperatures(found, split, chosen, reported):
  """{direction: {row: temperature}} of the rows that see all queries at once.

  Chosen on this split. Without any row where a cascade left pairs out, here or
  in the split that is reported: the sums over queries would lack them.

  found, reported: {direction: cpn.Direction} of the two splits.
  """
  answers, table = evaluator.relevant(split), {}
  for name in evaluator.DIRECTIONS:
    rows = cpn.rows(found[name], chosen[name])
    table[name] = {}
    if found[name].keep is not None or reported[name].keep is not None:
      continue
    for row in NORMALIZED_ROWS:
      if row in rows:
        scores = rows[row]
        table[name] |= {
            f'{row}_{method}': all_queries.choose(method, scores, answers[name])
            for method in all_queries.METHODS}
  return table


def _with_all_queries(rows, temperatures):
  """Rows and those that see all queries; temperatures: {row: temperature}."""
  def scores(row, method, temperature):
    return all_queries.normalized(method, rows[row], temperature)
  names = {f'{row}_{method}': (row, method) for row in NORMALIZED_ROWS
           for method in all_queries.METHODS}
  return rows.joined({
      name: functools.partial(scores, *names[name], temperature)
      for name, temperature in temperatures.items()})


def hubness(found, matrices):
  """{direction: {row: metrics.hubness}}, of what each query was scored with.

  found: {direction: cpn.Direction}; matrices: {direction: cpn.Rows}.
  """
  return {
      name: {row: metrics.hubness(cpn.masked(
          rows[row], found[name].keep, -np.inf))
             for row in HUBNESS_ROWS if row in rows}
      for name, rows in matrices.items()}


def priors_of_first(found, matrices, answers):
  """{direction: {row: percentile of the prior of what is ranked first, [Q]}}.

  A percentile among all candidates of a query, 0 to 100: where no candidate is
  preferred for its prior, its mean is that of RIGHT_ANSWER (of several right
  ones the most likely). Only of directions that have a prior and whose pairs
  were all scored.

  found: {direction: cpn.Direction}; matrices: {direction: cpn.Rows}; answers:
  {direction: relevant candidates of each query}.
  """
  table = {}
  for name, rows in matrices.items():
    prior = found[name].prior
    if prior is None or found[name].keep is not None:
      continue
    first = {row: [[c] for c in _first(rows[row])]
             for row in PRIOR_ROWS if row in rows}
    table[name] = {row: _percentiles(prior, chosen) for row, chosen in {
        **first, RIGHT_ANSWER: answers[name]}.items()}
  return table


def _first(scores):
  """int64 [Q], the first of the best candidates of each query."""
  return np.concatenate([block.argmax(1) for _, block in by_rows.blocks(
      scores, _BLOCK_CELLS)])


def _percentiles(prior, chosen):
  """[Q], of the largest prior of some candidates of each query.

  prior: [Q, C], or [1, C] where it is the same for all. Ties count half.
  """
  found = np.zeros(len(chosen))
  for q, candidates in enumerate(chosen):
    own = np.asarray(prior[0 if len(prior) == 1 else q])
    largest = own[list(candidates)].max()
    found[q] = 100 * ((own < largest).mean() + 0.5 * (own == largest).mean())
  return found
