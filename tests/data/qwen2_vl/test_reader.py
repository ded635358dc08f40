"""Items of every kind become padded arrays; bad ones are named."""
import io
import logging

import numpy as np
import PIL.Image
import pytest

from jaxret.data import media, types
from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.data.qwen2_vl import pixels as qwen2_vl
from jaxret.data.qwen2_vl import prompts as unite_prompts
from jaxret.data.qwen2_vl import reader as inputs
from jaxret.data.qwen3_vl import pixels as qwen3_vl
from tests import tiny_unite

TOKEN = 28 * 28  # pixels of a visual token
RESOLUTION = qwen2_vl.Resolution(
    released=False, processor=(TOKEN, 6 * TOKEN),
    read_video=(TOKEN, 6 * TOKEN), max_frames=4, min_frames=2)


def reader(max_tokens=200, **options):
  return inputs.Reader(
      tiny_unite.tokenizer(), RESOLUTION, max_tokens, **options)


def png(array):
  file = io.BytesIO()
  PIL.Image.fromarray(array).save(file, 'png')
  return file.getvalue()


def test_buckets_hold_and_waste_at_most_a_quarter():
  for number in range(1, 3000):
    size = inputs.bucket(number)
    assert number <= size <= 1.25 * number
  assert len({inputs.bucket(number) for number in range(256, 4096)}) == 17
  assert inputs.bucket(3, 16) == 16


@pytest.mark.parametrize('item', [
    types.Item('a', text='red circle'),
    types.Item('b', image=tiny_unite.pixels(0)),
    types.Item('c', image=png(tiny_unite.pixels(0))),
    types.Item('d', image=(tiny_unite.pixels(0), tiny_unite.pixels(1, 28, 84)),
               text='red <|IMAGE|> and <|IMAGE|>'),
    types.Item('e', video=tiny_unite.pixels(0, frames=3)),
    types.Item('f', text='up', video=tiny_unite.pixels(0, frames=7),
               image=tiny_unite.pixels(1))], ids=lambda item: item.id)
def test_one_placeholder_for_each_visual_token(item):
  read = reader()
  found = read(item)
  for kind in inputs.KINDS:
    tokens = sum(visual_tokens.n_tokens(grid) for grid, its
                 in zip(found.grids, found.kinds) if its == kind)
    assert (found.tokens == read.special[kind]).sum() == tokens
  shape = inputs.shape_of(len(found.tokens), found.grids)
  assert read.shape(item) == shape  # from headers alone
  arrays = inputs.pad([found], shape, read.special, mrope=True)
  assert arrays['tokens'].shape == (1, shape.tokens)
  assert arrays['length'] == len(found.tokens)
  if found.grids:
    flat = arrays['patches'].reshape(-1, arrays['patches'].shape[-1])
    kept = arrays['segments'].ravel() > 0
    np.testing.assert_array_equal(flat[kept].sum(), np.concatenate(
        found.patches).sum())
    shown = arrays['visual_index'][arrays['visual_index'] >= 0]
    assert len(set(shown.tolist())) == len(shown) == kept.sum() // 4


def test_bytes_and_pixels_of_an_image_are_one():
  array = tiny_unite.pixels(0)
  one, other = (reader()(types.Item('x', image=image))
                for image in (array, png(array)))
  np.testing.assert_array_equal(one.patches[0], other.patches[0])


def test_a_list_of_stills_is_one_video_however_they_are_given(tmp_path):
  frames = tiny_unite.pixels(0, frames=4)
  files = [str(tmp_path / f'{i}.png') for i in range(4)]
  for file, frame in zip(files, frames):
    PIL.Image.fromarray(frame).save(file)
  opened = [PIL.Image.open(file) for file in files]
  read = reader()
  want = read(types.Item('x', video=frames))
  for given in (files, opened, list(map(png, frames)), list(frames),
                [files[0], opened[1], png(frames[2]), frames[3]]):
    item = types.Item('x', video=tuple(given))
    found = read(item)
    assert found.kinds == ('video',) and found.grids == want.grids
    np.testing.assert_array_equal(found.tokens, want.tokens)
    np.testing.assert_array_equal(found.patches, want.patches)
    assert read.shape(item) == read.shape(types.Item('x', video=frames))
  two = read(types.Item('x', video=(tuple(files), frames)))
  assert two.kinds == ('video', 'video') and two.grids == want.grids * 2


def test_transparent_pixels_are_white_or_as_released():
  rgba = np.concatenate([tiny_unite.pixels(0), np.zeros((40, 56, 1), np.uint8)],
                        2)
  for given in png(rgba), PIL.Image.fromarray(rgba):
    white, released = (reader(alpha=alpha)(types.Item('x', image=given))
                       for alpha in ('white', 'released'))
    assert (white.patches[0] == 255).all()
    np.testing.assert_array_equal(
        released.patches[0],
        reader()(types.Item('x', image=rgba[..., :3])).patches[0])
  with pytest.raises(ValueError, match="alpha is 'black'"):
    reader(alpha='black')


def test_marks_are_put_in_front_of_text_that_has_none():
  given = unite_prompts.Content('up', {'image': 1, 'video': 1}, ())
  assert unite_prompts.marked(given, 'x').text == '<|IMAGE|>\n<|VIDEO|>\nup'
  there = given._replace(text='<|VIDEO|> up <|IMAGE|>')
  assert unite_prompts.marked(there, 'x') == there


def test_text_is_trimmed_and_nothing_else(caplog):
  item = types.Item('long', text='red ' * 300 + '<|IMAGE|> blue',
                    image=tiny_unite.pixels(0))
  read = reader(120)
  with caplog.at_level(logging.WARNING):
    found = read(item)
  assert len(caplog.records) == 1 and 'long: ' in caplog.text
  assert 110 < len(found.tokens) <= 120
  whole = reader(2000)(item)
  assert visual_tokens.n_tokens(found.grids[0]) == (
      found.tokens == read.special['image']).sum()
  ends = 17  # the question and the template close both
  np.testing.assert_array_equal(found.tokens[-ends:], whole.tokens[-ends:])
  np.testing.assert_array_equal(found.tokens[:30], whole.tokens[:30])


def test_shortened_keeps_marks():
  text = 'abc<|IMAGE|>def<|VIDEO|>'
  assert unite_prompts.shortened(text, 4) == 'abc<|IMAGE|>d<|VIDEO|>'
  assert unite_prompts.shortened(text, 0) == '<|IMAGE|><|VIDEO|>'
  assert unite_prompts.shortened(text, 99) == text


@pytest.mark.parametrize('fields, message', [
    ({}, 'x: it has no text, image or video'),
    ({'text': 3}, 'x: its text is int; want a string'),
    ({'text': 'a <|image_pad|>'}, r'x: its text holds the control token'),
    ({'text': 'a <|IMAGE|>'}, r'x: its text has 1 marks .* for 0 images'),
    ({'text': '<|IMAGE|>', 'image': (tiny_unite.pixels(0),) * 2},
     r'x: its text has 1 marks .* for 2 images'),
    ({'text': 'red ' * 400}, r'x: \d+ tokens, want at most 200: shorten'),
    ({'image': ()}, 'x: its list of images is empty'),
    ({'image': b'no image'}, 'x: its image cannot be read: image bytes: not a'),
    ({'image': 'nowhere.png'}, 'x: its image cannot be read: .*no such file'),
    ({'video': b'no video'}, 'x: its video cannot be read: video bytes: not'),
    ({'image': np.zeros((4, 4, 3))}, r'x: its image is float64 \(4, 4, 3\)'),
    ({'video': tiny_unite.pixels(0)[0]}, r'x: its video is uint8 \(56, 3\)'),
    ({'image': tiny_unite.pixels(0, 2, 800)}, 'x: its image has 800x2 pixels'),
    ({'image': PIL.Image.new('RGB', (0, 5))}, 'x: its image .*0x5 pixels'),
    ({'video': (tiny_unite.pixels(0), tiny_unite.pixels(0, 28))},
     r'x: its video .* two sizes, 56x40 \(frame 0\) and 56x28 \(frame 1\)'),
    ({'video': (png(tiny_unite.pixels(0)), 'gone.png')},
     'x: its frame gone.png: no such file'),
    ({'video': (tiny_unite.pixels(0), b'no image')},
     r'x: its list of videos has an image \(entry 0\) and what is none'),
    ({'image': (tiny_unite.pixels(0, 56, 84),) * 40},
     r'x: \d+ tokens, want at most 200: use fewer frames'),
])
def test_bad_items_are_named_in_one_line(fields, message):
  item = types.Item('x', **fields)
  read = reader(trim_text=False)
  for use in (read, read.shape):
    with pytest.raises(ValueError, match=message) as error:
      use(item)
    assert '\n' not in str(error.value)


def test_media_alone_that_fill_the_prompt_are_refused_with_text_too():
  item = types.Item('x', text='red', image=(tiny_unite.pixels(0, 56, 84),) * 40)
  with pytest.raises(ValueError, match='x: more than 200 tokens without its'):
    reader()(item)


def test_tokenizer_without_the_control_tokens_is_refused():
  tokenizer = tiny_unite.tokenizer()._replace(encode=lambda text: [1, 2])
  with pytest.raises(ValueError, match='no control token'):
    inputs.Reader(tokenizer, RESOLUTION)


def test_unknown_modality_is_named():
  assert unite_prompts.modality_code('text, video', 'x') == 5
  with pytest.raises(ValueError, match="x: unknown modality 'audio'"):
    unite_prompts.modality_code('text,audio', 'x')


@pytest.mark.parametrize('n_frames, fps, count', [
    (1, 25, 2), (2, 25, 2), (3, 25, 2), (9, 2, 4), (100, 10, 4)])
def test_short_videos_give_what_they_have(n_frames, fps, count):
  resolution = qwen2_vl.Resolution(min_frames=4, max_frames=4)
  chosen = qwen2_vl.choose_frames(n_frames, fps, resolution)
  assert len(chosen) == count
  assert chosen.min() >= 0 and chosen.max() < n_frames


def test_resolution_that_is_not_released_resizes_once():
  released, once = qwen2_vl.Resolution(), qwen2_vl.Resolution(released=False)
  assert released.sizes('video', 170, 230) == [(280, 392), (392, 532)]
  (size,) = once.sizes('video', 170, 230)
  assert size[0] * size[1] <= 240 * 320
  (size,) = once.sizes('image', 2000, 3000)
  assert size == released.sizes('image', 2000, 3000)[-1]


def test_video_header_and_frames_agree(tmp_path):
  import av
  path = tmp_path / 'clip.mp4'
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libx264', rate=8)
    stream.width, stream.height = 64, 48
    for number in range(37):
      frame = av.VideoFrame.from_ndarray(
          tiny_unite.pixels(number, 48, 64), format='rgb24')
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
  item = types.Item('x', video=str(path))
  read = reader()
  found = read(item)
  assert read.shape(item) == inputs.shape_of(len(found.tokens), found.grids)
  assert found.grids[0][0] == 2  # four frames of 4.6 seconds
  with pytest.raises(media.MediaError, match='x: its video cannot be read'):
    read(types.Item('x', video=path.read_bytes()[:900]))


def test_a_resolution_of_another_backbone_is_refused():
  """Its sizes are multiples of other patches."""
  with pytest.raises(ValueError, match=(
      r'got a jaxret\.data\.qwen3_vl\.pixels\.Processor, .* want a jaxret\.data'
      r'\.qwen2_vl\.pixels\.Resolution')):
    inputs.Reader(tiny_unite.tokenizer(), qwen3_vl.Processor())


def test_a_layout_orders_windows_and_counts_time():
  read = reader(mrope=True, layout=visual_tokens.Layout(
      window=1, tokens_per_second=6))
  item = types.Item('x', image=tiny_unite.pixels(0, 56, 56),
                    video=tiny_unite.pixels(1, 56, 56, frames=4))
  found = read(item)
  assert found.sampled[0] is None and found.sampled[1].rate == 2
  shape = read.bucket(found)
  got = {name: array[0] for name, array in read.pad([found], shape).items()}
  plain = {name: array[0] for name, array in inputs.pad(
      [found], shape, read.special, True).items()}
  length = len(found.tokens)
  # What each visual token shows is the same, though it lies elsewhere.
  def shown(arrays):
    kept = arrays['visual_index'] >= 0
    tokens = arrays['patches'].reshape(-1, 4, 1176)
    return tokens[arrays['visual_index'][kept]]
  np.testing.assert_array_equal(shown(got), shown(plain))
  # A slice of the video is one second; an image has no time.
  video = found.tokens == read.special['video']
  first = got['positions'][0, :length][video].min()
  assert set(got['positions'][0, :length][video] - first) == {0, 6}
  assert set(plain['positions'][0, :length][video] - first) == {0, 1}
  image = found.tokens == read.special['image']
  np.testing.assert_array_equal(got['positions'][:, :length][:, image],
                                plain['positions'][:, :length][:, image])
