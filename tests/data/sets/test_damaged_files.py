"""Damaged files of every published layout: read, or refused in one line.

Thousands of files are spoiled in one or two places, by seed: a value of
another type, a cut, other bytes, characters that end lines somewhere, lines
that are lost or in another order. Whatever it is, nothing but a ValueError that
names the file comes of it.
"""
import copy
import json
import random
import shutil

import pytest

from jaxret.data import bigfile, sets, types
from jaxret.data.sets import (
  beir,
  cclm,
  circo,
  mbeir,
  multi30k,
  nrccr,
  pair_files,
)
from tests import captions, tiny_mbeir
from tests.benchmark_files import parquet, write

pytestmark = pytest.mark.slow
VALUES = (None, 0, 1.5, float('nan'), '', ' ', 'x', '\ud83d', '<image>', [],
          ['x'], [None], [['x']], {}, {'a': 1}, True, 10 ** 400, [{}], '\x00')
CHARACTERS = '\u2028\x85\r\n\t",\x0b\x00\ufeff{[# '
MBEIR = tiny_mbeir.TASK, tiny_mbeir.SECOND
BLIM = 'didemo', 'activitynet', 'lsmdc', 'msrvtt'


def lines(rows):
  return ''.join(json.dumps(row) + '\n' for row in rows)


def three(**fields):
  """Three entries, their fields with the number of the entry at {}."""
  return [{key: value.format(n) if isinstance(value, str) else value
           for key, value in fields.items()} for n in range(3)]


def karpathy():
  return {'images': three(filename='{}.jpg', split='test', filepath='v',
                          sentences=[{'raw': 'a'}, {'raw': 'b'}])}


FILES = {
    'flickr30k/dataset_flickr30k.json': karpathy(),
    'mscoco/dataset_coco.json': karpathy(),
    'msrvtt_1ka/MSRVTT_JSFUSION_test.csv':
        'key,video_id,sentence\nr,v1,"a, b"\nr,v2,c\n',
    'msvd/test_list.txt': 'a_1\nb_2\n',
    'msvd/AllVideoDescriptions.txt': '# c\n\na_1 x\nb_2 y\na_1 z\n',
    'didemo/test_data.json': three(video='{}.mp4', description='d{}'),
    'sharegpt4v/share-captioner_coco_lcs_sam_1246k_1107.json': three(
        image='{}.jpg', conversations=[{'value': 'q'}, {'value': 'a'}]),
    'urban1k/caption/0.txt': 'a\n', 'urban1k/caption/1.txt': 'b\n',
    'docci/docci_descriptions.jsonlines': lines(three(
        example_id='test_{}', split='test', image_file='{}', description='x')),
    'carebench/json/metadata.json': three(
        video='{}.mp4', caption='a', spatial_caption='b',
        temporal_caption='c'),
    'webvid_covr/webvid8m-covr_test.csv':
        'pth1,pth2,edit\na/1,a/2,red\na/2,b/3,blue\n',
    'beir/s/corpus.jsonl': lines(three(_id='d{}', title='t', text='x{}')),
    'beir/s/queries.jsonl': lines(three(_id='q{}', text='x{}')),
    'beir/s/qrels/test.tsv': 'query-id\tcorpus-id\tscore\nq0\td0\t1\n'
                             'q1\td1\t1\nq2\td2\t2\n',
    'beir/instructions.json': {'s': 'i'},
    f'circo/{circo.POOL}': {'images': [
        {'id': n, 'file_name': f'{n}.jpg'} for n in range(4)]},
    'circo/annotations/val.json': [
        {'id': n, 'reference_img_id': n, 'relative_caption': 'c',
         'gt_img_ids': [n + 1]} for n in range(3)],
    **{f'blim_{name}/{file}': three(
        video='m/{}.avi.mp4', caption=['a'] if separator is not None else 'a')
       for name in BLIM for annotations in [sets.get(name).ANNOTATIONS]
       for separator in [annotations.separator]
       for file in (annotations.train, annotations.test)},
    'folder/0.mp4': 'x', 'folder/captions.json': three(
        video='{}.mp4', caption='a'),
    'multi30k/TextData/Flickr30ktrain_enc.caption.txt':
        '2#enc#0 A dog\n1#enc#0 A cat\n',
    'multi30k/TextData/Flickr30ktrain_google_enc2de.caption.txt':
        '1#enc2de#0 Eine Katze\n2#enc2de#0 Ein Hund\n',
    'multi30k/img_id/train_id.txt': '1\n2\n',
    'cclm/a.json': three(caption='x', image='{}.jpg', image_id='{}'),
    'cclm/a_enc2fr.json': three(caption='y', image='{}.jpg', image_id='{}'),
    'pairs/t.json': [
        {'query': {'text': 'a'}, 'candidate': {'image': 'b.jpg'}},
        {'query': {'text': 'a', 'video': ['x.mp4']},
         'candidate': {'text': 'b'}, 'target_modal': 'text'}],
    'bigfile/shape.txt': '3 2\n', 'bigfile/id.txt': 'a_0 a_1 é\n',
    'bigfile/video2frames.txt': "{'a': ['a_0', 'a_1'], 'b': ['é']}",
    'bigfile/feature.bin': bytes(24)}
OPEN = {
    'beir': lambda root: beir.read(root, 'test', ['s']),
    'circo': lambda root: circo.read(root, 'val', ''),
    'mbeir': lambda root: (mbeir.read(root, 'test', MBEIR),
                           mbeir.training_set(root)),
    'mmeb': lambda root: sets.tasks('mmeb', root, ['CIRR']),
    'multi30k': lambda root: nrccr.read(
        multi30k.LAYOUT, root, 'train', 'de'),
    'cclm': lambda root: cclm.read(
        root / 'a.json', 'train', root, root / 'a_enc2fr.json'),
    'pairs': lambda root: list(pair_files.PairFile(root / 't.json')),
    'bigfile': lambda root: bigfile.FeatureSet(root).frames_of(
        [types.Item('a'), types.Item('b')]),
    'folder': lambda root: sets.load(captions.section('folder', root), 'test'),
    **{f'blim_{name}': lambda root, name=name: sets.load(
        captions.section(name, root), 'test') for name in BLIM},
    **{name: lambda root, name=name: sets.tasks(name, root) for name in (
        'flickr30k', 'mscoco', 'msrvtt_1ka', 'msvd', 'didemo', 'sharegpt4v',
        'urban1k', 'docci', 'carebench', 'webvid_covr')}}


def with_another_value(chance, content):
  """JSON with a value somewhere in it replaced, added or taken out."""
  places = []
  def walk(node):
    for key in (node if isinstance(node, dict) else range(len(node))):
      places.append((node, key))
      if isinstance(node[key], dict | list):
        walk(node[key])
  whole = [content]
  walk(whole)
  node, key = chance.choice(places)
  if isinstance(node, dict) and chance.random() < 0.2:
    del node[key]
  else:
    node[key] = copy.deepcopy(chance.choice(VALUES))
  return whole[0]


def spoil(chance, path):
  data, kind = path.read_bytes(), chance.random()
  at = chance.randrange(len(data))
  if kind < 0.6 and path.suffix == '.json':
    data = json.dumps(with_another_value(chance, json.loads(data))).encode()
  elif kind < 0.6 and path.suffix in ('.jsonl', '.jsonlines'):
    rows = [json.loads(row) for row in data.split(b'\n') if row]
    row = chance.randrange(len(rows))
    rows[row] = with_another_value(chance, rows[row])
    data = lines(rows).encode()
  elif kind < 0.7:
    data = data[:at]
  elif kind < 0.8:
    data = data[:at] + chance.randbytes(chance.randrange(5)) + data[at + 1:]
  elif kind < 0.9:
    data = data[:at] + chance.choice(CHARACTERS).encode() + data[at:]
  else:
    rows = data.split(b'\n')
    data = b'\n'.join(chance.sample(rows, chance.randrange(len(rows) + 1)))
  path.write_bytes(data)


def make(chance, name, root):
  """The files of a layout, one or two of them spoiled."""
  if name == 'mmeb':
    rows = with_another_value(chance, [{
        'qry_inst': '<|image_1|> i', 'qry_text': 't', 'qry_img_path': 'a.jpg',
        'tgt_inst': '<|image_1|> z', 'tgt_text': ['', ''],
        'tgt_img_path': ['1.jpg', '2.jpg']} for _ in range(3)])
    parquet(root / 'CIRR' / 'test-0.parquet', rows)
    return
  if name == 'mbeir':
    tiny_mbeir.write(root)
  for file, content in FILES.items():
    if file.startswith(f'{name}/'):
      write(root / file.partition('/')[2], content)
  paths = sorted(path for path in root.rglob('*')
                 if path.is_file() and path.stat().st_size > 1)
  # Not a set, whose order changes from one process to the next.
  for path in dict.fromkeys(chance.choice(paths) for _ in range(2)):
    spoil(chance, path)


@pytest.mark.parametrize('name', OPEN)
def test_damage_is_left_out_or_named_in_one_line(tmp_path, name):
  chance, ends = random.Random(name), []
  for i in range(150):
    root = tmp_path / str(i)
    root.mkdir()
    try:
      make(chance, name, root)
    except Exception:
      if name != 'mmeb':
        raise
      continue  # no such table can be written
    try:
      OPEN[name](root)
      ends.append('read')
    except ValueError as error:
      assert type(error) is ValueError and '\n' not in str(error)
      assert str(root) in str(error)
      ends.append('refused')
    shutil.rmtree(root)
  assert min(ends.count('read'), ends.count('refused')) > 3
