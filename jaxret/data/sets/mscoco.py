"""MSCOCO: 5,000 test images in English; captions in Chinese and Japanese."""
import pathlib

from jaxret.data import hub
from jaxret.data.sets import captioned, nrccr

WANTED = (
    'wanted dataset_coco.json (the splits of Karpathy and Fei-Fei, '
    'https://cs.stanford.edu/people/karpathy/deepimagesent) and val2014/ '
    '(https://cocodataset.org)')
LAYOUT = nrccr.Layout(
    'mscoco',
    {'train': 'mscocotrain_enc', 'validation': 'mscocoval_{language}',
     'test': 'mscocotest_{language}'},
    'mscocotrain_google_enc2{language}',
    {'train': 'train_id.txt', 'validation': '{language}_val_id.txt',
     'test': '{language}_test_id.txt'}, 'image', 'image_ids.txt',
    # STAIR's Japanese test captions are of a thousand of the images.
    exceptions={('ja', 'test'): 'mscocotest_1k_ja'})


def tasks(root, names):
  """Both directions of MSCOCO 5K: images of val2014, five captions each."""
  return captioned.karpathy(
      root, WANTED, 'dataset_coco.json', ('', 'images'))


def parallel(section, split, language):
  """In the layout of NRCCR and LECCR."""
  return nrccr.open_split(LAYOUT, section, split, language)


def file_names(section, split):
  """As image_ids.txt has them."""
  root = hub.local(section.media or section.root)
  return {video.id: str(pathlib.Path(video.image).relative_to(root))
          for video in split.videos}
