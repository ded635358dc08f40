"""Every benchmark on small files of its published layout."""
import csv
import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from jaxret.data import sets
from jaxret.data.sets import mmeb, sharegpt4v, webvid_covr


def write(path, content):
  path.parent.mkdir(parents=True, exist_ok=True)
  if isinstance(content, bytes):
    path.write_bytes(content)
  else:
    path.write_text(content if isinstance(content, str)
                    else json.dumps(content))


def parquet(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def texts(items):
  return [item.text for item in items]


def relevant(task):
  return [indices.tolist() for indices in task.relevant]


def refused(name, root, *parts, **arguments):
  with pytest.raises(ValueError) as error:
    sets.tasks(name, root, **arguments)
  message = str(error.value)
  assert '\n' not in message
  for part in parts:
    assert part in message, message


def karpathy(n_test, **fields):
  images = [{'filename': 'train.jpg', 'split': 'train', 'sentences': []}]
  for n in range(n_test):
    images.append({
        'imgid': n, 'filename': f'{n}.jpg', 'split': 'test', **fields,
        'sentences': [{'tokens': [], 'raw': f' image {n}, caption {k}. '}
                      for k in range(5)]})
  return {'images': images, 'dataset': 'any'}


def test_flickr30k_any_of_five_captions(tmp_path):
  write(tmp_path / 'dataset_flickr30k.json', karpathy(3))
  write(tmp_path / 'flickr30k-images' / '1.jpg', b'x')
  to_image, to_text = sets.tasks('flickr30k', tmp_path)
  assert (to_image.name, to_text.name) == ('text_to_image', 'image_to_text')
  assert texts(to_image.queries)[:2] == ['image 0, caption 0.',
                                         'image 0, caption 1.']
  assert relevant(to_image) == [[n] for n in range(3) for _ in range(5)]
  assert relevant(to_text) == [list(range(5 * n, 5 * n + 5)) for n in range(3)]
  assert to_text.queries[1].image == str(
      tmp_path / 'flickr30k-images' / '1.jpg')


def test_mscoco_folders(tmp_path):
  write(tmp_path / 'dataset_coco.json', karpathy(2, filepath='val2014'))
  write(tmp_path / 'images' / 'val2014' / '0.jpg', b'x')
  to_image, _ = sets.tasks('mscoco', tmp_path)
  assert len(to_image.queries) == 10
  assert to_image.candidates[0].image.endswith('images/val2014/0.jpg')
  broken = karpathy(2)
  del broken['images'][2]['filename']
  write(tmp_path / 'dataset_coco.json', broken)
  refused('mscoco', tmp_path, 'dataset_coco.json, entry 3', "'filename'")


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
  write(tmp_path / 'test_list.txt', 'ab_1_5\nnone_0_1\n')
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
  refused('urban1k', tmp_path, '3.txt', 'empty first line')


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
  covr(tmp_path / 'webvid8m-covr_test.csv', [('a/1', 'a/1', 'the same')])
  refused('webvid_covr', tmp_path, 'entry 1', 'two clips')


def mmeb_row(text, image, candidates):
  return {'qry_text': text, 'qry_img_path': image,
          'tgt_text': [t for t, _ in candidates],
          'tgt_img_path': [p for _, p in candidates]}


def test_mmeb_lists_and_marks(tmp_path):
  parquet(tmp_path / 'CIRR' / 'test-00000-of-00001.parquet', [
      mmeb_row('<|image_1|>\nMake it red', 'CIRR/q.jpg', [
          ('<|image_1|>\nAn image', f'CIRR/{n}.jpg') for n in (3, 1, 3, 2)]),
      mmeb_row('<|image_1|>\nTwo dogs', 'CIRR/q.jpg', [
          ('<|image_1|>\nAn image', f'CIRR/{n}.jpg') for n in (2, 4)])])
  parquet(tmp_path / 'VOC2007' / 'test-00000-of-00001.parquet', [
      mmeb_row('<|image_1|> Which object?', 'VOC2007/1.jpg',
               [('dog', ''), ('cat', '')])])
  write(tmp_path / 'eval_images' / 'CIRR' / '1.jpg', b'x')
  first, second = sets.tasks('mmeb', tmp_path, ('CIRR', 'VOC2007'))
  assert (first.name, second.name) == ('VOC2007', 'CIRR')
  assert texts(first.candidates) == ['dog', 'cat']
  assert first.candidates[0].image is None
  assert first.queries[0].text == '<|IMAGE|> Which object?'
  # Candidate 0 is the answer; an equal pair is the same candidate.
  assert [i.tolist() for i in second.lists] == [[0, 1, 2], [2, 3]]
  assert relevant(second) == [[0], [2]]
  assert [c.image.rpartition('/')[2] for c in second.candidates] == [
      '3.jpg', '1.jpg', '2.jpg', '4.jpg']
  assert second.candidates[1].image.endswith('eval_images/CIRR/1.jpg')


@pytest.mark.parametrize('row, message', [
    (mmeb_row('<|image_1|> x', '', [('a', '')]), '1 marks <|image_1|> for 0'),
    (mmeb_row('', '', [('a', '')]), 'neither text nor image'),
    (mmeb_row('x', '', [('', '')]), 'neither text nor image'),
    (dict(mmeb_row('x', '', [('a', '')]), tgt_text=['a', 'b']),
     '2 texts and 1 paths')])
def test_mmeb_bad_rows_are_named(tmp_path, row, message):
  path = tmp_path / 'GQA' / 'test-0.parquet'
  parquet(path, [mmeb_row('fine', '', [('a', '')]), row])
  refused('mmeb', tmp_path, f'{path}, entry 2', message, names=('GQA',))


def test_mmeb_has_36_data_sets_in_four_groups(tmp_path):
  assert len(set(mmeb.DATASETS)) == 36
  assert [len(names) for names in mmeb.GROUPS.values()] == [10, 10, 12, 4]
  refused('mmeb', tmp_path, 'no ImageNet-1K', 'TIGER-Lab/MMEB-eval')
  refused('mmeb', tmp_path, "no task 'ImageNet'", names=('ImageNet',))
  (tmp_path / 'GQA').mkdir()
  refused('mmeb', tmp_path, 'no test-*.parquet', names=('GQA',))
  write(tmp_path / 'GQA' / 'test-0.parquet', b'no parquet')
  refused('mmeb', tmp_path, 'is not a parquet file', names=('GQA',))
  parquet(tmp_path / 'GQA' / 'test-0.parquet', [{'qry': 'a'}])
  refused('mmeb', tmp_path, 'the columns qry', 'tgt_img_path', names=('GQA',))


@pytest.mark.parametrize('name', sets.offering('tasks'))
def test_missing_files_are_answered_with_what_is_expected(name, tmp_path):
  wanted = sets.get(name).WANTED
  assert 'https://' in wanted
  refused(name, None, 'data.root is not set', wanted)
  refused(name, tmp_path / 'nowhere', 'is not a directory', wanted)
  refused(name, tmp_path, f'data.root {tmp_path} has no', wanted)


def test_unknown_benchmark():
  refused('flickr', '/tmp', "eval.benchmarks 'flickr' is unknown", 'flickr30k')


def test_indices_are_small_integers(tmp_path):
  write(tmp_path / 'dataset_flickr30k.json', karpathy(2))
  for task in sets.tasks('flickr30k', tmp_path):
    assert {indices.dtype for indices in task.relevant} == {np.dtype(np.int32)}
