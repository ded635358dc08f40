"""MSR-VTT-CN: the videos of MSR-VTT with captions in Chinese."""
from jaxret.data.sets import nrccr

LAYOUT = nrccr.Layout(
    'msrvttcn',
    {'train': 'msrvtt10kcntrain', 'validation': 'msrvtt10kcnval_{language}',
     'test': 'msrvtt10kcntest_{language}'},
    'msrvtt10kcntrain_google_enc2{language}', nrccr.VIDEO_IDS, 'video')


def parallel(section, split, language):
  """In the layout of NRCCR and LECCR."""
  return nrccr.open_split(LAYOUT, section, split, language)
