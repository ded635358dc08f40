"""A closed split is given by no function of any data set."""
import pytest
from ml_collections import ConfigDict

from jaxret.data import closed, sets

SECTION = ConfigDict({'name': 'shapes', 'root': '', 'seed': 0,
                      'texts': {'train': 1, 'validation': 1, 'test': 1}})
CONFIG = ConfigDict({'data': SECTION, 'eval': {'split': 'test'}})


@pytest.mark.parametrize('function, arguments', [
    ('load', (SECTION, 'test')), ('tasks_of_split', (SECTION, 'test')),
    ('questions', (SECTION, 'test')), ('parallel', (SECTION, 'test', 'de')),
    ('benchmark', (CONFIG, ''))])
def test_no_function_gives_it(function, arguments):
  with closed.closed('test'), pytest.raises(
      ValueError, match="^shapes: the split 'test' is closed"):
    getattr(sets.get('shapes', function), function)(*arguments)


def test_every_function_that_gives_a_split_looks():
  """Those that are left give what there is to train on."""
  assert set(sets.OFFERS) - set(closed._SPLITS) == {
      'training_pairs', 'training_sets'}


def test_it_is_closed_by_name_and_by_all_doors(tmp_path):
  (tmp_path / 'captions.json').write_text('[]')
  section = ConfigDict({'name': 'folder', 'root': str(tmp_path),
                        'train_on_all': True})
  with closed.closed('test'):
    with pytest.raises(ValueError, match='is closed'):
      sets.load(section, 'test')
    with pytest.raises(ValueError, match='is closed'):
      sets.get('folder', 'load').load(section=section, split='test')
    with pytest.raises(ValueError, match="^msvd: the split 'test' is closed"):
      sets.tasks('msvd', tmp_path)


def test_what_stands_in_for_another_split_is_closed_too(tmp_path):
  """Where there is no validation, train_on_all gives what test holds."""
  from jaxret.data.sets import splits
  section = ConfigDict({'train_on_all': True})
  def read(split):
    return [splits.Row('a', 'video', 'a.mp4', ('a',))] * (split == 'test')
  assert splits.open_split('mine', read, section, 'train').videos
  with closed.closed('test'), pytest.raises(ValueError, match='is closed'):
    splits.open_split('mine', read, section, 'train')


def test_others_are_open_and_it_opens_again():
  with closed.closed('test'):
    module = sets.get('tests.tiny_claims.words', 'load')
    assert module.load(None, 'validation')[0] == 'validation0'
    with pytest.raises(ValueError, match='is closed'):
      module.load(None, 'test')
  assert sets.get('tests.tiny_claims.words').load(None, 'test')
  with pytest.raises(RuntimeError), closed.closed('test'):
    raise RuntimeError
  closed.check('test', 'words')
