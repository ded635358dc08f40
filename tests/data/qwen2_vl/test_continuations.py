"""Prompts to be continued: the item as it is, marks, templates, masks."""
import numpy as np
import pytest

from jaxret.data import types
from tests import tiny_generators as tiny


@pytest.fixture(scope='module')
def reader():
  return tiny.qwen2_vl().reader


def written(reader, prompt):
  return reader.decode(prompt.tokens)


def test_a_text_is_the_prompt_as_it_is(reader):
  text = '<|im_start|>user\n a dog  '
  prompt = reader(types.Item('x', text))
  assert written(reader, prompt) == text
  np.testing.assert_array_equal(
      prompt.positions, np.tile(np.arange(len(prompt.tokens)), (3, 1)))


def test_media_stand_at_their_marks_or_in_front(reader):
  image, seen = tiny.pixels(0, 56, 28), '<|vision_start|>{}<|vision_end|>'
  shown = seen.format('<|image_pad|>' * 2)
  for text, want in (('a <|IMAGE|> b', f'a {shown} b'), ('a', f'{shown}a'),
                     (None, shown)):
    assert written(reader, reader(types.Item('x', text, image))) == want
  item = types.Item('x', 'a', (image, image), tiny.pixels(1, 2, 28, 28))
  clip = seen.format('<|video_pad|>')
  assert written(reader, reader(item)) == f'{shown}{shown}{clip}a'


def test_chat_is_a_turn_of_a_user(reader):
  item = types.Item('x', 'a dog?', tiny.pixels(0, 28, 28))
  assert written(reader, reader(item, chat=True)) == (
      '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n'
      '<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>a dog?'
      '<|im_end|>\n<|im_start|>assistant\n')


def test_masked_media_leave_all_else_where_it_is(reader):
  item = types.Item('x', 'a <|IMAGE|> b', tiny.pixels(0, 56, 56))
  whole, masked = reader(item), reader.masked(item)
  kept = whole.tokens != reader.special['image']
  assert (~kept).sum() == 4
  np.testing.assert_array_equal(masked.tokens, whole.tokens[kept])
  np.testing.assert_array_equal(masked.positions, whole.positions[:, kept])
  assert set(reader.pad([masked], reader.bucket(masked))) == {
      'tokens', 'length', 'positions'}


def test_a_masked_medium_is_not_read(reader, tmp_path):
  """Only its size is: of a file that breaks off behind its header."""
  import PIL.Image
  path = tmp_path / 'a.bmp'
  PIL.Image.fromarray(tiny.pixels(0, 56, 56)).save(path)
  path.write_bytes(path.read_bytes()[:100])
  item = types.Item('x', 'a', str(path))
  assert len(reader.masked(item).tokens)
  with pytest.raises(ValueError, match='x: its image'):
    reader(item)


def test_a_file_that_has_changed_is_measured_anew(reader, tmp_path):
  import PIL.Image
  path, found = tmp_path / 'a.png', []
  for side in (56, 28):
    PIL.Image.fromarray(tiny.pixels(0, side, 56)).save(path)
    item = types.Item('x', 'a', str(path))
    whole, masked = reader(item), reader.masked(item)
    kept = whole.tokens != reader.special['image']
    np.testing.assert_array_equal(masked.positions, whole.positions[:, kept])
    found.append((~kept).sum())
  assert found == [4, 2]


def test_rows_are_padded_with_their_positions(reader):
  prompts = [reader(types.Item('a', 'a dog runs on the grass and on')),
             reader(types.Item('b', 'x'))]
  batch = reader.pad(prompts, reader.bucket(prompts[0]))
  for row, one in enumerate(prompts):
    size = len(one.tokens)
    assert batch['length'][row] == size
    np.testing.assert_array_equal(batch['tokens'][row, :size], one.tokens)
    np.testing.assert_array_equal(batch['positions'][row, :, :size],
                                  one.positions)


def test_a_suffix_is_its_own_tokens(reader):
  assert reader.decode(reader.suffix(' a dog<|im_end|>', 's')) == (
      ' a dog<|im_end|>')
  assert reader.suffix('yes', 's').dtype == np.int32
  with pytest.raises(ValueError, match='s: it is empty'):
    reader.suffix('', 's')


def test_answers_end_with_one_of_two_tokens(reader):
  assert [reader.decode([end]) for end in reader.ends] == [
      '<|im_end|>', '<|endoftext|>']
