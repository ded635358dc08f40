"""Flickr30K: 1,000 test images with five captions each."""
from jaxret.data.sets import captioned

WANTED = (
    'wanted dataset_flickr30k.json (the splits of Karpathy and Fei-Fei, '
    'https://cs.stanford.edu/people/karpathy/deepimagesent) and '
    'flickr30k-images/ (https://shannon.cs.illinois.edu/DenotationGraph)')


def tasks(root, names):
  """Both directions."""
  return captioned.karpathy(root, WANTED, 'dataset_flickr30k.json',
                            ('flickr30k-images', 'images', ''))
