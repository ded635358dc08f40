"""Shares that are held out, and ids that meet."""
from jaxret.data import sets
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
