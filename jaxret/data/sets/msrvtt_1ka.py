"""MSR-VTT 1k-A: the test split of 1,000 videos with one caption each."""
from jaxret.data import entries
from jaxret.data.sets import captioned

N_FRAMES = 48
WANTED = (
    'wanted MSRVTT_JSFUSION_test.csv (https://github.com/ArrowLuo/CLIP4Clip, '
    'section Data Preparing) and videos/, or friedrichor/MSR-VTT of the hub')


def tasks(root, names):
  """Both directions.

  The columns key, vid_key, video_id, sentence, as CLIP4Clip
  (dataloaders/dataloader_msrvtt_retrieval.py) reads them.
  """
  if tasks_ := captioned.of_tables('video', root, 'MSRVTT_JSFUSION_test.csv'):
    return tasks_
  path = entries.present(root, 'MSRVTT_JSFUSION_test.csv', WANTED)
  def read(i, entry):
    video = entries.field(path, i, entry, 'video_id')
    caption = entries.field(path, i, entry, 'sentence').strip()
    file = entries.find(root, f'{video}.mp4', ('videos', 'videos/all', ''))
    return video, file, [caption]
  rows, left_out = entries.usable(
      path, entries.read_csv(path, ('video_id', 'sentence')), read)
  return captioned.both_ways('video', rows, left_out=left_out)
