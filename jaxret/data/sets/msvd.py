"""MSVD: 670 test videos with about 40 captions each (Chen and Dolan, 2011)."""
from jaxret.data import entries, types
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
  if tasks_ := captioned.of_tables('video', root, 'test_list.txt'):
    return tasks_
  listing = entries.present(root, 'test_list.txt', WANTED)
  path = entries.present(root, 'AllVideoDescriptions.txt', WANTED)
  captions = {clip.strip(): [] for _, clip in entries.lines(listing)
              if clip.strip()}
  left_out = []
  for number, line in entries.lines(path):
    clip, _, caption = line.partition(' ')
    if not line.strip() or line.startswith('#') or clip not in captions:
      continue
    if caption.strip():
      captions[clip].append(caption.strip())
    else:
      left_out.append(types.LeftOut(f'{path.name}:{number}', str(
          entries.wrong_line(path, number, 'a clip without a caption',
                             'both'))))
  without = [clip for clip, texts in captions.items() if not texts]
  missing = [types.LeftOut(clip, f'{path} has no caption of {clip}, which '
                           f'{listing.name} names') for clip in without]
  if len(without) == len(captions):
    raise ValueError((missing[0].reason if missing else f'{listing} is empty')
                     + f'; {WANTED}')
  folders = 'YouTubeClips', 'raw_videos', 'videos', ''
  return captioned.both_ways('video', [
      (clip, entries.find(root, f'{clip}.avi', folders), texts)
      for clip, texts in captions.items() if texts],
                             left_out=(*left_out, *missing))
