"""MSVD: 670 test videos with about 40 captions each (Chen and Dolan, 2011)."""
from jaxret.data import entries
from jaxret.data.sets import captioned

N_FRAMES = 48
WANTED = (
    'wanted test_list.txt, AllVideoDescriptions.txt and YouTubeClips/ '
    '(https://huggingface.co/datasets/friedrichor/MSVD, folders raw_data and '
    'raw_videos)')


def tasks(root, names):
  """Both directions; any of a video's captions answers it.

  test_list.txt has one clip per line; in AllVideoDescriptions.txt a line is
  the clip, a space and a caption, and # starts a comment.
  """
  listing = entries.present(root, 'test_list.txt', WANTED)
  path = entries.present(root, 'AllVideoDescriptions.txt', WANTED)
  captions = {clip: [] for clip in listing.read_text().split()}
  for i, line in enumerate(path.read_text(encoding='utf-8').splitlines()):
    clip, _, caption = line.partition(' ')
    if not line.strip() or line.startswith('#') or clip not in captions:
      continue
    if not caption.strip():
      raise entries.wrong(path, i, 'a clip without a caption', 'both')
    captions[clip].append(caption.strip())
  without = [clip for clip, texts in captions.items() if not texts]
  if without or not captions:
    raise ValueError(f'{path} has no caption of {(without or ["any clip"])[0]},'
                     f' which {listing.name} names; {WANTED}')
  folders = 'YouTubeClips', 'raw_videos', 'videos', ''
  return captioned.both_ways('video', [
      (clip, entries.find(root, f'{clip}.avi', folders), texts)
      for clip, texts in captions.items()])
