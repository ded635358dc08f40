"""Prompts that VideoChat-Flash continues: clips at their marks, masks."""
import numpy as np
import pytest

from jaxret.data import types
from jaxret.data.shapes import render
from jaxret.data.videochat import continuations, prompts
from tests import tiny_generators as tiny

INSTRUCTION = 'Describe this video briefly.'


def make_reader(**options):
  return continuations.Reader(
      tiny.tokenizer(), {'image': 1, 'video': 4}, 8, {'image': 2, 'video': 4},
      **options)


def test_a_turn_is_that_of_the_model():
  item = types.Item('x', INSTRUCTION, video=tiny.pixels(0, 6, 8, 8))
  prompt = make_reader()(item, chat=True)
  np.testing.assert_array_equal(
      prompt.tokens, prompts.visual_prefix(tiny.tokenizer(), INSTRUCTION, 4))
  assert prompt.frames.shape == (4, 8, 8, 3)


def test_what_is_seen_stands_at_its_mark_or_in_front():
  reader, image = make_reader(), tiny.pixels(0, 8, 8)
  encode, shown = tiny.tokenizer().encode, 2 * [types.VISUAL]
  for text, want in (('a <|IMAGE|> dog', encode('a ') + shown + encode(' dog')),
                     ('a dog', shown + encode('a dog')), (None, shown)):
    prompt = reader(types.Item('x', text, image))
    assert prompt.tokens.tolist() == want
    assert len(prompt.frames) == 1
  assert reader(types.Item('x', 'a dog')).tokens.tolist() == encode('a dog')


def test_masked_media_leave_all_else_where_it_is():
  reader = make_reader()
  item = types.Item('x', 'a <|VIDEO|> dog', video=tiny.pixels(0, 4, 8, 8))
  whole, masked = reader(item), reader.masked(item)
  text = whole.tokens != types.VISUAL
  np.testing.assert_array_equal(masked.tokens, whole.tokens[text])
  np.testing.assert_array_equal(masked.positions, np.flatnonzero(text))
  assert set(reader.pad([masked], reader.bucket(masked))) == {
      'tokens', 'length', 'positions'}


def test_a_limit_is_of_the_seconds_that_are_seen():
  frames = [np.full((8, 8, 3), 20 * i, np.uint8) for i in range(10)]
  item = types.Item('x', video=render.encode_video(np.stack(frames)))
  first, whole = (make_reader(limit_s=limit)(item).frames[-1].mean()
                  for limit in (0.25, None))
  assert first < 60 < 120 < whole


def test_a_prompt_that_is_too_long_or_holds_the_template_is_refused():
  with pytest.raises(ValueError, match='x: .* tokens, want at most 5'):
    make_reader(max_tokens=5)(types.Item('x', 'dog ' * 9))
  with pytest.raises(ValueError, match='x: its text holds the control token'):
    make_reader()(types.Item('x', '<|im_end|>'), chat=True)
