"""A system without golden data: skipped in others' folders, never in ours."""
import types

import pytest

from tests.parity import conftest


def folder(root, system='blim'):
  return conftest.folder(
      types.SimpleNamespace(getoption=lambda name: root), system)


def test_a_missing_system_is_skipped_only_where_the_folder_is_not_ours(
    tmp_path, monkeypatch):
  with pytest.raises(pytest.skip.Exception, match='holds no folder blim/'):
    folder(tmp_path)
  monkeypatch.setattr(conftest, 'OURS', tmp_path)
  with pytest.raises(pytest.fail.Exception, match='the checkout is not whole'):
    folder(tmp_path)
  (tmp_path / 'blim').mkdir()
  assert folder(tmp_path) == tmp_path / 'blim'


def test_a_folder_that_is_not_there_fails(tmp_path):
  with pytest.raises(pytest.fail.Exception, match='is not a folder'):
    folder(tmp_path / 'nowhere')
