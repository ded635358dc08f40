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
  rows = []
  for i, entry in enumerate(entries.read_json_lines(path)):
    name = entries.field(path, i, entry, 'example_id')
    if (entries.field(path, i, entry, 'split') != 'test'
        or not name.startswith('test')):
      continue
    image = entries.field(path, i, entry, 'image_file')
    caption = entries.field(path, i, entry, 'description').strip()
    rows.append((name, entries.find(root, image, ('images', '')), [caption]))
  return captioned.both_ways(
      'image', captioned.some(path, rows, 'entry of the split test'))
