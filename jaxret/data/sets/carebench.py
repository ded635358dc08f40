"""CaReBench: 1,000 videos with a general, spatial and temporal caption."""
from jaxret.data import entries
from jaxret.data.sets import captioned

N_FRAMES = 32
WANTED = (
    'wanted json/metadata.json and videos/ '
    '(https://huggingface.co/datasets/MCG-NJU/CaReBench)')
_ASPECTS = {'general': 'caption', 'spatial': 'spatial_caption',
            'temporal': 'temporal_caption'}


def tasks(root, names):
  """Both directions of each aspect.

  A list of {"video", "caption", "spatial_caption", "temporal_caption", ...},
  as dataset/dataset.py of MCG-NJU/CaReBench reads it.
  """
  path = entries.present(root, 'json/metadata.json', WANTED)
  content = entries.listed(path, entries.read_json(path))
  found = []
  for aspect, key in _ASPECTS.items():
    def read(i, entry, key=key):
      video = entries.field(path, i, entry, 'video')
      caption = entries.field(path, i, entry, key).strip()
      return video, entries.find(root, video, ('videos', '')), [caption]
    rows, left_out = entries.usable(path, content, read)
    found += captioned.both_ways('video', rows, f'{aspect}_', left_out)
  return found
