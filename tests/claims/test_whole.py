"""Whole runs at tiny size: of every claim, and of some with broken code."""
import numpy as np
import pytest

from jaxret import losses
from jaxret.claims import campaign, experiments, judged, listed
from jaxret.losses import leccr as leccr_losses
from jaxret.scoring.embeddings import mining
from tests.tiny_claims import shrunk

pytestmark = pytest.mark.usefixtures('one_device')


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('JAXRET_CACHE', str(tmp_path / 'cache'))


@pytest.mark.slow
@pytest.mark.campaign  # minutes each
@pytest.mark.parametrize('paper', listed.PAPERS)
def test_every_claim_is_judged_by_rows_and_tasks_that_are_there(
    tmp_path, paper):
  found = shrunk.shrunk(listed.read().of_papers([paper]))
  results = campaign.judge(found, 1, tmp_path / 'all')
  assert [one['id'] for one in results['claims']] == [
      claim.id for claim in found.claims]
  for run in experiments.runs(found, 1, tmp_path / 'all'):
    assert run.is_done('validation') and run.is_done('test')


def without_mask(monkeypatch):
  whole = losses.modal_contrastive
  monkeypatch.setattr(
      losses, 'modal_contrastive',
      lambda query, candidate, temperature, modality, *rest: whole(
          query, candidate, temperature, None, *rest))


def without_softened_matching(monkeypatch):
  whole = leccr_losses.total
  monkeypatch.setattr(leccr_losses, 'total', lambda parts, weights: whole(
      parts, {**weights, 'softened_weight': 0.0 * weights['softened_weight']}))


def with_random_negatives(monkeypatch):
  whole = mining.split
  monkeypatch.setattr(mining, 'split', lambda *arguments: whole(
      *arguments[:-1], 'random'))


BROKEN = {'unite-mamcl': without_mask,
          'leccr-softened-matching': without_softened_matching,
          'mm-embed-modality-aware': with_random_negatives}


def rows_differ(root, found):
  """Whether any query has another rank in a row than in its baseline."""
  kept = judged.Kept(experiments.runs(found, 1, root), 'validation')
  one, = found.claims[0].comparisons
  return any((kept.values(one.row, task, 'mrr')[1]
              != kept.values(one.baseline, task, 'mrr')[1]).any()
             for task in one.tasks)


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize('name', BROKEN)
def test_a_part_that_does_nothing_is_no_longer_seen(
    tmp_path, monkeypatch, name):
  """Row and baseline are then the same training, to the bit."""
  found = shrunk.of_claim(name)
  campaign.judge(found, 1, tmp_path / 'whole', 'validation')
  assert rows_differ(tmp_path / 'whole', found)
  BROKEN[name](monkeypatch)
  results = campaign.judge(found, 1, tmp_path / 'broken', 'validation')
  assert not rows_differ(tmp_path / 'broken', found)
  claim, = results['claims']
  assert claim['verdict'] == 'no difference seen'
  np.testing.assert_array_equal(claim['comparisons'][0]['ci95'], [0.0, 0.0])
