"""The scenes of a run: what is left out, where it starts, what it says."""
import json
import pathlib

import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxret import report, run
from jaxret.data import sets, types
from jaxret.data.sets import splits


class Media:
  """Some of `n` media are bad; counts what is decoded."""

  def __init__(self, n, bad):
    self.n, self.bad, self.decoded = n, bad, []

  def scan(self, rows, progress=True):
    rows = list(rows)
    self.decoded += rows
    return {i: f'reason {i}' for i in rows if i in self.bad}


def lines(workdir):
  found = [json.loads(line) for line in
           (pathlib.Path(workdir) / 'skipped.jsonl').read_text().splitlines()]
  assert all(line.pop('crc32') for line in found)
  return found


def test_media_are_decoded_once_for_the_same_ids(tmp_path):
  ids, record = ['a', 'b', 'c'], tmp_path / 'media' / 'test.json'
  media = Media(3, {1})
  assert run.unreadable(ids, media, record) == {'b': 'reason 1'}
  assert media.decoded == [0, 1, 2]
  assert run.unreadable(ids, media, record) == {'b': 'reason 1'}
  assert media.decoded == [0, 1, 2]  # the record answers
  other = Media(3, {2})
  assert run.unreadable(['a', 'b', 'd'], other, record) == {'d': 'reason 2'}
  assert other.decoded == [0, 1, 2]


def test_what_is_left_out_is_listed_once_and_counted_once(tmp_path):
  first = [{'id': 'a', 'reason': 'cut'}, {'id': 'b', 'reason': 'empty'}]
  run.leave_out(tmp_path, 'train', first, 5, 'files of own train')
  run.leave_out(tmp_path, 'train', first[:1], 5, 'files of own train')
  run.leave_out(tmp_path, 'test', first[:1], 5, 'files of own test')
  assert lines(tmp_path) == [
      {**first[0], 'split': 'train'}, {**first[1], 'split': 'train'},
      {**first[0], 'split': 'test'}]
  assert run.left_out(tmp_path) == 2  # 'a' once, though in two splits


def test_nothing_left_out_leaves_no_file(tmp_path):
  run.leave_out(tmp_path, 'train', [], 0, 'files')
  assert not list(tmp_path.iterdir()) and run.left_out(tmp_path) == 0


def test_all_left_out_is_an_error_that_names_the_first(tmp_path):
  with pytest.raises(ValueError) as caught:
    run.leave_out(tmp_path, 'test', [{'id': 'x.mp4', 'reason': 'no frames'}],
                  1, 'files of own test')
  assert str(caught.value) == ('none of the 1 files of own test can be read; '
                               'the first: x.mp4: no frames')
  assert len(lines(tmp_path)) == 1


LOST = [types.LeftOut(f'f.jsonl:{i}', f'f.jsonl, line {i}: got none')
        for i in (3, 4, 4, 7, 9)]


def test_entries_of_files_are_left_out_listed_and_counted(tmp_path):
  config = ConfigDict({'data': {'strict': False}})
  for _ in range(2):
    run.leave_out_entries(config, tmp_path, 'test', LOST)
  assert lines(tmp_path) == [
      {'id': f'f.jsonl:{i}', 'reason': f'f.jsonl, line {i}: got none',
       'split': 'test'} for i in (3, 4, 7, 9)]
  assert run.left_out(tmp_path) == 4
  # A config of before there was the field; nothing to leave out.
  run.leave_out_entries(ConfigDict({'data': {}}), tmp_path, 'test', [])


def test_strict_refuses_them_with_the_first_names(tmp_path):
  config = ConfigDict({'data': {'strict': True}})
  run.leave_out_entries(config, tmp_path, 'test', [])
  with pytest.raises(ValueError) as caught:
    run.leave_out_entries(config, tmp_path, 'test', LOST)
  assert str(caught.value) == (
      'data.strict: 4 entries of split test cannot be used: f.jsonl, line 3: '
      'got none; f.jsonl, line 4: got none; f.jsonl, line 7: got none; and 1 '
      'more: mend the files, or set data.strict=False to leave them out')
  assert not list(tmp_path.iterdir())


def test_a_stage_changes_what_its_section_says_and_has_no_sections():
  config = ConfigDict({
      'before': ('a',), 'train': {'steps': 9, 'batch_size': 4},
      'a': {'train': {'steps': 2}}, 'b': {'train': {'steps': 3}}})
  stage = run.stage_config(config, ('a', 'b'), 'a', before=())
  assert stage.to_dict() == {
      'before': (), 'train': {'steps': 2, 'batch_size': 4}}
  assert config.train.steps == 9 and config.before == ('a',)


@pytest.mark.parametrize('fields, workdir, earlier', [
    ({'init_from': ''}, 'runs/x', None),
    ({'init_from': 'old'}, 'runs/x', pathlib.Path('old')),
    # The run's own training starts from a stage below it, a stage's from one
    # beside it.
    ({'starts_from': 'a', 'before': ('a',)}, 'runs/x',
     pathlib.Path('runs/x/a')),
    ({'starts_from': 'a', 'before': ()}, 'runs/x/b', pathlib.Path('runs/x/a')),
])
def test_where_a_run_goes_on_from(fields, workdir, earlier):
  config = ConfigDict({'init_from': '', **fields})
  assert run.earlier_run(config, workdir) == earlier


def test_weights_were_trained_on_what_each_run_before_was(tmp_path):
  old, new = tmp_path / 'old', tmp_path / 'new'
  for workdir, config in ((old, {'data': {'name': 'first'}, 'init_from': ''}),
                          (new, {'data': {'name': 'second'},
                                 'init_from': str(old)})):
    (workdir / 'checkpoints').mkdir(parents=True)
    (workdir / 'config.json').write_text(json.dumps(config))
  config = ConfigDict(json.loads((new / 'config.json').read_text()))
  assert [data.name for data in run.trained_on(config, new)] == [
      'second', 'first']
  # What has trained nothing itself was trained on what its start was.
  assert [data.name for data in run.trained_on(config, tmp_path / 'empty')] == [
      'first']


@pytest.mark.parametrize('trained, fields, refused', [
    (False, {'init_from': '', 'pretrained': ''}, True),
    (True, {'init_from': '', 'pretrained': ''}, False),
    (False, {'init_from': 'x', 'pretrained': ''}, False),
    (False, {'init_from': '', 'pretrained': 'y'}, False)])
def test_an_evaluation_needs_weights(trained, fields, refused):
  config = ConfigDict({'init_from': fields['init_from'],
                       'model': {'pretrained': fields['pretrained']}})
  if refused:
    with pytest.raises(ValueError, match='here holds no checkpoints'):
      run.check_weights(config, 'here', trained)
  else:
    run.check_weights(config, 'here', trained)


RESULTS = {
    'dataset': 'toy', 'split': 'test', 'left_out': 0, 'main_row': 'our_row',
    'sizes': {'tasks': 2}, 'tasks': {
        name: {'queries': 4, 'candidates': 4, 'chance': 25.0, 'left_out': 0}
        for name in ('a_to_b', 'b_to_a')},
    **{name: {'our_row': {
        'recall_at_1': 50.0, 'median_rank': 1.5, 'mean_rank': 2.0, 'mrr': 0.7,
        'recall_at_1_ci95': [0.0, 100.0]}} for name in ('a_to_b', 'b_to_a')}}


def published(tmp_path, monkeypatch, name, source):
  """(report.html, results.txt) of a method from outside the repository."""
  outer = tmp_path / name.partition('.')[0]
  package = tmp_path / name.replace('.', '/')
  package.mkdir(parents=True)
  (outer / '__init__.py').touch()
  (package / '__init__.py').write_text(source)
  monkeypatch.syspath_prepend(tmp_path)
  run.publish(ConfigDict({'method': name}), tmp_path, RESULTS)  # no `eval`
  return [(tmp_path / file).read_text()
          for file in ('report.html', 'results.txt')]


def test_a_method_without_rows_is_published(tmp_path, monkeypatch, capsys):
  page, table = published(tmp_path, monkeypatch, 'outside_bare.toy', '')
  assert '<tr class="main ">\n<th scope="row">our row</th>' in page
  assert 'our row' in table and capsys.readouterr().out == table + '\n'


def test_rows_are_called_as_their_package_says(tmp_path, monkeypatch):
  page, table = published(
      tmp_path, monkeypatch, 'outside_said.toy',
      "ROWS = {'our_row': 'Our Method'}\n"
      "EXPLAINED = {'our_row': 'It is ours.'}\n")
  assert '<th scope="row">Our Method</th>' in page and 'our row' not in page
  assert page.count('It is ours.') == 1
  assert 'Our Method' in table


@pytest.mark.parametrize('embed', [False, True])
def test_the_config_says_whether_the_page_holds_media(tmp_path, embed):
  clip = tmp_path / 'a.mp4'
  clip.write_bytes(b'a clip')
  shown = report.Shown('a', frames=np.zeros((1, 8, 8, 3), np.uint8),
                       path=str(clip))
  query = report.GalleryQuery('a_to_b', report.Shown('q', 'a dog'), shown, {
      'our_row': report.Ranked(1, (shown,), (True,))})
  run.publish(
      ConfigDict({'method': 'unite', 'eval': {'embed_media': embed}}), tmp_path,
      RESULTS, gallery=[query])
  page = (tmp_path / 'report.html').read_text()
  assert ('data:video/mp4;base64,YSBjbGlw' in page) == embed
  assert ('href="./a.mp4"' in page) == (not embed)


def folder(root):
  """Two clips and their captions; their names are those of every folder."""
  root.mkdir()
  for i in range(2):
    (root / f'{i}.mp4').write_bytes(b'x')
  (root / 'captions.json').write_text(json.dumps([
      {'video': f'{i}.mp4', 'caption': 'a clip'} for i in range(2)]))
  return root


def own_run(workdir, root, init_from='', trained=True):
  """The config of a run on a folder, which has left it in its workdir."""
  config = ConfigDict({'init_from': str(init_from), 'data': {
      'name': 'folder' if root else 'shapes', 'root': str(root),
      'train_on_all': True}})
  (workdir / 'checkpoints' if trained else workdir).mkdir(parents=True)
  (workdir / 'config.json').write_text(json.dumps(config.to_dict()))
  return config


def note(config, workdir):
  return splits.note(run.trained_on(config, workdir),
                      sets.load(config.data, 'test'))


def test_clips_that_were_trained_on_are_told(tmp_path):
  own = folder(tmp_path / 'own')
  config = own_run(tmp_path / 'run', own)
  assert 'the same clips' in note(config, tmp_path / 'run')
  config = own_run(tmp_path / 'later', own, tmp_path / 'run', trained=False)
  assert 'the same clips' in note(config, tmp_path / 'later')
  other = folder(tmp_path / 'other')
  own_run(tmp_path / 'between', other, tmp_path / 'run')
  config = own_run(
      tmp_path / 'last', own, tmp_path / 'between', trained=False)
  assert 'the same clips' in note(config, tmp_path / 'last')


@pytest.mark.parametrize('seen', ['shapes', 'other', 'gone', 'nothing'])
def test_weights_that_never_saw_the_clips_are_not_told_off(tmp_path, seen):
  """Nothing is trained here: the weights come from another run, or files."""
  first = ''
  if seen != 'nothing':
    first = tmp_path / 'first'
    own_run(first, '' if seen == 'shapes' else tmp_path / seen)
  folder(tmp_path / 'other')
  config = own_run(
      tmp_path / 'run', folder(tmp_path / 'own'), first, trained=False)
  assert note(config, tmp_path / 'run') == ''


def test_splits_of_one_folder_are_kept_apart(tmp_path):
  root = folder(tmp_path / 'own')
  (root / 'captions.json').write_text(json.dumps([
      {'video': f'{i}.mp4', 'caption': 'a clip', 'split': split}
      for i, split in enumerate(('train', 'test'))]))
  assert note(own_run(tmp_path / 'run', root), tmp_path / 'run') == ''
