"""Every claim is judged by rows and tasks that its runs do give."""
import dataclasses

import pytest

from jaxret.claims import campaign, experiments, listed
from tests import (
  finished_runs,
  tiny_cross_lingual,
  tiny_embedding,
  tiny_mm_embed,
  tiny_runs,
)

EMBEDDING = {
    name: value for name, value in {
        **tiny_embedding.MODEL, **tiny_embedding.SIZES}.items()
    if not name.startswith('pairs.')}

TINY = {
    'blim': {**tiny_runs.TINY, **{f'data.sizes.{split}': size for split, size
                                  in tiny_runs.SIZES.items()}},
    'answers': {**finished_runs.ANSWERS, 'eval.captions': 0},
    'leccr': {**tiny_cross_lingual.MODEL, **tiny_cross_lingual.SIZES, **{
        f'captioner.{name}': value
        for name, value in tiny_cross_lingual.CAPTIONER.items()}},
    'unite': {**EMBEDDING, 'data.sizes.validation': 40,
              'data.images.validation': 24},
    'mm_embed': {
        **{name: value for name, value in tiny_mm_embed.FIELDS.items()
           if name != 'hard.train.steps'},
        'data.images.validation': 24, 'data.texts.validation': 8},
}
# Of sections that one experiment alone has.
STEPS = {'unite_stages': ('stage1.train.steps', 'one_stage.train.steps'),
         'unite_grains': ('coarse.train.steps', 'fine_after.train.steps'),
         'mm_embed': ('hard.train.steps',)}


def shrunk(found):
  """The same experiments with tiny models and corpora, for a step or two."""
  return listed.Listed(found.claims, {
      name: dataclasses.replace(
          one, change={**one.change, **TINY[one.config.partition(':')[0]],
                       **dict.fromkeys(STEPS.get(name, ()), 2)})
      for name, one in found.experiments.items()})


@pytest.mark.slow
@pytest.mark.parametrize('paper', listed.PAPERS)
def test_every_claim_is_judged(tmp_path, monkeypatch, paper):
  monkeypatch.setenv('JAXRET_CACHE', str(tmp_path / 'cache'))
  found = shrunk(listed.read().of_papers([paper]))
  results = campaign.judge(found, 1, tmp_path / 'all')
  assert [one['id'] for one in results['claims']] == [
      claim.id for claim in found.claims]
  for run in experiments.runs(found, 1, tmp_path / 'all'):
    assert run.is_done('validation') and run.is_done('test')
