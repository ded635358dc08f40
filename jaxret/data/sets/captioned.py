"""Benchmarks of media and their captions: retrieval in both directions.

Every reader takes (root, wanted), of which `wanted` says what files are
expected, and returns two tasks, text to medium and medium to text. Where a
medium has several captions, any of them answers it.
"""
import dataclasses

import numpy as np

from jaxret.data import entries, types

_ASPECTS = {'general': 'caption', 'spatial': 'spatial_caption',
            'temporal': 'temporal_caption'}
SHAREGPT4V_ROWS = 1000


def both_ways(kind, rows, prefix=''):
  """Two tasks from rows (id, path, captions) of media of one kind.

  kind: 'image' or 'video'. A medium may have several rows.
  """
  media, texts, index, medium_of = [], [], {}, []
  for name, path, captions in rows:
    if name not in index:
      index[name] = len(media)
      media.append(types.Item(name, **{kind: path}))
    for caption in captions:
      texts.append(types.Item(f'{name}#{len(texts)}', text=caption))
      medium_of.append(index[name])
  split = types.Split('', 'test', tuple(media), tuple(texts),
                      np.array(medium_of, np.int32))
  to_medium, to_text = split.text_to_video(), split.video_to_text()
  return [dataclasses.replace(to_medium, name=f'{prefix}text_to_{kind}'),
          dataclasses.replace(to_text, name=f'{prefix}{kind}_to_text')]


def flickr30k(root, wanted):
  """Flickr30K, 1,000 images with five captions each."""
  return _karpathy(root, wanted, 'dataset_flickr30k.json',
                   ('flickr30k-images', 'images', ''))


def mscoco(root, wanted):
  """MSCOCO 5K: images of val2014 with five captions each."""
  return _karpathy(root, wanted, 'dataset_coco.json', ('', 'images'))


def _karpathy(root, wanted, name, folders):
  """The splits of Karpathy and Fei-Fei (CVPR 2015), caption_datasets.zip.

  {"images": [{"filename", "filepath" (COCO alone), "split": "train", "restval",
  "val" or "test", "sentences": [{"raw": caption, ...}, ...], ...}]}
  """
  path = entries.present(root, name, wanted)
  content = entries.read_json(path)
  images = content.get('images') if isinstance(content, dict) else content
  rows = []
  for i, entry in enumerate(entries.listed(path, images)):
    if entries.field(path, i, entry, 'split') != 'test':
      continue
    file = entries.field(path, i, entry, 'filename')
    folder = entry.get('filepath', '')
    sentences = entries.field(path, i, entry, 'sentences', list)
    captions = []
    for sentence in entries.listed(path, sentences):
      captions.append(entries.field(path, i, sentence, 'raw').strip())
    where = f'{folder}/{file}' if folder else file
    rows.append((file, entries.find(root, where, folders), captions))
  return both_ways('image', _some(path, rows, 'entry of the split test'))


def msrvtt_1ka(root, wanted):
  """MSR-VTT 1k-A: 1,000 videos with one caption each.

  The columns key, vid_key, video_id, sentence, as CLIP4Clip
  (dataloaders/dataloader_msrvtt_retrieval.py) reads them.
  """
  path = entries.present(root, 'MSRVTT_JSFUSION_test.csv', wanted)
  rows = []
  for i, entry in enumerate(entries.read_csv(path, ('video_id', 'sentence'))):
    video = entries.field(path, i, entry, 'video_id')
    caption = entries.field(path, i, entry, 'sentence').strip()
    file = entries.find(root, f'{video}.mp4', ('videos', 'videos/all', ''))
    rows.append((video, file, [caption]))
  return both_ways('video', rows)


def msvd(root, wanted):
  """MSVD: 670 videos with about 40 captions each (Chen and Dolan, ACL 2011).

  test_list.txt has one clip per line; in AllVideoDescriptions.txt a line is
  the clip, a space and a caption, and # starts a comment.
  """
  listing = entries.present(root, 'test_list.txt', wanted)
  path = entries.present(root, 'AllVideoDescriptions.txt', wanted)
  captions = {clip: [] for clip in listing.read_text().split()}
  for i, line in enumerate(path.read_text(encoding='utf-8').splitlines()):
    clip, _, caption = line.partition(' ')
    if not line.strip() or line.startswith('#') or clip not in captions:
      continue
    if not caption.strip():
      raise entries.wrong(path, i, 'a clip without a caption', 'both')
    captions[clip].append(caption.strip())
  without = [clip for clip, found in captions.items() if not found]
  if without or not captions:
    raise ValueError(f'{path} has no caption of {(without or ["any clip"])[0]},'
                     f' which {listing.name} names; {wanted}')
  folders = 'YouTubeClips', 'raw_videos', 'videos', ''
  return both_ways('video', [
      (clip, entries.find(root, f'{clip}.avi', folders), found)
      for clip, found in captions.items()])


def didemo(root, wanted):
  """DiDeMo: 1,004 videos, each with one paragraph of its descriptions.

  test_data.json is a list of {"video": file, "description": sentence, ...} in
  any order; the paragraph joins a video's sentences in that order with a
  space, as CLIP4Clip (dataloaders/dataloader_didemo_retrieval.py) does.
  Annotators saw the first 30 seconds of longer videos.
  """
  path = entries.present(root, 'test_data.json', wanted)
  sentences = {}
  for i, entry in enumerate(entries.listed(path, entries.read_json(path))):
    video = entries.field(path, i, entry, 'video')
    sentences.setdefault(video, []).append(
        entries.field(path, i, entry, 'description').strip())
  return both_ways('video', [
      (video, entries.find(root, video, ('videos', '')), [' '.join(parts)])
      for video, parts in sentences.items()])


def sharegpt4v(root, wanted):
  """ShareGPT4V-1k: the first 1,000 entries, as Long-CLIP reads them.

  [{"image": file, "conversations": [question, {"value": caption}]}, ...]; line
  ends become spaces (train/sharegpt4v.py of Long-CLIP).
  """
  path = entries.present(
      root, 'share-captioner_coco_lcs_sam_1246k_1107.json', wanted)
  rows = []
  content = entries.listed(path, entries.read_json(path))
  for i, entry in enumerate(content[:SHAREGPT4V_ROWS]):
    image = entries.field(path, i, entry, 'image')
    turns = entries.field(path, i, entry, 'conversations', list)
    if len(turns) < 2 or not isinstance(turns[1], dict):
      raise entries.wrong(path, i, f'{len(turns)} turns', 'two or more')
    caption = entries.field(path, i, turns[1], 'value').replace('\n', ' ')
    rows.append((image, entries.find(root, image, ('', 'data')), [caption]))
  return both_ways('image', rows)


def urban1k(root, wanted):
  """Urban1K: caption/N.txt describes image/N.jpg; its first line counts.

  As eval/retrieval/Urban1k.py of Long-CLIP reads it.
  """
  folder = entries.present(root, 'caption', wanted)
  rows = []
  for path in sorted(folder.glob('*.txt'), key=lambda p: (len(p.stem), p.stem)):
    caption = path.read_text(encoding='utf-8').partition('\n')[0].strip()
    if not caption:
      raise ValueError(f'{path}: got an empty first line, wanted a caption')
    image = f'{path.stem}.jpg'
    rows.append((image, entries.find(root, image, ('image',)), [caption]))
  return both_ways('image', _some(folder, rows, '.txt file'))


def docci(root, wanted):
  """DOCCI: the 5,000 test images with one long description each.

  One {"example_id", "split", "image_file", "description"} per line; the small
  qualification sets are no part of test (loader of google/docci).
  """
  path = entries.present(root, 'docci_descriptions.jsonlines', wanted)
  rows = []
  for i, entry in enumerate(entries.read_json_lines(path)):
    name = entries.field(path, i, entry, 'example_id')
    if (entries.field(path, i, entry, 'split') != 'test'
        or not name.startswith('test')):
      continue
    image = entries.field(path, i, entry, 'image_file')
    caption = entries.field(path, i, entry, 'description').strip()
    rows.append((name, entries.find(root, image, ('images', '')), [caption]))
  return both_ways('image', _some(path, rows, 'entry of the split test'))


def carebench(root, wanted):
  """CaReBench: 1,000 videos, with a general, spatial and temporal caption.

  A list of {"video", "caption", "spatial_caption", "temporal_caption", ...},
  as dataset/dataset.py of MCG-NJU/CaReBench reads it; each aspect is two
  tasks of its own.
  """
  path = entries.present(root, 'json/metadata.json', wanted)
  content = entries.listed(path, entries.read_json(path))
  tasks = []
  for aspect, key in _ASPECTS.items():
    rows = []
    for i, entry in enumerate(content):
      video = entries.field(path, i, entry, 'video')
      caption = entries.field(path, i, entry, key).strip()
      rows.append((video, entries.find(root, video, ('videos', '')),
                   [caption]))
    tasks += both_ways('video', rows, f'{aspect}_')
  return tasks


def _some(path, rows, what):
  if not rows:
    raise ValueError(f'{path} has no {what}')
  return rows
