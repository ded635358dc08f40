"""VATEX: videos of ten seconds with captions in English and Chinese."""
from jaxret.data.sets import nrccr

LAYOUT = nrccr.Layout(
    'vatex',
    {'train': 'vatextrain', 'validation': 'vatexval_{language}',
     'test': 'vatextest_{language}'},
    'vatextrain_google_enc2{language}', nrccr.VIDEO_IDS, 'video')


def parallel(section, split, language):
  """In the layout of NRCCR and LECCR."""
  return nrccr.open_split(LAYOUT, section, split, language)
