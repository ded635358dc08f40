"""A claim whose code is broken on purpose is no longer seen to hold."""
import numpy as np
import pytest

from jaxret.claims import experiments, judged, listed
from jaxret.data import types
from jaxret.methods.blim import evaluator, results, tables
from jaxret.report import queries
from jaxret.scoring.likelihood import cpn

N = 120  # clips, each with a caption


def likelihoods(seed):
  """Of a model that knows what fits, and prefers what is likely anyway."""
  rng = np.random.default_rng(seed)
  fit = (3.0 * np.eye(N) + rng.normal(0, 0.6, (N, N))).astype(np.float32)
  priors = rng.normal(0, 1.5, (2, N)).astype(np.float32)
  return evaluator.Likelihoods(
      text_given_video=fit + priors[0], text_prior=priors[0],
      video_given_text=fit.T + priors[1],
      video_prior=np.broadcast_to(priors[1], (N, N)))


def split(name):
  return types.Split(
      'shapes', name, tuple(types.Item(f'v{i}') for i in range(N)),
      tuple(types.Item(f't{i}', text='a') for i in range(N)),
      np.arange(N, dtype=np.int32))


def write(run):
  """What a run of BLiM with these likelihoods keeps of test."""
  validation, test = (evaluator.directions(likelihoods([run.seed, part]))
                      for part in (0, 1))
  chosen = evaluator.choose_weights(validation, split('validation'))
  table = tables.tabulate(test, split('test'), chosen)
  priors = tables.priors_of_first(
      test, table.matrices, evaluator.relevant(split('test')))
  queries.save(run.workdir, {'dataset': 'shapes', 'split': 'test'},
               results._all_queries(split('test'), table.ranks, priors))
  (run.workdir / queries.NAME).rename(run.ranks('test'))


def verdicts(root):
  """{claim about BLiM's rows: verdict}."""
  found = listed.read().of_papers(['blim'])
  claims = [claim for claim in found.claims if claim.experiments() == ['blim']]
  runs = [experiments.Run(found.experiments['blim'], seed, root)
          for seed in range(3)]
  for run in runs:
    write(run)
  kept = judged.Kept(runs, 'test')
  return {claim.id: judged._claim(claim, kept)['verdict'] for claim in claims}


CPN = 'blim-prior-bias', 'blim-cpn', 'blim-cpn-bias'


def test_whole_code_shows_what_is_in_the_likelihoods(tmp_path):
  found = verdicts(tmp_path)
  assert [found[name] for name in CPN] == ['holds'] * 3


@pytest.mark.parametrize('broken', ['prior zeroed', 'prior of others'])
def test_cpn_with_a_broken_prior_does_not_hold(tmp_path, monkeypatch, broken):
  """Zeroed it changes nothing; shuffled, it is no help on average."""
  def without(direction, alpha):
    if direction.candidate is None or broken == 'prior zeroed':
      return direction.candidate
    prior = np.roll(np.asarray(direction.prior), 7, -1)
    return direction.candidate - np.float32(alpha) * prior
  monkeypatch.setattr(cpn, 'normalized', without)
  found = verdicts(tmp_path)
  assert found['blim-cpn'] != 'holds' and found['blim-cpn-bias'] != 'holds'
  assert found['blim-prior-bias'] == 'holds'  # which needs no CPN
