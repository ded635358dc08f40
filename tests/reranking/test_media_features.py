"""What the tower gives of media: each slice alone, each medium once."""
import numpy as np
import pytest

from jaxret.data import visual_features
from jaxret.reranking import media_features
from tests import tiny_qwen3_vl, tiny_rerankers, tiny_unite


def medium(name, kind, source):
  reader = tiny_rerankers.qwen3_vl().reader
  grid, _ = reader._grid(name, kind, source)
  return media_features.Medium(name, kind, source, grid)


MEDIA = {'a': ('image', tiny_unite.pixels(0, 64, 64)),
         'b': ('image', tiny_unite.pixels(1, 32, 96)),
         'v': ('video', tiny_unite.pixels(2, 32, 64, 5))}


def features(**options):
  model = tiny_rerankers.qwen3_vl()
  return media_features.MediaFeatures(
      model.config, tiny_qwen3_vl.params(), model.reader, model.mesh,
      visual_features.Memory(options.pop('max_bytes', 2 ** 20)), **options)


@pytest.mark.slow
def test_features_are_those_of_a_whole_batch():
  """The tower's own rows, of each medium as an item of its own."""
  model = tiny_rerankers.qwen3_vl()
  media = {key: medium(key, *its) for key, its in MEDIA.items()}
  found = features(batch_patches=64).find(media, None)
  read = model.reader
  for key, one in media.items():
    item = tiny_rerankers.types.Item(key, **{one.kind: one.source})
    inputs = read(tiny_rerankers.types.Item('q', text='a'), item)
    batch = read.pad([inputs], read.bucket(inputs))
    tokens = model.config.module().apply(
        tiny_qwen3_vl.params(), batch['patches'], batch['segments'],
        batch['coordinates'], method='visual_tokens')[0]
    index = batch['visual_index'][0]
    assert found[key].shape == (one.tokens, 3 * model.config.width)
    np.testing.assert_allclose(found[key], tokens[index[index >= 0]], atol=1e-5)


def test_what_cannot_be_seen_is_told():
  told = {}
  media = {'none': media_features.Medium('x', 'image', '/no.png', (1, 2, 2)),
           'other': media_features.Medium(
               'y', 'image', tiny_unite.pixels(0, 64, 64), (1, 2, 2))}
  assert features().find(media, told.__setitem__) == {}
  assert str(told['none']).startswith('x: its image cannot be read')
  assert 'y: its image is of another size' in str(told['other'])
