"""Prompts that LLaVA-NeXT continues: BOS, images at their marks, masks."""
import numpy as np
import pytest

from jaxret.data import text, types
from jaxret.data.llava import continuations, prompts
from jaxret.data.llava import images as llava_images
from tests import tiny_generators as tiny

GRID = llava_images.Grid(8, 4, ((8, 16), (16, 8)))


def make_reader(tokenizer=None, **options):
  tokenizer = tokenizer or tiny.tokenizer(prompts.CONTROL_TOKENS)
  return continuations.Reader(
      tokenizer, GRID, tokenizer.vocab_size, **options)


def written(reader, prompt):
  return reader.decode(prompt.tokens[prompt.tokens >= 0])


def test_a_prompt_is_bos_and_the_text_with_its_images():
  reader, image = make_reader(), tiny.pixels(0, 8, 16)
  order = llava_images.token_order((8, 16), GRID)
  prompt = reader(types.Item('x', 'a <|IMAGE|> dog', image))
  assert written(reader, prompt) == '<s>a  dog'
  shown = prompt.tokens == continuations.VISUAL
  np.testing.assert_array_equal(prompt.patch[shown], order)
  assert (prompt.image[shown] == 0).all()
  assert (prompt.image[~shown] == continuations.TEXT).all()
  in_front = reader(types.Item('x', 'a dog', image))
  assert in_front.tokens[1] == continuations.VISUAL


def test_chat_is_an_instruction():
  reader = make_reader()
  prompt = reader(types.Item('x', 'a dog?', tiny.pixels(0, 8, 16)), chat=True)
  assert written(reader, prompt) == '<s>[INST] \na dog? [/INST]'


def test_masked_images_leave_all_else_where_it_is():
  reader = make_reader()
  item = types.Item('x', 'a <|IMAGE|> dog', tiny.pixels(0, 30, 12))
  whole, masked = reader(item), reader.masked(item)
  text_alone = whole.tokens != continuations.VISUAL
  np.testing.assert_array_equal(masked.tokens, whole.tokens[text_alone])
  np.testing.assert_array_equal(masked.positions, np.flatnonzero(text_alone))
  batch = reader.pad([masked], reader.bucket(masked))
  assert set(batch) == {'tokens', 'length', 'positions'}


def test_a_suffix_goes_on_without_the_space_of_a_new_text():
  """Of a tokenizer that puts one in front of whatever it is given."""
  plain = tiny.tokenizer(prompts.CONTROL_TOKENS)
  spaced = text.Tokenizer(
      lambda one: plain.encode(one if one.startswith('<') else f' {one}'),
      *plain[1:])
  for ending in ('dog', ' dog'):
    np.testing.assert_array_equal(make_reader(spaced).suffix(ending, 's'),
                                  plain.encode(ending))
    np.testing.assert_array_equal(make_reader(plain).suffix(ending, 's'),
                                  plain.encode(ending))


def test_too_long_a_prompt_is_refused():
  with pytest.raises(ValueError, match='x: .* tokens, want at most 5'):
    make_reader(max_tokens=5)(types.Item('x', 'dog ' * 9))
