"""DOCCI: 5,000 test images with one long description each."""
from jaxret.data import entries
from jaxret.data.sets import captioned

WANTED = (
    'wanted docci_descriptions.jsonlines and images/ '
    '(https://google.github.io/docci)')


def tasks(root, names):
  """Both directions of the test images.

  One {"example_id", "split", "image_file", "description"} per line; the small
  qualification sets are no part of test (loader of google/docci).
  """
  path = entries.present(root, 'docci_descriptions.jsonlines', WANTED)
  def read(i, entry):
    name = entries.field(path, i, entry, 'example_id')
    if (entries.field(path, i, entry, 'split') != 'test'
        or not name.startswith('test')):
      return None
    image = entries.field(path, i, entry, 'image_file')
    caption = entries.field(path, i, entry, 'description').strip()
    return name, entries.find(root, image, ('images', '')), [caption]
  rows, left_out = entries.usable(path, entries.read_json_lines(path), read)
  return captioned.both_ways('image', captioned.some(
      path, rows, 'entry of the split test'), left_out=left_out)
