"""ShareGPT4V-1k: images with long captions."""
from jaxret.data import entries
from jaxret.data.sets import captioned

ROWS = 1000
WANTED = (
    'wanted share-captioner_coco_lcs_sam_1246k_1107.json '
    '(https://huggingface.co/datasets/Lin-Chen/ShareGPT4V) and the images that '
    'its first 1,000 entries name, in sam/images/')


def tasks(root, names):
  """Both directions of the first 1,000 entries, as Long-CLIP reads them.

  [{"image": file, "conversations": [question, {"value": caption}]}, ...]; line
  ends become spaces (train/sharegpt4v.py of Long-CLIP).
  """
  path = entries.present(
      root, 'share-captioner_coco_lcs_sam_1246k_1107.json', WANTED)
  def read(i, entry):
    image = entries.field(path, i, entry, 'image')
    turns = entries.field(path, i, entry, 'conversations', list)
    if len(turns) < 2 or not isinstance(turns[1], dict):
      raise entries.wrong(path, i, f'{len(turns)} turns', 'two or more')
    caption = entries.field(path, i, turns[1], 'value').replace('\n', ' ')
    return image, entries.find(root, image, ('', 'data')), [caption]
  content = entries.listed(path, entries.read_json(path))
  rows, left_out = entries.usable(path, content[:ROWS], read)
  return captioned.both_ways('image', rows, left_out=left_out)
