"""Shares that are held out, ids that meet, results on what was trained on."""
import pytest

from jaxret.data import sets
from jaxret.data.sets import splits
from tests.captions import annotate, fails, section


def test_validation_is_held_out_of_train_by_video(tmp_path):
  train = [{'video': f'video{i % 40}.mp4', 'caption': f'{i}'}
           for i in range(80)]
  annotate(tmp_path, 'msrvtt', train, train[:1])
  whole = sets.load(section('msrvtt', tmp_path), 'train')
  config = section('msrvtt', tmp_path, validation_fraction=0.1)
  kept, held = (sets.load(config, s) for s in ('train', 'validation'))
  ids = [{v.id for v in split.videos} for split in (whole, kept, held)]
  assert len(held.videos) == 4 and len(held.texts) == 8
  assert ids[1] | ids[2] == ids[0] and not ids[1] & ids[2]
  # The choice depends on the ids, not on the order of the file.
  annotate(tmp_path, 'msrvtt', train[::-1], train[:1])
  again = sets.load(config, 'validation')
  assert {v.id for v in again.videos} == ids[2]
  fails(section('msrvtt', tmp_path), 'validation', 'data.validation_fraction')


def test_two_files_with_one_id(tmp_path):
  annotate(tmp_path, 'msrvtt', [], [
      {'video': 'a.mp4', 'caption': 'x'}, {'video': 'a.b.mp4', 'caption': 'x'}])
  fails(section('msrvtt', tmp_path), 'test', "the same id 'a'", 'a.b.mp4')


OWN = """
import numpy as np

from jaxret.data import types


def load(section, split):
  return types.Split('own', split, (types.Item('a', {medium}),),
                     (types.Item('a#0', text='a'),), np.zeros(1, np.int32))
"""


@pytest.mark.parametrize('medium, is_told', [
    ("video=section.root + '/a.mp4'", True),
    ("video=f'{section.root}/{split}.mp4'", False),
    ('image=np.zeros((2, 2, 3), np.uint8)', False)])
def test_a_set_from_elsewhere_may_share_clips_between_splits(
    tmp_path, monkeypatch, medium, is_told):
  """Unless it says otherwise; what is in memory cannot be told apart."""
  name = f'own_{tmp_path.name}'
  (tmp_path / name).mkdir()
  (tmp_path / name / 'clips.py').write_text(OWN.replace('{medium}', medium))
  monkeypatch.syspath_prepend(tmp_path)
  own = section(f'{name}.clips', tmp_path)
  note = splits.note([own], sets.load(own, 'test'))
  assert ('the same clips' in note) == is_told
  monkeypatch.setattr(sets.get(own.name), 'SPLITS_APART', True, raising=False)
  assert splits.note([own], sets.load(own, 'test')) == ''
