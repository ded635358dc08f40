"""Urban1K: images of streets with long captions."""
from jaxret.data import entries
from jaxret.data.sets import captioned

WANTED = (
    'wanted caption/ and image/ of Urban1k.zip '
    '(https://huggingface.co/datasets/BeichenZhang/Urban1k)')


def tasks(root, names):
  """Both directions: caption/N.txt describes image/N.jpg.

  Its first line counts, as eval/retrieval/Urban1k.py of Long-CLIP reads it.
  """
  folder = entries.present(root, 'caption', WANTED)
  def read(_, path):
    caption = entries.read_text(path).partition('\n')[0].strip()
    if not caption:
      raise ValueError(f'{path}: got an empty first line, wanted a caption')
    image = f'{path.stem}.jpg'
    return image, entries.find(root, image, ('image',)), [caption]
  rows, left_out = entries.usable(folder, sorted(
      folder.glob('*.txt'), key=lambda p: (len(p.stem), p.stem)), read)
  return captioned.both_ways(
      'image', captioned.some(folder, rows, '.txt file'), left_out=left_out)
