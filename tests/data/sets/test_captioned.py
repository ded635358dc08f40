"""Splits of Karpathy: any of a picture's captions answers it."""
import numpy as np

from jaxret.data import sets
from tests.benchmark_files import refused, relevant, texts, write


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
  broken['images'][1]['sentences'][2]['raw'] = ' '
  write(tmp_path / 'dataset_coco.json', broken)
  to_image, to_text = sets.tasks('mscoco', tmp_path)
  assert len(to_image.queries) == 4 and len(to_text.queries) == 1
  assert to_image.left_out == to_text.left_out
  (first, reason), (second, why) = to_image.left_out
  assert first == 'dataset_coco.json:3' and second == '0.jpg#3'
  assert 'dataset_coco.json, entry 3' in reason and "'filename'" in reason
  assert "entry 2: got 'raw' empty" in why
  write(tmp_path / 'dataset_coco.json', {'images': broken['images'][2:]})
  refused('mscoco', tmp_path, 'dataset_coco.json, entry 1', "'filename'")


def test_indices_are_small_integers(tmp_path):
  write(tmp_path / 'dataset_flickr30k.json', karpathy(2))
  for task in sets.tasks('flickr30k', tmp_path):
    assert {indices.dtype for indices in task.relevant} == {np.dtype(np.int32)}


def test_video_benchmarks_are_read_from_tables_as_well(tmp_path):
  """As friedrichor has them on the hub: the same tasks, N_FRAMES as well."""
  for name in ('msrvtt_1ka', 'msvd', 'didemo'):
    root = tmp_path / name
    write(root / 'videos' / 'a.mp4', b'x')
    write(root / 'own_test.json', [
        {'video': 'a.mp4', 'caption': ['one', 'two']},
        {'video': 'b.mp4', 'caption': 'three'}])
    to_video, to_text = sets.tasks(name, root)
    assert (to_video.name, to_text.name) == ('text_to_video', 'video_to_text')
    if name == 'didemo':  # one paragraph each
      assert texts(to_video.queries) == ['one two', 'three']
    else:
      assert texts(to_video.queries) == ['one', 'two', 'three']
      assert relevant(to_text) == [[0, 1], [2]]
    assert to_text.queries[0].video == str(root / 'videos' / 'a.mp4')
    assert to_text.files == (str(root / 'own_test.json'),)
    write(root / 'own_test.json', [{'video': '/etc/x.mp4', 'caption': 'x'}])
    refused(name, root, 'not in')


def test_a_benchmark_without_any_file_says_what_it_wants(tmp_path):
  refused('msrvtt_1ka', tmp_path, 'MSRVTT_JSFUSION_test.csv', 'friedrichor')
