"""DiDeMo: videos of about 30 seconds, each with a paragraph."""
from jaxret.data import entries
from jaxret.data.sets import caption_files, captioned

INSTRUCTION = 'Describe this video in detail.'
SPLITS_APART = True
N_FRAMES = 48
WANTED = (
    'wanted test_data.json (https://github.com/LisaAnne/LocalizingMoments, '
    'folder data) and videos/, or friedrichor/DiDeMo of the hub')
ANNOTATIONS = caption_files.Annotations(
    'didemo_ret_train.json', 'didemo_ret_test.json', ' ',
    'https://github.com/LisaAnne/LocalizingMoments')


def load(section, split):
  """As BLiM's authors read it; annotators saw the first 30 seconds."""
  return caption_files.open_split('didemo', ANNOTATIONS, section, split)


def tasks(root, names):
  """1,004 videos of the test split, each with one paragraph.

  test_data.json is a list of {"video": file, "description": sentence, ...} in
  any order; the paragraph joins a video's sentences in that order with a
  space, as CLIP4Clip (dataloaders/dataloader_didemo_retrieval.py) does.
  Annotators saw the first 30 seconds of longer videos.
  """
  if tasks_ := captioned.of_tables(
      'video', root, 'test_data.json', joined=True):
    return tasks_
  path = entries.present(root, 'test_data.json', WANTED)
  content = entries.listed(path, entries.read_json(path))
  found, left_out = entries.usable(path, content, lambda i, entry: (
      entries.field(path, i, entry, 'video'),
      entries.field(path, i, entry, 'description').strip()))
  sentences = {}
  for video, sentence in found:
    sentences.setdefault(video, []).append(sentence)
  return captioned.both_ways('video', [
      (video, entries.find(root, video, ('videos', '')), [' '.join(parts)])
      for video, parts in sentences.items()], left_out=left_out)
