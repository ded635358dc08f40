"""Every benchmark on small files of its published layout."""
import csv
import json

import pytest

from jaxret.data import sets
from jaxret.data.sets import sharegpt4v, webvid_covr
from tests.benchmark_files import refused, relevant, texts, write


def test_msrvtt_1ka(tmp_path):
  write(tmp_path / 'MSRVTT_JSFUSION_test.csv',
        'key,vid_key,video_id,sentence\n'
        'ret0,msr9770,video9770,a person connects something\n'
        'ret1,msr7020,video7020,"a woman, who sings"\n')
  write(tmp_path / 'videos' / 'video7020.mp4', b'x')
  to_video, to_text = sets.tasks('msrvtt_1ka', tmp_path)
  assert texts(to_video.queries) == ['a person connects something',
                                     'a woman, who sings']
  assert relevant(to_video) == relevant(to_text) == [[0], [1]]
  assert to_text.queries[1].video.endswith('videos/video7020.mp4')
  write(tmp_path / 'MSRVTT_JSFUSION_test.csv', (
      '\ufeffkey,vid_key,video_id,sentence\r\nret0,m,video1,"one\u2028\x85\x0b '
      '""text"""\r\nret1,m,video2,\r\n').encode())
  to_video, _ = sets.tasks('msrvtt_1ka', tmp_path)
  assert texts(to_video.queries) == ['one\u2028\x85\x0b "text"']
  assert [one.id for one in to_video.left_out] == [
      'MSRVTT_JSFUSION_test.csv:2']
  write(tmp_path / 'MSRVTT_JSFUSION_test.csv',
        'key,vid_key,video_id,sentence\nret0,m,video1,a dog, running\n')
  refused('msrvtt_1ka', tmp_path, 'entry 1: got 5 columns, wanted 4')
  write(tmp_path / 'MSRVTT_JSFUSION_test.csv', 'video,sentence\nv,a\n')
  refused('msrvtt_1ka', tmp_path, 'columns video, sentence', 'video_id')


def test_msvd_many_captions(tmp_path):
  write(tmp_path / 'test_list.txt', 'ab_1_5\ncd_2_9\n')
  write(tmp_path / 'AllVideoDescriptions.txt',
        '# a comment\n\nab_1_5 a cat runs\nother_3_4 not in test\n'
        'cd_2_9 rain falls\nab_1_5 an animal moves\n')
  to_video, to_text = sets.tasks('msvd', tmp_path)
  assert texts(to_video.queries) == ['a cat runs', 'an animal moves',
                                     'rain falls']
  assert relevant(to_text) == [[0, 1], [2]]
  assert to_text.queries[0].video.endswith('YouTubeClips/ab_1_5.avi')
  write(tmp_path / 'test_list.txt', b'\xef\xbb\xbfab_1_5\r\nnone_0_1\r\n')
  write(tmp_path / 'AllVideoDescriptions.txt', (
      '\ufeffab_1_5 one\u2028record\x85with\x0bodd\x0cends\rinside\r\n'
      'ab_1_5 \r\nab_1_5 two\r\n').encode())
  to_video, _ = sets.tasks('msvd', tmp_path)
  assert texts(to_video.queries) == [
      'one\u2028record\x85with\x0bodd\x0cends\rinside', 'two']
  (bad, reason), (clip, why) = to_video.left_out
  assert bad == 'AllVideoDescriptions.txt:2' and clip == 'none_0_1'
  assert 'AllVideoDescriptions.txt, line 2: got a clip without' in reason
  assert 'no caption of none_0_1' in why
  write(tmp_path / 'test_list.txt', 'none_0_1\n')
  refused('msvd', tmp_path, 'no caption of none_0_1')


def test_didemo_paragraphs(tmp_path):
  rows = [('b.mov', 'second first.'), ('a.mp4', 'a only'),
          ('b.mov', 'then this')]
  write(tmp_path / 'test_data.json', [
      {'video': video, 'description': text, 'times': [[0, 0]],
       'annotation_id': n} for n, (video, text) in enumerate(rows)])
  to_video, to_text = sets.tasks('didemo', tmp_path)
  assert texts(to_video.queries) == ['second first. then this', 'a only']
  assert relevant(to_text) == [[0], [1]]


def test_sharegpt4v_first_thousand(tmp_path, monkeypatch):
  monkeypatch.setattr(sharegpt4v, 'ROWS', 2)
  write(tmp_path / 'share-captioner_coco_lcs_sam_1246k_1107.json', [
      {'id': str(n), 'image': f'sam/images/{n}.jpg', 'conversations': [
          {'from': 'human', 'value': 'What?'},
          {'from': 'gpt', 'value': f'one {n}\ntwo'}]} for n in range(3)])
  to_image, _ = sets.tasks('sharegpt4v', tmp_path)
  assert texts(to_image.queries) == ['one 0 two', 'one 1 two']
  assert to_image.candidates[1].image == str(tmp_path / 'sam/images/1.jpg')


def test_urban1k_pairs_by_name(tmp_path):
  for n in (2, 10, 1):
    write(tmp_path / 'caption' / f'{n}.txt', f'caption {n}\nsecond line')
    write(tmp_path / 'image' / f'{n}.jpg', b'x')
  to_image, _ = sets.tasks('urban1k', tmp_path)
  assert texts(to_image.queries) == ['caption 1', 'caption 2', 'caption 10']
  assert [c.id for c in to_image.candidates] == ['1.jpg', '2.jpg', '10.jpg']
  write(tmp_path / 'caption' / '3.txt', '\n')
  write(tmp_path / 'caption' / '4.txt', b'\xef\xbb\xbfwith a mark\r\nand more')
  to_image, _ = sets.tasks('urban1k', tmp_path)
  assert texts(to_image.queries)[2] == 'with a mark'
  (_, reason), = to_image.left_out
  assert '3.txt' in reason and 'empty first line' in reason
  for path in (tmp_path / 'caption').glob('*.txt'):
    path.write_text('\n')
  refused('urban1k', tmp_path, '1.txt', 'empty first line')


def test_docci_test_images_alone(tmp_path):
  rows = [('train_00000', 'train'), ('test_00000', 'test'),
          ('qual_test_00000', 'test'), ('test_00001', 'test')]
  write(tmp_path / 'docci_descriptions.jsonlines', '\n'.join(
      json.dumps({'example_id': name, 'split': split,
                  'image_file': f'{name}.jpg', 'description': f'about {name}'})
      for name, split in rows))
  to_image, _ = sets.tasks('docci', tmp_path)
  assert [c.id for c in to_image.candidates] == ['test_00000', 'test_00001']
  assert texts(to_image.queries)[1] == 'about test_00001'
  rows = [{'example_id': f'test_{n}', 'split': 'test', 'image_file': f'{n}.jpg',
           'description': text} for n, text in enumerate((
               'A sign.\u2028It says STOP.', 'a\x85b\x0bc\x0cd', '',
               'half \ud83d'))]
  write(tmp_path / 'docci_descriptions.jsonlines', '\ufeff' + '\n'.join(
      json.dumps(row, ensure_ascii=n > 1) for n, row in enumerate(rows)))
  to_image, _ = sets.tasks('docci', tmp_path)
  assert texts(to_image.queries) == [row['description'] for row in rows[:2]]
  assert ['empty' in reason or 'lone surrogate' in reason
          for _, reason in to_image.left_out] == [True, True]
  write(tmp_path / 'docci_descriptions.jsonlines', '{"example_id": 1}\n{nope')
  refused('docci', tmp_path, 'line 2 is not valid JSON')


def test_carebench_has_three_aspects(tmp_path):
  write(tmp_path / 'json' / 'metadata.json', [
      {'video': f'v{n}.mp4', 'caption': f'all {n}',
       'spatial_caption': f'where {n}', 'temporal_caption': f'when {n}'}
      for n in range(2)])
  tasks = sets.tasks('carebench', tmp_path)
  assert [task.name for task in tasks] == [
      f'{aspect}_{way}' for aspect in ('general', 'spatial', 'temporal')
      for way in ('text_to_video', 'video_to_text')]
  assert texts(tasks[2].queries) == ['where 0', 'where 1']
  one, = sets.tasks('carebench', tmp_path, ('temporal_video_to_text',))
  assert texts(one.candidates) == ['when 0', 'when 1']
  refused('carebench', tmp_path, "no task 'nope'", 'general_text_to_video',
          names=('nope',))


def covr(path, rows):
  with path.open('w', newline='') as file:
    writer = csv.DictWriter(
        file, ('txt1', 'txt2', 'sim_txt', 'pth1', 'pth2', 'edit'))
    writer.writeheader()
    for pth1, pth2, edit in rows:
      writer.writerow({'txt1': 'a', 'txt2': 'b', 'sim_txt': '0.9',
                       'pth1': pth1, 'pth2': pth2, 'edit': edit})


def test_covr_excludes_the_own_reference(tmp_path):
  covr(tmp_path / 'webvid8m-covr_test.csv', [
      ('d1/10', 'd2/20', 'make it "blue", please'), ('d2/20', 'd1/11', 'snow'),
      ('d9/99', 'd1/12', 'at night')])
  task, = sets.tasks('webvid_covr', tmp_path)
  assert texts(task.queries)[0] == 'make it "blue", please'
  assert task.queries[1].video.endswith('videos/d2/20.mp4')
  assert [c.id for c in task.candidates] == ['d2/20', 'd1/11', 'd1/12']
  assert relevant(task) == [[0], [1], [2]]
  assert [e.tolist() for e in task.excluded] == [[], [0], []]
  assert webvid_covr.RECALL_AT[-1] == 50
  covr(tmp_path / 'webvid8m-covr_test.csv', [
      ('d1/10', 'd2/20', 'blue'), ('a/1', 'a/1', 'the same'),
      ('d1/10', 'a/1', ''), ('d1/10', 'd2/20', 'red')])
  task, = sets.tasks('webvid_covr', tmp_path)
  assert [query.id for query in task.queries] == [
      'd1/10>d2/20', 'd1/10>d2/20#4']
  assert [c.id for c in task.candidates] == ['d2/20', 'a/1']
  assert [one.id for one in task.left_out] == [
      'webvid8m-covr_test.csv:2', 'webvid8m-covr_test.csv:3']
  covr(tmp_path / 'webvid8m-covr_test.csv', [('a/1', 'a/1', 'the same')])
  refused('webvid_covr', tmp_path, 'entry 1', 'two clips')


@pytest.mark.parametrize('name', sets.offering('tasks'))
def test_missing_files_are_answered_with_what_is_expected(name, tmp_path):
  wanted = sets.get(name).WANTED
  assert 'https://' in wanted
  refused(name, None, 'data.root is not set', wanted)
  refused(name, tmp_path / 'nowhere', 'is not a directory', wanted)
  refused(name, tmp_path, f'data.root {tmp_path} has no', wanted)


def test_unknown_benchmark():
  refused('flickr', '/tmp', "eval.benchmarks 'flickr' is unknown", 'flickr30k')
