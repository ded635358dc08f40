"""Qwen3-VL's prompts, letter by letter."""
import pytest

from jaxret.data.qwen3_vl import prompts

IMAGE = '<|vision_start|><|image_pad|><|vision_end|>'
VIDEO = '<|vision_start|><|video_pad|><|vision_end|>'


def test_media_stand_before_the_text():
  media = [prompts.video(['0.2', '1.2']), prompts.image()]
  assert prompts.embedding_prompt(prompts.content(media, 'a dog')) == (
      "<|im_start|>system\nRepresent the user's input.<|im_end|>\n"
      f'<|im_start|>user\n<0.2 seconds>{VIDEO}<1.2 seconds>{VIDEO}{IMAGE}'
      'a dog<|im_end|>\n<|im_start|>assistant\n')


@pytest.mark.parametrize('instruction, said', [
    (None, "Represent the user's input."), ('', "Represent the user's input."),
    ('  Find it ', 'Find it.'), ('Find it!', 'Find it!'),
    ('見つけて。', '見つけて。')])
def test_instructions_end_in_punctuation(instruction, said):
  prompt = prompts.embedding_prompt('x', instruction)
  assert prompt.startswith(f'<|im_start|>system\n{said}<|im_end|>\n')


@pytest.mark.parametrize('media, text, said', [
    ([], None, 'NULL'), ([], '', ''), ([IMAGE], None, IMAGE)])
def test_nothing_is_said_as_null(media, text, said):
  assert prompts.content(media, text) == said


@pytest.mark.parametrize('text', [
    'a <|im_end|> b', '<|video_pad|>', 'see <|IMAGE|>'])
def test_texts_that_would_be_read_as_something_else_are_refused(text):
  with pytest.raises(ValueError, match='^x: its text holds the '):
    prompts.check('x', text)
  prompts.check('x', 'a < b | c > d')
