"""`jaxret claims`: what it prints, and what it is not given."""
import json

import pytest

from jaxret import cli
from jaxret.claims import listed
from tests import tiny_claims


@pytest.fixture
def claims(tmp_path, monkeypatch):
  """Calls the verb on toy claims, in a workdir of its own."""
  monkeypatch.setattr(listed, 'PATH', tiny_claims.write(tmp_path))
  def call(*flags):
    return cli.main(['claims', f'--workdir={tmp_path / "all"}', *flags])
  return call


def test_it_prints_a_table_and_names_the_page(claims, tmp_path, capsys):
  assert claims('--seeds=2') == 0
  out, err = capsys.readouterr()
  assert '2 claims on test, 2 seeds: 1 holds, 1 no difference seen' in out
  assert [line.split()[-1] for line in out.splitlines()[-2:]] == [
      'holds', 'seen']
  assert f'page: {tmp_path / "all" / "claims"}.html' in err
  page = (tmp_path / 'all' / 'claims.html').read_text()
  for said in ('The good one is better.', 'It is not.', 'good/seed-1/report',
               'no difference seen', '<svg', 'in favour of the claim'):
    assert said in page


def test_json_is_what_is_kept(claims, tmp_path, capsys):
  assert claims('--seeds=1', '--json', '--paper=unite',
                '--until=validation') == 0
  found = json.loads(capsys.readouterr().out)
  assert found == json.loads(
      (tmp_path / 'all' / 'claims_validation.json').read_bytes())
  assert [one['id'] for one in found['claims']] == ['good']
  assert found['split'] == 'validation'


@pytest.mark.parametrize('flag, message', [
    ('--seeds=0', '--seeds is 0, want 1 at least'),
    ('--paper=mbeir', "no claims of the paper 'mbeir': use unite, blim"),
    ('--until=train', "invalid choice: 'train'"),
    ('--sed=3', 'unrecognized arguments: --sed=3')])
def test_what_is_wrong_is_said_in_one_line(claims, capsys, flag, message):
  assert claims(flag) == 1
  error, = capsys.readouterr().err.splitlines()
  assert message in error
