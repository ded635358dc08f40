"""All runs on validation, then the test split, once; killed, and gone on."""
import json

import pytest

from jaxret.claims import campaign, listed, page
from tests import tiny_claims
from tests.tiny_claims import run as tiny_run
from tests.tiny_claims import words


@pytest.fixture(autouse=True)
def counted(monkeypatch):
  for record in (tiny_run.DONE, tiny_run.STOP_AT, words.READ):
    record.clear()


@pytest.fixture
def found(tmp_path):
  return listed.read(tiny_claims.write(tmp_path))


def test_what_is_claimed_is_judged(found, tmp_path):
  results = campaign.judge(found, 3, tmp_path / 'all')
  assert json.loads((tmp_path / 'all' / 'claims.json').read_bytes()) == results
  good, nothing = results['claims']
  assert good['verdict'] == 'holds' and len(
      good['comparisons'][0]['of_seeds']) == 3
  assert nothing['verdict'] == 'no difference seen'
  assert results['verdicts'] == {
      'holds': 1, 'no difference seen': 1, 'opposite': 0}
  text = page.text(results)
  assert 'good: The good one is better.' in text and 'holds' in text


def test_the_test_split_is_opened_once_behind_all_that_was_chosen(
    found, tmp_path):
  campaign.judge(found, 2, tmp_path / 'all')
  first = words.READ.index('test')
  assert set(words.READ[:first]) == {'validation'}
  assert set(words.READ[first:]) == {'test'}
  trained = [task for task, _, split in tiny_run.DONE if split == 'test']
  assert set(trained) == {'evaluate'} and len(trained) == 4
  n_read = len(words.READ)
  campaign.judge(found, 2, tmp_path / 'all')
  assert len(words.READ) == n_read


def test_until_validation_it_stays_closed(found, tmp_path):
  results = campaign.judge(found, 2, tmp_path / 'all', 'validation')
  assert results['split'] == 'validation' and 'test' not in words.READ
  assert not (tmp_path / 'all' / 'frozen.json').exists()
  assert (tmp_path / 'all' / 'claims_validation.html').is_file()
  campaign.judge(found, 2, tmp_path / 'all')
  assert (tmp_path / 'all' / 'claims.html').is_file()


def test_a_method_that_looks_at_test_too_early_fails(
    found, tmp_path, monkeypatch):
  def peek(config, workdir):
    config.eval.split = 'test'
    honest(config, workdir)
  honest = tiny_run.train_and_evaluate
  monkeypatch.setattr(tiny_run, 'train_and_evaluate', peek)
  with pytest.raises(ValueError, match="the split 'test' is closed"):
    campaign.judge(found, 1, tmp_path / 'all')


@pytest.mark.parametrize('after', range(1, 8, 2))
def test_stopped_anywhere_it_ends_with_the_same_bytes(found, tmp_path, after):
  campaign.judge(found, 2, tmp_path / 'whole')
  tiny_run.STOP_AT[:] = [after]
  with pytest.raises(KeyboardInterrupt):
    campaign.judge(found, 2, tmp_path / 'stopped')
  tiny_run.STOP_AT.clear()
  n_done = len(tiny_run.DONE)
  campaign.judge(found, 2, tmp_path / 'stopped')
  assert len(tiny_run.DONE) - n_done == 8 - after  # nothing is run twice
  whole, stopped = ((tmp_path / name / 'claims.json').read_bytes()
                    for name in ('whole', 'stopped'))
  assert whole == stopped


def test_nothing_is_changed_behind_the_test_split(found, tmp_path):
  campaign.judge(found, 2, tmp_path / 'all')
  with pytest.raises(ValueError, match='opened with other configs'):
    campaign.judge(found, 3, tmp_path / 'all')
  path = tmp_path / 'claims.toml'
  path.write_text(path.read_text().replace(
      "metric = 'recall_at_1'", "metric = 'recall_at_5'", 1))
  with pytest.raises(ValueError, match=r'opened with other claims \(good\)'):
    campaign.judge(listed.read(path), 2, tmp_path / 'all')


def test_progress_says_what_is_left(found, tmp_path, capsys):
  (tmp_path / 'all').mkdir()
  (tmp_path / 'all' / 'times.json').write_text(
      '{"plain/seed-9 on test": 240, "notes/seed-0 on test": 6000}')
  campaign.judge(found, 2, tmp_path / 'all')
  lines = [line for line in capsys.readouterr().err.splitlines()
           if line.startswith('claims: ')]
  assert lines[0].startswith('claims: 1 of 10, notes/seed-0 on validation; ')
  assert lines[-1] == ('claims: 10 of 10, plain/seed-1 on test; about 2 min '
                       'left')
  seconds = json.loads((tmp_path / 'all' / 'times.json').read_bytes())
  assert len(seconds) == 11 and all(took >= 0 for took in seconds.values())
