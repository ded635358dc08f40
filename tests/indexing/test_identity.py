"""What tells models apart, and what does not."""
import shutil

import jax
import pytest

from jaxret import embedder
from jaxret.data.dual_encoder import pixels
from jaxret.indexing import identity
from tests import tiny_dual_encoder, tiny_index


def test_one_model_is_itself():
  one, other = tiny_index.model(), tiny_index.model()
  found = identity.of_model(one)
  assert identity.difference(found, identity.of_model(other)) == ''
  assert set(found) == {'name', 'width', 'sizes', 'reader', 'reading',
                        'weights'}


class Shifted(tiny_dual_encoder.Tokenizer):

  def encode(self, text):
    return [3 + (ord(letter) + 1) % 36 for letter in text]


@pytest.mark.parametrize('options', [
    {'tokenizer': Shifted()}, {'resolution': pixels.Resolution(3)},
    {'alpha': 'released'}])
def test_another_way_of_reading_shows(options):
  reader = tiny_dual_encoder.make_reader(
      tiny_dual_encoder.config('clip'), **options)
  assert identity.reads(reader) != identity.reads(tiny_index.model().reader)


def test_one_bit_of_the_weights_shows():
  model = tiny_index.model()
  leaves, tree = jax.tree.flatten(model.params)
  leaves[3] = leaves[3].at[(0,) * leaves[3].ndim].multiply(1 + 2 ** -23)
  other = embedder.Embedder(model.config, jax.tree.unflatten(tree, leaves),
                            model.reader, model.mesh)
  assert identity.difference(identity.of_model(model),
                             identity.of_model(other)) == 'weights'
  assert identity.of_model(other, 'known')['weights'] == 'known'


def test_files_of_a_model(tmp_path):
  shutil.copytree(tiny_index.CLIP, tmp_path / 'm')
  before = identity.files_of(tmp_path / 'm')
  assert {'config.json', 'model.safetensors', 'tokenizer.json'} <= set(before)
  assert identity.files_of(tmp_path / 'm') == before
  (tmp_path / 'm' / 'config.json').write_text('{} ')
  assert identity.files_of(tmp_path / 'm') != before
  with pytest.raises(ValueError, match='no such directory'):
    identity.files_of(tmp_path / 'none')
