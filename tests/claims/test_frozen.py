"""What is frozen is named when it changes."""
import dataclasses

import pytest

from jaxret.claims import experiments, frozen, listed
from tests import tiny_claims


@pytest.fixture
def settled(tmp_path):
  """(claims, runs) whose frozen.json is written."""
  found = listed.read(tiny_claims.write(tmp_path))
  runs = experiments.runs(found, 1, tmp_path)
  for run in runs:
    run.workdir.mkdir(parents=True)
    run.ranks('validation').write_bytes(run.name.encode())
  frozen.settle(tmp_path, found, runs)
  return found, runs


def test_the_same_is_accepted_and_kept(settled, tmp_path):
  before = (tmp_path / 'frozen.json').read_bytes()
  frozen.settle(tmp_path, *settled)
  assert (tmp_path / 'frozen.json').read_bytes() == before


def test_a_change_is_refused_by_name(settled, tmp_path, monkeypatch):
  found, runs = settled
  changed = dataclasses.replace(
      runs[1].experiment, change={'skill': 0.7})
  others = [runs[0], runs[1]._replace(experiment=changed), runs[2]]
  with pytest.raises(ValueError, match=r'other configs \(good/seed-0\)'):
    frozen.settle(tmp_path, found, others)
  claims = (dataclasses.replace(found.claims[0], margin=1.0), found.claims[1])
  with pytest.raises(ValueError, match=r'other claims \(good\)'):
    frozen.settle(tmp_path, dataclasses.replace(found, claims=claims), runs)
  runs[2].ranks('validation').write_bytes(b'other')
  with pytest.raises(ValueError, match=r'other validation \(plain/seed-0\)'):
    frozen.settle(tmp_path, found, runs)
  runs[2].ranks('validation').write_bytes(runs[2].name.encode())
  monkeypatch.setattr(frozen, 'world', lambda: 'another')
  with pytest.raises(ValueError, match='other world: to change'):
    frozen.settle(tmp_path, found, runs)


def test_where_it_lies_does_not_count(tmp_path):
  """Paths that differ from place to place are not part of a config."""
  found = listed.read(tiny_claims.write(tmp_path))
  digests = [frozen.config_without_paths(experiments.Run(
      found.experiments['good'], 0, tmp_path / name)) for name in 'ab']
  assert digests[0] == digests[1] and digests[0]['notes'] == 'notes/notes.txt'
