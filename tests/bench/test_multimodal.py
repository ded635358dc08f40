"""Items of the embedding and training benches: of all sizes, by their seed."""
import numpy as np
import pytest

from jaxret.bench import clip_items, multimodal
from jaxret.data import types

TINY = multimodal.PRESETS['tiny']


def test_items_are_mixed_and_pairs_fill_their_budget():
  inputs = multimodal.mixed(TINY, 40)
  assert {one.kinds for one in inputs} == {(), ('image',), ('video',)}
  assert len({len(one.tokens) for one in inputs}) > 15
  captions, images = multimodal.pairs(TINY, 20)
  assert not any(one.grids for one in captions)
  sizes = {int(np.prod(one.grids)) for one in images}
  assert len({one.grids for one in images}) > 2
  assert min(sizes) > 0.8 * max(sizes)


def test_items_are_a_function_of_their_seed():
  def items(seed):
    captions, images = multimodal.pairs(TINY, 2, seed)
    return [*multimodal.mixed(TINY, 4, seed), *captions, *images]
  first, again, other = map(items, (3, 3, 4))
  def equal(one, two):
    return np.array_equal(one.tokens, two.tokens) and all(
        map(np.array_equal, one.patches, two.patches))
  assert all(map(equal, first, again))
  assert not any(map(equal, first, other))


@pytest.mark.parametrize('kind, slices', [
    ('text', (0, 0)), ('image', (1, 1)), ('video', (2, 4))])
def test_an_item_has_a_placeholder_for_every_visual_token(kind, slices):
  """Between the halves of a prompt of 27 tokens, before the words."""
  one = multimodal.item(
      TINY, np.random.default_rng(0), 'x', kind, 5, (3, 2))
  n_slices = one.grids[0][0] if one.grids else 0
  assert slices[0] <= n_slices <= slices[1]
  n_visual = n_slices * 3 * 2
  assert len(one.tokens) == 27 + 5 + n_visual
  placeholder = {'text': None, 'image': 638, 'video': 639}[kind]
  assert (one.tokens[13:13 + n_visual] == placeholder).all()
  assert not np.isin(np.delete(
      one.tokens, np.s_[13:13 + n_visual]), [638, 639]).any()
  if one.grids:  # a token covers 2 x 2 patches
    assert one.grids == ((n_slices, 6, 4),)
    assert one.patches[0].shape == (4 * n_visual, 3 * 2 * 14 * 14)
  assert multimodal.n_patches([one, one]) == 8 * n_visual


def test_an_item_is_read_by_its_id_alone():
  inputs = multimodal.mixed(TINY, 4)
  ready = multimodal.Ready(TINY.config, inputs)
  assert ready(types.Item(inputs[2].id)) is inputs[2]
  shape = ready.bucket(inputs[3])
  batch = ready.pad([inputs[3]], shape)
  assert batch['length'] == [len(inputs[3].tokens)]
  np.testing.assert_array_equal(
      np.sort(batch['visual_index'][batch['visual_index'] >= 0]),
      np.arange(np.prod(inputs[3].grids) // 4))


def test_fields_change_in_all_parts_of_a_model():
  config = multimodal.with_fields(TINY.config, attention='auto', remat='dots')
  for part in (config.decoder, config.vision):
    assert (part.attention, part.remat) == ('auto', 'dots')
  assert multimodal.with_fields(
      config, attention='xla', remat='none') == TINY.config
  clip = multimodal.with_fields(
      clip_items.PRESETS['tiny'].config, attention='heads')
  assert 'xla' not in str(clip)
