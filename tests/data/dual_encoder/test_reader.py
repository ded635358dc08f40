"""Items as CLIP and SigLIP 2 are given them; what is refused, by name."""
import numpy as np
import pytest

from jaxret.data import media, types
from jaxret.data.dual_encoder import reader
from jaxret.data.qwen2_vl import pixels as qwen2_vl
from tests import numbered_videos, tiny_unite
from tests import tiny_dual_encoder as tiny

IMAGE = tiny_unite.pixels(0, 9, 13)


def make(name='clip', **options):
  return tiny.make_reader(tiny.config(name), **options)


def test_texts_of_clip_are_padded_to_a_few_lengths():
  read = make()
  inputs = [read(types.Item(str(n), text='a' * n)) for n in (0, 3, 14, 18)]
  assert [len(one.tokens) for one in inputs] == [2, 5, 16, 20]
  assert [read.bucket(one) for one in inputs] == [
      (16, 0), (16, 0), (16, 0), (20, 0)]
  batch = read.pad(inputs[:2], (16, 0))
  assert batch['length'].tolist() == [2, 5]
  assert batch['tokens'][1].tolist() == [2, 28, 28, 28, 1, *[0] * 11]


def test_texts_of_siglip_are_lowered_ended_and_padded_to_one_length():
  read = make('siglip')
  upper, lower = (read(types.Item('x', text=text)) for text in ('AΣ', 'aσ'))
  np.testing.assert_array_equal(upper.tokens, lower.tokens)
  assert upper.tokens.tolist() == [28, 3 + ord('σ') % 36, 1]  # nothing before
  assert read.bucket(upper) == (12, 0)
  assert read.pad([upper], (12, 0))['tokens'][0, 3:].tolist() == [0] * 9


def test_a_prompt_stands_before_texts_alone():
  read = make()
  np.testing.assert_array_equal(
      read(types.Item('x', text='b'), 'a ').tokens,
      read(types.Item('x', text='a b')).tokens)
  item = types.Item('mine', image=IMAGE)
  assert read(item, '').pixels.shape == (1, 8, 8, 3)
  with pytest.raises(ValueError, match='mine: it is no text, .* no prompt with '
                     'images'):
    read(item, 'a ')


@pytest.mark.parametrize('name', ['clip', 'siglip'])
def test_a_text_that_is_too_long(name, caplog):
  most = tiny.config(name).text.max_tokens
  item = types.Item('mine', text='a' * (most + 4))
  with pytest.raises(ValueError, match=f'mine: {most + 5 + (name == "clip")} '
                     f'tokens, want at most {most}, .*shorten its text'):
    make(name)(item)
  with pytest.raises(ValueError, match='mine: .* tokens'):
    make(name).check(item)
  cut = make(name, trim_text=True)(item).tokens
  assert len(cut) == most and cut[-1] == 1
  assert f'the end of its text is cut to keep {most}' in caplog.text


@pytest.mark.parametrize('fields, message', [
    ({}, 'it has no text, image or video'),
    ({'text': 'a', 'image': IMAGE}, 'got text, image; this model embeds one'),
    ({'image': (IMAGE, IMAGE)}, 'got image, image; .* frames go as one video'),
    ({'video': (IMAGE[None], IMAGE[None])}, 'got video, video; this model'),
    ({'text': 3}, 'its text is int; want a string'),
    ({'image': 'nowhere.png'}, 'its image cannot be read: nowhere.png'),
    ({'image': b'no image'}, 'its image cannot be read'),
    ({'image': np.zeros((9, 9))}, 'its image is float64'),
    ({'image': np.zeros((1, 201, 3), np.uint8)},
     'its image has 201x1 pixels, one side over 200 times the other: crop it'),
])
def test_what_is_refused(fields, message):
  item = types.Item('mine', **fields)
  for call in (make(), make().check):
    with pytest.raises(ValueError, match=f'^mine: {message}') as error:
      call(item)
    assert '\n' not in str(error.value)
  if 'cannot be read' in message:
    assert isinstance(error.value, media.MediaError)


def test_control_tokens_and_foreign_vocabularies_are_refused():
  class Odd(tiny.Tokenizer):
    def encode(self, text):
      return [{'e': 1, 'f': 99}.get(letter, 5) for letter in text]
  read = make(tokenizer=Odd())
  for text, message in (('ae', r'holds a control token .*\(id 1\)'),
                        ('af', 'token 99 lies outside the table of 40')):
    with pytest.raises(ValueError, match=f'mine: .*{message}'):
      read(types.Item('mine', text=text))


@pytest.mark.parametrize('added, message', [
    (None, 'puts no end behind a text'), (((2,), ()), 'puts no end behind'),
    (((), (3,)), r'ends a text with \(3,\), want 1, the eos_token_id')])
def test_a_tokenizer_with_another_end_is_refused(added, message):
  class Odd(tiny.Tokenizer):
    pass
  Odd.added = added
  with pytest.raises(ValueError, match=message):
    make(tokenizer=Odd())
  make('siglip', tokenizer=Odd())  # which puts its own


def test_a_video_file_is_seen_evenly(tmp_path):
  path = tmp_path / 'video.mp4'
  path.write_bytes(numbered_videos.video(20))
  read = make('siglip', resolution=tiny.RESOLUTION)
  inputs = read(types.Item('x', video=str(path)))
  assert inputs.pixels.shape == (5, 8, 8, 3)
  assert read.bucket(inputs) == (0, 5)
  read.check(types.Item('x', video=str(path)))


def test_patches_of_any_shape_are_padded():
  read = make('siglip2')
  one, other = (read(types.Item('x', image=tiny_unite.pixels(0, *size)))
                for size in ((4, 30), (30, 31)))
  assert one.grid == (1, 8) and other.grid == (3, 3)
  batch = read.pad([one, other], (0, 2))
  assert batch['pixels'].shape == (2, 2, 9, 48)
  assert batch['n_frames'].tolist() == [1, 1]
  assert batch['grids'].tolist() == [[1, 8], [3, 3]]
  assert not batch['pixels'][:, 1].any()


def test_what_does_not_fit_a_batch_is_named():
  read = make()
  text = read(types.Item('mine', text='a' * 18))
  for shape in ((16, 0), (0, 1)):
    with pytest.raises(ValueError, match='mine: 20 tokens and 0 frames'):
      read.pad([text], shape)
  with pytest.raises(ValueError, match='mine: 0 tokens and 1 frames, the '):
    read.pad([read(types.Item('mine', image=IMAGE))], (16, 0))


def test_another_backbones_resolution_is_refused():
  with pytest.raises(ValueError, match='dual_encoder.pixels.Resolution'):
    reader.open_reader(tiny.config(), tiny.Tokenizer(),
                       resolution=qwen2_vl.Resolution())
