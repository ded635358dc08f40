"""Runs in processes of their own, and what is said of one that fails."""
import dataclasses
import json

import pytest

from jaxret.claims import campaign, experiments, listed, side_by_side
from tests import tiny_claims


@pytest.fixture
def found(tmp_path):
  return listed.read(tiny_claims.write(tmp_path))


def test_two_at_a_time_give_what_one_after_the_other_does(
    found, tmp_path, capsys):
  for name, jobs in (('one', 1), ('two', 2)):
    campaign.judge(found, 1, tmp_path / name, jobs=jobs)
  one, two = ((tmp_path / name / 'claims.json').read_bytes()
              for name in ('one', 'two'))
  assert one == two
  times = [json.loads((tmp_path / name / 'times.json').read_text())
           for name in ('one', 'two')]
  assert len(times[0]) == 6 and times[0].keys() == times[1].keys()
  assert 'claims: 6 of 6, plain/seed-0 on test' in capsys.readouterr().err


def test_what_uses_others_waits_for_them(found, tmp_path):
  notes, good, plain = experiments.runs(found, 1, tmp_path)

  def chosen(waiting, doing):
    return side_by_side._next(waiting, doing, lambda run: None)

  assert chosen([notes, good, plain], []) == notes
  assert chosen([good, plain], [notes]) == plain
  assert chosen([good], [notes]) is None
  assert chosen([good], [plain]) == good


def test_what_takes_long_does_not_come_last(found, tmp_path):
  """The unknown first, then the longest; not what another one compiles."""
  notes, good, plain, good_1, plain_1 = experiments.runs(found, 2, tmp_path)
  known = {}

  def chosen(waiting, doing=()):
    return side_by_side._next(
        list(waiting), list(doing), lambda run: known.get(run.experiment.name))

  assert chosen([good, plain, good_1, plain_1]) == good
  assert chosen([plain, good_1, plain_1], [good]) == plain
  assert chosen([good_1, plain_1], [good]) == plain_1
  assert chosen([good_1], [good]) == good_1
  known['plain'] = 10.0
  assert chosen([plain, good_1, plain_1]) == good_1
  known['good'] = 20.0
  assert chosen([plain_1, good_1]) == good_1
  known['plain'] = 30.0
  assert chosen([good_1, plain_1]) == plain_1


def test_a_run_that_fails_is_named_with_its_last_words(found, tmp_path):
  failing = dataclasses.replace(
      found.experiments['good'], uses={}, change={'skill': 0.6})
  run = experiments.Run(failing, 0, tmp_path / 'all')
  with pytest.raises(ValueError, match=r'good/seed-0: IsADirectoryError: .*'
                     r'\(exit status 1; .*log.txt has more'):
    side_by_side.do([run], 'validation', 2, lambda run: None,
                    lambda run, seconds: None)
  assert not run.is_done('validation')


def test_the_test_split_is_closed_there_too(found, tmp_path, monkeypatch):
  """A run that looks at it before all that is chosen is frozen."""
  path = tmp_path / 'toy' / 'toy.py'
  path.write_text(path.read_text().replace(
      "'notes': ''", "'notes': '', 'peek': True"))
  run = experiments.Run(found.experiments['plain'], 0, tmp_path / 'all')
  with pytest.raises(ValueError, match="the split 'test' is closed"):
    side_by_side.do([run], 'validation', 2, lambda run: None,
                    lambda run, seconds: None)
