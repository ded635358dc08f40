"""The authors' recall numbers, from their score matrices."""
import json

import numpy as np
import pytest

from jaxret import metrics

ATOL = 0.00501  # golden recalls are rounded to two digits
DIRECTIONS = ('t2v', 'v2t')
KINDS = ('full', 'topk', 'zeroshot', 'nocpn')


def load(path):
  with np.load(path) as arrays:
    return dict(arrays)


def diagonal(scores):
  return [np.array([i]) for i in range(len(scores))]


def recalls(scores, relevant):
  """The three recalls and their mean, as get_recall names them."""
  values = list(metrics.released_recall(scores, relevant).values())
  return dict(zip(('r1', 'r5', 'r10', 'r_mean'), [*values, np.mean(values)]))


def bounds(scores, relevant):
  """[least, most] recall that any order of tied candidates can give."""
  least = metrics.ranks(scores, relevant)
  is_relevant = np.zeros(scores.shape, bool)
  for row, indices in zip(is_relevant, relevant):
    row[indices] = True
  best = np.where(is_relevant, scores, -np.inf).max(axis=1, keepdims=True)
  most = 1 + (scores > best).sum(axis=1)
  values = [[metrics.recall_at_k(r, k) for k in metrics.RECALL_AT]
            for r in (least, most)]
  return [dict(zip(('r1', 'r5', 'r10', 'r_mean'), [*v, np.mean(v)]))
          for v in values]


def check_direction(scores, relevant, wanted, direction):
  """The golden recalls of one direction; returns (least, most) of r_mean.

  Where candidates tie with a relevant one, numpy's argsort, and so the golden
  number, depends on the authors' machine, for rows of any length: it lies
  between what the best and the worst order of the tied would give.
  """
  got = recalls(scores, relevant)
  least, most = (got, got) if np.any(scores == 0) else bounds(scores, relevant)
  for name, value in got.items():
    assert least[name] <= value <= most[name], (direction, name)
    check_value(wanted[f'{direction}_{name}'], least[name], most[name],
                (direction, name))
  return least['r_mean'], most['r_mean']


def check_value(golden, least, most, name):
  assert least - ATOL <= golden <= most + ATOL, (name, golden, least, most)


def check(t2v, v2t, wanted, t2v_relevant=None, v2t_relevant=None):
  means = [
      check_direction(t2v, t2v_relevant or diagonal(t2v), wanted, 't2v'),
      check_direction(v2t, v2t_relevant or diagonal(v2t), wanted, 'v2t')]
  check_value(wanted['r_mean'], *np.mean(means, axis=0), 'r_mean')


def compose(scores, settings, kind):
  """{row: (t2v, v2t)} as val_one_epoch combines the stored matrices."""
  zeroshot = kind == 'zeroshot'
  prefix = 'zeroshot_' if zeroshot else ''
  alphas, weights = settings[f'{prefix}alpha'], settings[f'{prefix}c']
  shape = {'t2v': scores['t2v_internvideo2'].shape,
           'v2t': scores['v2t_internvideo2'].shape}

  def stored(direction, name):
    return scores.get(f'{direction}_{name}', np.zeros(shape[direction]))

  rows = {name: tuple(stored(d, name) for d in DIRECTIONS) for name in
          ('internvideo2', 'candidate_likelihood', 'query_likelihood')}
  cpn = rows['candidate_likelihood']
  if kind != 'nocpn':
    cpn = tuple(candidate - alpha * stored(d, 'candidate_prior')
                for candidate, alpha, d in zip(cpn, alphas, DIRECTIONS))
    rows['cpn_candidate_likelihood'] = cpn
  both = [w * query + (1 - w) * candidate for w, query, candidate
          in zip(weights[:2], rows['query_likelihood'], cpn)]
  if zeroshot:  # the query weight of v2t is skipped there
    both[1] = cpn[1]
  rows['blim'] = tuple(w * own + (1 - w) * first for w, own, first
                       in zip(weights[2:], both, rows['internvideo2']))
  return rows


@pytest.mark.parametrize('kind', KINDS)
def test_blim_recall_of_every_row(blim_golden, kind):
  settings = json.loads((blim_golden / 'README.json').read_text())['settings']
  golden = json.loads((blim_golden / 'metrics.json').read_text())['eval']
  name = 'full' if kind == 'nocpn' else kind
  rows = compose(load(blim_golden / f'eval_{name}.npz'), settings, kind)
  assert set(rows) == set(golden[kind])
  for row, (t2v, v2t) in rows.items():
    check(t2v, v2t, golden[kind][row])


def test_blim_composed_scores(blim_golden):
  settings = json.loads((blim_golden / 'README.json').read_text())['settings']
  scores = load(blim_golden / 'eval_full.npz')
  rows = compose(scores, settings, 'full')
  for index, direction in enumerate(DIRECTIONS):
    for row, golden in (('cpn_candidate_likelihood', 'cpn'), ('blim', 'blim')):
      np.testing.assert_allclose(
          rows[row][index], scores[f'{direction}_{golden}'], atol=1e-5)


def recall_case(name, scores, inputs):
  """(t2v, v2t, relevant of t2v or None, relevant of v2t or None)."""
  if name in inputs:
    given = inputs[name]
    return (scores['multi_t2v'], scores['multi_v2t'],
            [np.atleast_1d(video) for video in given['t2v_gt']],
            [np.atleast_1d(texts) for texts in given['v2t_gt']])
  kind = 'zero' if 'zero' in name else 'sq'
  return (scores[f'{kind}_t2v'], scores.get(f'{kind}_v2t', scores['sq_v2t']),
          None, None)


def test_blim_recall_of_every_case(blim_golden):
  """Square matrices, several captions of a video, an exact zero."""
  golden = json.loads((blim_golden / 'metrics.json').read_text())
  scores = load(blim_golden / 'recall.npz')
  seen = set()
  for name, wanted in golden['get_recall'].items():
    t2v, v2t, *relevant = recall_case(name, scores, golden['recall_inputs'])
    check(t2v, v2t, wanted, *relevant)
    seen |= {key for key, array in scores.items()
             if array is t2v or array is v2t}
  assert seen == set(scores)


def test_blim_sections_are_all_checked(blim_golden):
  golden = json.loads((blim_golden / 'metrics.json').read_text())
  assert set(golden['eval']) == set(KINDS)
