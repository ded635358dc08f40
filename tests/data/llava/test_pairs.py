"""Pairs as LLaVA-NeXT is asked about them: questions, frames, refusals."""
import numpy as np
import pytest

from configs import reranking
from jaxret.data import question_frames, types
from jaxret.data.llava import images as llava_images
from jaxret.data.llava import pairs, questions
from jaxret.data.llava import prompts as prompts_lib
from tests import tiny_generators

PIXELS = tiny_generators.pixels(0, 8, 8)
ITEMS = {'text': types.Item('t', text='a dog'),
         'image': types.Item('i', image=PIXELS),
         'image_text': types.Item('b', text='two cats', image=PIXELS)}


def words():
  return tiny_generators.tokenizer(prompts_lib.CONTROL_TOKENS)


def reader(max_tokens=4096):
  return pairs.PairReader(words(), llava_images.Grid(8, 4), None, max_tokens)


def test_questions_are_those_of_the_config():
  assert dict(pairs.QUESTIONS) == reranking.QUESTIONS


@pytest.mark.parametrize('name', pairs.QUESTIONS)
def test_a_pair_reads_as_its_question_does(name):
  query, candidate = (ITEMS[kind] for kind in name.split('_to_'))
  found = reader()(query, candidate, pairs.asked())
  want = questions.Reader(words(), llava_images.Grid(8, 4))(
      query, candidate, pairs.QUESTIONS[name])
  for got, wanted in zip(found, want):
    np.testing.assert_equal(got, wanted)


def test_a_frame_asks_by_what_the_items_have():
  asked, frame = pairs.asked('true_false'), question_frames.FRAMES['true_false']
  found = reader()(ITEMS['text'], ITEMS['image_text'], asked, 'find it')
  start = frame.before.format(instruction='find it', query='{query}')
  want = questions.Reader(words(), llava_images.Grid(8, 4))(
      ITEMS['text'], ITEMS['image_text'],
      f'{start}<image>\n{{candidate}}{frame.behind}')
  np.testing.assert_equal(found.tokens, want.tokens)
  empty = reader()(ITEMS['text'], types.Item('none'), asked)
  assert 'NULL' in words().decode(empty.tokens)
  encode = words().encode
  chosen = question_frames.QuestionFrame('{query}: ', '?', ('dog', 'cat'))
  assert reader().words(pairs.asked(chosen)) == tuple(
      encode(f'a {word}')[len(encode('a'))] for word in ('dog', 'cat'))


@pytest.mark.parametrize('frame, said', [
    ('maybe', "got 'maybe', want mm_embed, true_false"),
    ('yes_no', 'speaks as the system'),
    ({'text_to_video': '{query}'}, "'text_to_video'.*want a question for one"),
    (3, 'frame: got 3')])
def test_a_frame_that_is_none_is_refused(frame, said):
  with pytest.raises(ValueError, match=said) as error:
    pairs.asked(frame)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('item, said', [
    (types.Item('v', video=PIXELS[None]), 'v: it has a video'),
    (types.Item('e'), 'e: it is empty'),
    (types.Item('n', text=3), 'n: its text is int'),
    (types.Item('m', text='a <|IMAGE|>'), r'm: its text holds <\|IMAGE\|>'),
    (types.Item('m', text='a </s>'), 'm: its text holds </s>'),
    (types.Item('p', image=(PIXELS, PIXELS)), 'p: its image is tuple')])
def test_an_item_that_is_in_no_pair_is_named(item, said):
  with pytest.raises(ValueError, match=said):
    reader().check(item)


def test_a_pair_that_cannot_be_asked_about_is_named():
  with pytest.raises(ValueError, match='t, candidate t: .* want at most 9'):
    reader(9)(ITEMS['text'], ITEMS['text'], pairs.asked())
  some = pairs.asked({'text_to_text': '{query}? {candidate}'})
  with pytest.raises(ValueError, match='no question text_to_image, only text_'):
    reader()(ITEMS['text'], ITEMS['image'], some)
  with pytest.raises(ValueError, match='has 1 <image> for 0 images'):
    reader()(ITEMS['text'], ITEMS['text'], pairs.asked('<image> {query}'))


@pytest.mark.parametrize('frame, instruction, said', [
    (None, 'find it', "'find it' has no effect"),
    ('true_false', 'a {query}', r'it holds \{query\}'),
    ('true_false', 3, 'got int')])
def test_an_instruction_that_is_none_is_refused(frame, instruction, said):
  pairs.check_instruction(pairs.asked(frame), None)
  with pytest.raises(ValueError, match=said):
    pairs.check_instruction(pairs.asked(frame), instruction)
