"""How much a reranker's answers count: chosen on queries that are not reported.

A weight of 0 is among what may be chosen, and a reranker that does not tell
right candidates from wrong ones better than chance does gets it: it changes
nothing. Chosen are weights of log odds, see scoring.embeddings.rerank.
"""
from typing import Any, NamedTuple

import numpy as np

from jaxret import metrics
from jaxret.methods.mm_embed import evaluator as mixed
from jaxret.methods.mm_embed import rerank as mixed_rerank

CHANCE = 50.0  # percent of pairs of a right and a wrong candidate
METRICS = ('mrr', 'recall_at_1', 'recall_at_5')
ALL = slice(None)  # rows


class Asked(NamedTuple):
  """A task whose first candidates a reranker was asked about.

  pool: the name of the pool that its answers count in, None = the union.
  p_true: float [Q, K] as rerank.first_answers gives it.
  """
  union: mixed.Union
  task: Any
  ranking: mixed.Ranking
  p_true: np.ndarray
  pool: str | None = None


def choose(asked, weights, rows=ALL):
  """What the queries `rows` of an Asked say -> dict, plain enough for JSON.

  weight: the one with the highest MRR, the smallest of equal ones, or 0 where
  chance is not beaten: where the interval of the pairwise accuracy reaches
  down to 50 percent. queries: how many chose. with_pairs: how many of them
  had right and wrong candidates that were both asked about, a pair each; the
  mean share of a query's pairs in which the right one has the higher P(True)
  is pairwise_accuracy, in percent, None where no query has a pair. by_weight:
  [{'weight', and METRICS}].
  """
  ranking = mixed.Ranking(*(array[rows] for array in asked.ranking))
  p_true = asked.p_true[rows]
  relevant = [asked.union.places(asked.task.relevant[q], asked.pool)
              for q in ranking.kept]
  if not any(map(len, relevant)):
    raise ValueError(f'{asked.task.name}: no query has an answer, and none can '
                     'choose how much a reranker counts: set rerank.choose_on '
                     'to another split, or another rerank.mode')
  by_weight = [{'weight': weight, **_measured(mixed_rerank.by_log_odds(
      ranking, p_true, np.full(len(p_true), weight)), relevant)}
               for weight in sorted(weights)]
  shares = pair_shares(p_true, ranking.candidates, relevant)
  accuracy, interval = None, None
  if len(shares):
    accuracy = 100.0 * float(shares.mean())
    interval = list(metrics.bootstrap_interval(shares))
  beats_chance = interval is not None and interval[0] > CHANCE
  best = max(by_weight, key=lambda one: one['mrr'])  # the first of equal ones
  return {'weight': best['weight'] if beats_chance else 0.0,
          'queries': len(relevant), 'with_pairs': len(shares),
          'pairwise_accuracy': accuracy, 'pairwise_accuracy_ci95': interval,
          'beats_chance': beats_chance, 'by_weight': by_weight}


def _measured(ranking, relevant):
  found = metrics.summary(metrics.ranks_in_top(
      ranking.scores, ranking.candidates, relevant))
  return {name: found[name] for name in METRICS}


def pair_shares(p_true, candidates, relevant):
  """Share of the pairs of right and wrong that are told apart, float64 [N].

  Of the N queries that have such a pair; equal probabilities are half right.
  p_true: [Q, K], NaN where not asked; candidates: int [Q, K or more];
  relevant: Q arrays of candidates.
  """
  shares = []
  for row, own, wanted in zip(p_true, candidates, relevant):
    seen = ~np.isnan(row)
    right = np.isin(own[:len(row)], wanted)
    gaps = row[seen & right][:, None] - row[seen & ~right]
    if gaps.size:
      shares.append(float(np.mean((np.sign(gaps) + 1) / 2)))
  return np.array(shares)


def halves(n):
  """Two slices of n queries, each to choose for the other."""
  return [slice(start, n, 2) for start in range(2)]


def tables(chosen):
  """What was chosen, for the report: [{'title', 'rows'}], or [].

  chosen: {'on': split, 'tasks': {task: {pool: [what `choose` gives]}}}.
  """
  if not chosen:
    return []
  rows = [('task', 'pool', 'right of pairs, %', '95 %', 'weight', 'MRR without',
           'MRR with')]
  for task, pools in chosen['tasks'].items():
    for pool, choices in pools.items():
      for choice in choices:
        by_weight = {one['weight']: one['mrr'] for one in choice['by_weight']}
        low, high = choice['pairwise_accuracy_ci95'] or (None, None)
        rows.append((
            task.replace('_', ' '), pool,
            '-' if low is None else f'{choice["pairwise_accuracy"]:.1f}',
            '-' if low is None else f'{low:.1f}-{high:.1f}',
            f'{choice["weight"]:g}', f'{by_weight[0.0]:.3f}',
            f'{by_weight[choice["weight"]]:.3f}'))
  halved = ', half by half' if chosen['halves'] else ''
  return [{'title': f'how much the reranker counts, chosen on {chosen["on"]}'
                    f'{halved}', 'rows': rows}]
