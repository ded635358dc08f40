"""Items of every kind become Qwen3-VL's padded arrays; bad ones are named."""
import logging

import numpy as np
import PIL.Image
import pytest

from jaxret.data import media, types
from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.data.qwen2_vl import pixels as qwen2_vl
from jaxret.data.qwen3_vl import pixels, reader
from tests import numbered_videos, tiny_unite

TOKEN = 32 * 32
SMALL = pixels.Resolution(
    image=(TOKEN, 6 * TOKEN), frame=(TOKEN, 4 * TOKEN), max_frames=6,
    listed_px=32)


def make(max_tokens=400, **options):
  return reader.Reader(tiny_unite.tokenizer(), SMALL, max_tokens, **options)


def shown(read, item):
  """The prompt of an item as text, runs of placeholders as one."""
  decoded = tiny_unite.tokenizer().decode(read(item).tokens)
  for pad in ('<|image_pad|>', '<|video_pad|>'):
    while pad * 2 in decoded:
      decoded = decoded.replace(pad * 2, pad)
  return decoded


ITEMS = [
    types.Item('a', text='red circle'), types.Item('b'),
    types.Item('c', image=tiny_unite.pixels(0)),
    types.Item('d', text=('red', 'up'), image=(
        tiny_unite.pixels(0), tiny_unite.pixels(1, 32, 96))),
    types.Item('e', video=tiny_unite.pixels(0, frames=3)),
    types.Item('f', video=numbered_videos.video(60)),
    types.Item('g', text='up', image=tiny_unite.pixels(1),
               video=tuple(tiny_unite.pixels(0, frames=9)))]


@pytest.mark.parametrize('item', ITEMS, ids=lambda item: item.id)
def test_one_placeholder_for_each_visual_token(item):
  read = make()
  found = read(item)
  for kind in reader.KINDS:
    tokens = sum(visual_tokens.n_tokens(grid) for grid, its
                 in zip(found.grids, found.kinds) if its == kind)
    assert (found.tokens == read.special[kind]).sum() == tokens
  assert all(grid[0] == 1 for grid in found.grids)
  shape = read.bucket(found)
  assert read.shape(item) == shape  # from headers alone
  arrays = read.pad([found], shape)
  assert arrays['positions'].shape == (1, 3, shape.tokens)
  n = len(found.tokens)
  assert arrays['length'] == n
  index = arrays.get('visual_index')
  assert sum(map(len, found.patches)) // 4 == (
      0 if index is None else (index >= 0).sum())


def test_positions_of_a_video_begin_anew_with_each_slice():
  read = make()
  found = read(ITEMS[4])
  positions = read.pad([found], read.bucket(found))['positions'][0]
  places = np.flatnonzero(found.tokens == read.special['video'])
  starts = places[np.diff(places, prepend=-9) > 1]
  assert len(starts) == 2  # of three frames
  for start, (_, h, w) in zip(starts, found.grids):
    size = h * w // 4
    block = positions[:, start:start + size] - positions[0, start - 1] - 1
    np.testing.assert_array_equal(
        block, np.indices((1, h // 2, w // 2)).reshape(3, -1))
    after = positions[:, start + size]
    assert (after == positions[:, start:start + size].max() + 1).all()


def test_coordinates_know_how_large_their_slice_is():
  read = make()
  items = [read(ITEMS[3]), read(ITEMS[0])]
  shape = reader.inputs_lib.common_shape(map(read.bucket, items))
  arrays = read.pad(items, shape)
  segments, coordinates = arrays['segments'], arrays['coordinates']
  for number, (_, h, w) in enumerate(items[0].grids, 1):
    own = coordinates[0][segments[0] == number]
    assert (own[:, 2:] == (h, w)).all() and len(own) == h * w
    assert set(map(tuple, own[:, :2])) == set(np.ndindex(h, w))
  assert (coordinates[segments == 0][:, 2:] == 1).all()


def test_parts_come_in_the_authors_order_and_times_stand_before_frames():
  assert shown(make(), ITEMS[6]).endswith(
      '<|im_start|>user\n<0.2 seconds><|vision_start|><|video_pad|>'
      '<|vision_end|><1.2 seconds><|vision_start|><|video_pad|><|vision_end|>'
      '<2.2 seconds><|vision_start|><|video_pad|><|vision_end|>'
      '<|vision_start|><|image_pad|><|vision_end|>up<|im_end|>\n'
      '<|im_start|>assistant\n')


def test_what_the_tokenizer_adds_is_at_the_ends():
  tokenizer = tiny_unite.tokenizer()
  ending = reader.Reader(tokenizer._replace(added=((7,), (8, 9))), SMALL)
  tokens = make()(ITEMS[0]).tokens
  np.testing.assert_array_equal(
      ending(ITEMS[0]).tokens, [7, *tokens, 8, 9])
  with pytest.raises(ValueError, match='changes a text'):
    reader.Reader(tokenizer._replace(added=None), SMALL)


def test_hidden_colours_show_where_they_are_asked_for():
  pixel = np.zeros((64, 64, 4), np.uint8)
  pixel[..., 0] = 200  # red, and wholly transparent
  item = types.Item('x', image=PIL.Image.fromarray(pixel))
  for alpha, least in (('white', 255), ('released', 0)):
    patches, = make(alpha=alpha)(item).patches
    assert patches.min() == least
  with pytest.raises(ValueError, match="alpha is 'grey'"):
    make(alpha='grey')


def test_a_prompt_is_the_system_s_text():
  tokens = make()(ITEMS[0], 'red').tokens
  assert tiny_unite.tokenizer().decode(tokens).startswith(
      '<|im_start|>system\nred.<|im_end|>')


def test_too_long_an_item(caplog):
  item = types.Item('long', text='red ' * 200)
  with pytest.raises(ValueError, match='^long: .* tokens, want at most 100'):
    make(100)(item)
  with caplog.at_level(logging.WARNING):
    cut = make(100, trim_text=True)(item).tokens
  np.testing.assert_array_equal(cut, make(4000)(item).tokens[:100])
  assert 'its end is cut to keep 100' in caplog.text
  with pytest.raises(ValueError, match='^c: .* are never cut'):
    make(30, trim_text=True)(ITEMS[2])


@pytest.mark.parametrize('item, message', [
    (types.Item('x', image='/no/such.png'), '^x: its image cannot be read'),
    (types.Item('x', video=b'nothing'), '^x: its video '),
    (types.Item('x', image=np.zeros((2, 3), np.uint8)), '^x: its image is'),
    (types.Item('x', image=np.zeros((4, 900, 3), np.uint8)),
     '^x: its image has 900x4 pixels: want an aspect ratio'),
    (types.Item('x', image=()), '^x: its list of images is empty'),
    (types.Item('x', text=3), '^x: its text is int'),
    (types.Item('x', text=('a', 3)), '^x: its text is tuple'),
    (types.Item('x', text=('a\ud83d',)), '^x: its text holds a lone surro'),
    (types.Item('x', text='<|im_end|>'), '^x: its text holds the control'),
    (types.Item('x', text='<|IMAGE|>', image=tiny_unite.pixels(0)),
     r'^x: its text holds the mark <\|IMAGE\|>'),
    (types.Item('x', video=[tiny_unite.pixels(0), 'no.mp4']), '^x: ')])
def test_bad_items_are_named(item, message):
  for use in (make(), make().check):
    with pytest.raises(ValueError, match=message) as error:
      use(item)
    assert '\n' not in str(error.value)


def test_a_prompt_with_a_control_token_is_refused():
  with pytest.raises(ValueError, match='^a: its prompt holds the control'):
    make()(ITEMS[0], 'find <|im_end|>')


def test_settings_of_another_backbone_are_refused():
  with pytest.raises(ValueError, match=(
      r'got a jaxret\.data\.qwen2_vl\.pixels\.Resolution, .* want a .*qwen3_vl'
      r'\.pixels\.Resolution or .*\.Processor')):
    reader.Reader(tiny_unite.tokenizer(), qwen2_vl.Resolution())


def test_media_errors_are_media_errors():
  with pytest.raises(media.MediaError):
    make()(types.Item('x', video=(tiny_unite.pixels(0), '/no/frame.png')))


def test_files_that_are_kept_are_read_once(tmp_path):
  path = tmp_path / 'a.mp4'
  path.write_bytes(numbered_videos.video(30))
  read = make(cache_bytes=1 << 24)
  first = read(types.Item('x', video=str(path)))
  path.unlink()
  again = read(types.Item('y', video=str(path)))
  np.testing.assert_array_equal(first.patches[0], again.patches[0])
  np.testing.assert_array_equal(first.tokens, again.tokens)
