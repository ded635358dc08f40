"""The authors' recall numbers, from their score matrices."""
import json

import numpy as np
import pytest

from jaxret import metrics

# numpy sorts rows up to this length by insertion, which keeps ties in order;
# how longer rows with ties were sorted depends on the authors' machine.
STABLE_LENGTH = 16
DIRECTIONS = ('t2v', 'v2t')


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
  """The golden recalls of one direction; ties of long rows within bounds."""
  got = recalls(scores, relevant)
  least, most = bounds(scores, relevant)
  decided = (scores.shape[1] <= STABLE_LENGTH or least == most
             or bool(np.any(scores == 0)))
  for name, value in got.items():
    golden = wanted[f'{direction}_{name}']
    if decided:
      assert value == pytest.approx(golden, abs=0.00501), (direction, name)
    else:
      assert least[name] - 0.00501 <= golden <= most[name] + 0.00501
  return got['r_mean']


def check(t2v, v2t, wanted, t2v_relevant=None, v2t_relevant=None):
  means = [
      check_direction(t2v, t2v_relevant or diagonal(t2v), wanted, 't2v'),
      check_direction(v2t, v2t_relevant or diagonal(v2t), wanted, 'v2t')]
  if max(t2v.shape + v2t.shape) <= STABLE_LENGTH:
    assert np.mean(means) == pytest.approx(wanted['r_mean'], abs=0.00501)


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


@pytest.mark.parametrize('kind', ['full', 'topk', 'zeroshot', 'nocpn'])
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


def test_blim_sections_are_all_checked(blim_golden):
  golden = json.loads((blim_golden / 'metrics.json').read_text())
  assert set(golden['eval']) == {'full', 'topk', 'zeroshot', 'nocpn'}
  assert set(golden['get_recall']) == {
      'square_identity', 'three_captions_per_video', 'exact_zero'}


def test_blim_recall_of_square_matrices(blim_golden):
  golden = json.loads((blim_golden / 'metrics.json').read_text())['get_recall']
  scores = load(blim_golden / 'recall.npz')
  check(scores['sq_t2v'], scores['sq_v2t'], golden['square_identity'])


def test_blim_recall_with_several_captions(blim_golden):
  golden = json.loads((blim_golden / 'metrics.json').read_text())
  inputs = golden['recall_inputs']['three_captions_per_video']
  scores = load(blim_golden / 'recall.npz')
  check(scores['multi_t2v'], scores['multi_v2t'],
        golden['get_recall']['three_captions_per_video'],
        [[video] for video in inputs['t2v_gt']], inputs['v2t_gt'])


def test_blim_recall_with_an_exact_zero(blim_golden):
  golden = json.loads((blim_golden / 'metrics.json').read_text())['get_recall']
  scores = load(blim_golden / 'recall.npz')
  check(scores['zero_t2v'], scores['sq_v2t'], golden['exact_zero'])
