"""claims.toml: what it may say, and what it does say."""
import collections
import pathlib

import pytest

from jaxret import methods
from jaxret.claims import experiments, listed
from tests import tiny_claims


def test_all_that_is_listed_can_be_run():
  """Every field that an experiment changes is one of its config file."""
  found = listed.read()
  for run in experiments.runs(found, 2, pathlib.Path('somewhere')):
    config = experiments.config_of(run, 'validation')
    assert config.seed == run.seed and config.data.seed == 0
  by_paper = collections.Counter(claim.paper for claim in found.claims)
  assert set(by_paper) <= set(listed.PAPERS)
  for claim in found.claims:
    assert claim.claim.endswith('.') and claim.counts_for.endswith('.')
    assert claim.counts_against.endswith('.')


def test_rows_are_those_of_their_method():
  """Trained ones are named in the config, others by the method."""
  found = listed.read()
  for claim in found.claims:
    for one in claim.comparisons:
      for name in (one.row, one.baseline):
        experiment, _, row = name.partition('/')
        config = experiments.config_of(experiments.Run(
            found.experiments[experiment], 0, pathlib.Path()), 'test')
        trained = {config.method, *config.get('before', ()),
                   *config.get('compare', ())}
        scored = set(methods.package(config.method).ROWS) - set(config)
        assert row in trained | scored | {'right_answer'}, name


def test_an_experiment_comes_behind_what_it_uses(tmp_path):
  found = listed.read(tiny_claims.write(tmp_path))
  assert list(found.experiments) == ['notes', 'good', 'plain']
  assert [run.name for run in experiments.runs(found, 2, tmp_path)] == [
      'notes/seed-0', 'good/seed-0', 'plain/seed-0', 'good/seed-1',
      'plain/seed-1']


def test_a_paper_has_its_claims_and_what_they_need(tmp_path):
  found = listed.read(tiny_claims.write(tmp_path))
  own = found.of_papers(['blim'])
  assert [claim.id for claim in own.claims] == ['nothing']
  assert list(own.experiments) == ['plain']
  with pytest.raises(ValueError, match="'blmi': use unite, blim"):
    found.of_papers(['unite', 'blmi'])


@pytest.mark.parametrize('old, new, message', [
    ("paper = 'unite'", "paper = 'gpt'", "claim good is of the paper 'gpt'"),
    ("direction = 'higher'", "direction = 'up'", "direction is 'up'"),
    ("id = 'nothing'", "id = 'good'", 'claim good stands there twice'),
    ("row = 'good/ours'", "row = 'best/ours'", "compares 'best/ours'"),
    ("row = 'good/ours'", "row = 'good'", "compares 'good'"),
    ("row = 'good/ours'", "row = 'notes/ours'", 'which runs once'),
    ("tasks = ['words']", 'tasks = []', 'want one task at least'),
    ("tasks = ['words']", "tasks = ['words']\nbaseline_tasks = ['a', 'b']",
     'as many baseline_tasks'),
    ("metric = 'recall_at_1'", "metrics = 'mrr'", 'claim good has no metric'),
    ("metric = 'recall_at_1'", 'metric = 1', 'metric is 1, want a str'),
    ("unit = 'points", "notes = ''\nunit = 'points", "has 'notes': use id"),
    ("'notes/notes.txt'", "'plain/notes.txt'", 'that has once = true'),
    ("about = 'notes'", "about = 'notes", 'no TOML'),
    ('once = true', 'twice = true', "experiment notes has 'twice'")])
def test_what_is_wrong_is_named(tmp_path, old, new, message):
  path = tiny_claims.write(tmp_path)
  path.write_text(path.read_text().replace(old, new, 1))
  with pytest.raises(ValueError, match=message):
    listed.read(path)
