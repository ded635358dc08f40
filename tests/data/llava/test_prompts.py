"""MM-Embed's prompts, letter by letter, and what is not pooled of them."""
import pytest

from jaxret.data.llava import prompts


@pytest.mark.parametrize('text, has_image, instruction, query, candidate', [
    ('a', False, 'I', 'Instruct: I\nQuery: a', 'a'),
    (None, True, 'I', 'Instruct: I\nQuery: <image>\n', '<image>\n'),
    ('a', True, 'I', 'Instruct: I\nQuery: <image>\na', '<image>\na'),
    ('a', False, None, 'Query: a', 'a')])
def test_whole_prompts(text, has_image, instruction, query, candidate):
  assert prompts.prompt(text, has_image, True, instruction) == query
  assert prompts.prompt(text, has_image, False, instruction) == candidate


def test_instruction_is_not_pooled():
  """With one token a character: BOS, the instruction and its line's end."""
  whole = ['<s>', *'Instruct: I\nQuery: a', '</s>']
  start = prompts.pool_start(list, 'I')
  assert ''.join(whole[start:-1]) == 'Query: a'
  assert prompts.pool_start(list, 'I', 'nv_embed_v1') == len(
      'Instruct: I\nQuery: ')
  assert prompts.pool_start(list, None) == prompts.pool_start(list, '') == 0


def test_the_placeholder_in_a_text_is_refused():
  prompts.check_text('\nQuery: a', 'x')
  with pytest.raises(ValueError, match='x: its text holds the image placeh'):
    prompts.check_text('an <image>', 'x')
