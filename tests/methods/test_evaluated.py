"""What embedders are evaluated on: folders, groups, a split both ways."""
from ml_collections import ConfigDict

from jaxret.data.sets import mmeb, webvid_covr
from jaxret.methods import evaluated
from tests.benchmark_files import parquet, write


def settings(folder, *benchmarks, **fields):
  return ConfigDict({
      'data': {'name': 'folder', 'root': str(folder / 'own')},
      'eval': {'benchmarks': benchmarks, 'root': '', 'split': 'test',
               'tasks': (), **fields}})


def clips(folder, texts):
  for name in texts:
    write(folder / f'{name}.mp4', b'x')
  write(folder / 'captions.json', [
      {'video': f'{name}.mp4', 'caption': caption, 'split': split}
      for name, captions in texts.items()
      for split in ('train' if name.startswith('t') else 'test',)
      for caption in captions])


def benchmark(folder, name):
  """Files of one query in the published layout."""
  if name == 'msrvtt_1ka':
    write(folder / 'MSRVTT_JSFUSION_test.csv',
          f'video_id,sentence\nv,of {folder.name}\n')
  elif name == 'webvid_covr':
    write(folder / 'webvid8m-covr_test.csv',
          f'pth1,pth2,edit\na/1,a/2,of {folder.name}\n')
  else:
    parquet(folder / 'CIRR' / 'test-0.parquet', [{
        'qry_text': f'of {folder.name}', 'qry_img_path': '',
        'tgt_text': ['x'], 'tgt_img_path': ['']}])


def test_each_of_several_benchmarks_has_its_own_folder(tmp_path):
  for name in ('msrvtt_1ka', 'webvid_covr'):
    benchmark(tmp_path / name, name)
  both = settings(tmp_path, 'webvid_covr', 'msrvtt_1ka', root=str(tmp_path))
  one = settings(tmp_path, 'msrvtt_1ka', root=str(tmp_path / 'msrvtt_1ka'))
  found = evaluated.evaluated(both)
  assert [each.name for each in found] == ['webvid_covr', 'msrvtt_1ka']
  assert [each.tasks[0].queries[0].text for each in found] == [
      'of webvid_covr', 'of msrvtt_1ka']
  again, = evaluated.evaluated(one)
  assert again.tasks[0].queries == found[1].tasks[0].queries
  # Without eval.root it is data.root.
  benchmark(tmp_path / 'own', 'msrvtt_1ka')
  own, = evaluated.evaluated(settings(tmp_path, 'msrvtt_1ka'))
  assert own.tasks[0].queries[0].text == 'of own'


def test_a_benchmark_says_its_depths_frames_and_groups(tmp_path):
  for name in ('msrvtt_1ka', 'webvid_covr', 'mmeb'):
    benchmark(tmp_path / name, name)
  covr, plain = evaluated.evaluated(settings(
      tmp_path, 'webvid_covr', 'msrvtt_1ka', root=str(tmp_path)))
  lists, = evaluated.evaluated(settings(
      tmp_path, 'mmeb', root=str(tmp_path / 'mmeb'), tasks=('CIRR',)))
  assert covr.recall_at == (1, 5, 10, 50) and plain.recall_at == (1, 5, 10)
  assert covr.n_frames == webvid_covr.N_FRAMES == 16 and lists.n_frames == 0
  assert lists.groups == mmeb.GROUPS and not covr.groups
  assert [task.name for task in lists.tasks] == ['CIRR']
  assert covr.split is plain.split is lists.split is None


def test_a_split_of_ones_own_is_tasks_both_ways(tmp_path):
  clips(tmp_path / 'own', {'t1': ['one', 'two'], 't2': ['three'],
                           'e1': ['four']})
  found, = evaluated.evaluated(settings(tmp_path, 'folder'))
  to_video, to_text = found.tasks
  assert [item.text for item in to_video.queries] == ['four']
  assert [item.id for item in to_text.queries] == ['e1.mp4']
  assert found.split.name == 'test' and found.groups is None
  # The same files as of another set than the one that is trained on.
  other = settings(tmp_path, 'folder', root=str(tmp_path / 'own'))
  other.data.update(name='pairs', root='')
  assert evaluated.evaluated(other)[0].tasks[0].queries == to_video.queries


def test_what_files_hold_besides_goes_with_what_is_evaluated(tmp_path):
  benchmark(tmp_path / 'msrvtt_1ka', 'msrvtt_1ka')
  with (tmp_path / 'msrvtt_1ka' / 'MSRVTT_JSFUSION_test.csv').open('a') as file:
    file.write('w,\n')
  one, = evaluated.evaluated(settings(
      tmp_path, 'msrvtt_1ka', root=str(tmp_path / 'msrvtt_1ka')))
  # Once, though both directions lack it.
  assert [bad.id for bad in one.left_out] == ['MSRVTT_JSFUSION_test.csv:2']
