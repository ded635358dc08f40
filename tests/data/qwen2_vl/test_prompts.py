"""UNITE's prompts, letter by letter, and what stands in them."""
import pytest

from jaxret.data.qwen2_vl import prompts

IMAGE = '<|vision_start|><|image_pad|><|vision_end|>'


def content(text, order, image=0, video=0):
  return prompts.Content(text, {'image': image, 'video': video}, order)


def test_whole_prompts():
  assert prompts.prompt(content('a dog', ('text',))) == (
      '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n'
      '<|im_start|>user\na dog\nSummary above sentence in one word:<|im_end|>\n'
      '<|im_start|>assistant\n<|endoftext|>')
  found = prompts.prompt(content(
      '<|IMAGE|>\na dog', ('image', 'text'), image=1))
  assert (f'user\n{IMAGE}\na dog\nSummary above image and sentence in one '
          'word:') in found


def test_media_without_text_get_a_mark_each_or_as_released_one():
  two = content(None, ('image',), image=2)
  assert prompts.prompt(two, released=False).count(IMAGE) == 2
  assert prompts.prompt(two, released=True).count(IMAGE) == 1


def test_marks_are_put_in_front_or_counted():
  assert prompts.marked(content('up', ('image', 'text'), 2), 'x').text == (
      '<|IMAGE|>\n<|IMAGE|>\nup')
  with pytest.raises(ValueError, match='x: its text has 1 marks .* for 2 '):
    prompts.marked(content('<|IMAGE|> up', ('text', 'image'), 2), 'x')
  with pytest.raises(ValueError, match='x: its text holds the control token'):
    prompts.marked(content('a <|im_end|>', ('text',)), 'x')


@pytest.mark.parametrize('keep', range(9))
def test_a_shortened_text_keeps_its_marks(keep):
  text = 'ab<|IMAGE|>cd<|VIDEO|>efgh'
  found = prompts.shortened(text, keep)
  letters = found.replace('<|IMAGE|>', '').replace('<|VIDEO|>', '')
  assert letters == 'abcdefgh'[:keep]
  assert found.index('<|IMAGE|>') < found.index('<|VIDEO|>')


def test_codes_of_modalities_are_sets():
  assert prompts.modality_code('image, text') == prompts.modality_code(
      'text,image') == 3
  assert prompts.modality_code('text,audio') == 1
  with pytest.raises(ValueError, match="x: unknown modality 'audio'"):
    prompts.modality_code('text,audio', 'x')
