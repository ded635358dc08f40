"""Pairs for Qwen2-VL: whose media stand where, and what is shared."""
import numpy as np
import pytest

from jaxret.data import question_frames, types
from jaxret.data.qwen2_vl import pairs
from tests import tiny_generators, tiny_rerankers

IMAGE = tiny_generators.pixels(0, 28, 56)
QUERY = types.Item('q', text='a dog', image=IMAGE)
TRUE_FALSE = question_frames.FRAMES['true_false']


@pytest.fixture
def read():
  return tiny_rerankers.qwen2_vl().reader


def said(read, *pair, **options):
  return tiny_generators.tokenizer().decode(read(*pair, **options).tokens)


def test_a_medium_stands_where_a_text_marks_it(read):
  shown = '<|vision_start|>' + 2 * '<|image_pad|>' + '<|vision_end|>'
  found = said(read, QUERY, types.Item(
      'c', text='two <|IMAGE|> dogs', image=IMAGE), frame=TRUE_FALSE)
  assert found.startswith('<|im_start|>system\nYou are a helpful assistant.')
  assert f'<Query>: {shown}a dog\n<Document>: two {shown} dogs\nDoes' in found
  assert found.endswith('True or False<|im_end|>\n<|im_start|>assistant\n')


def test_a_frame_may_have_a_system_s_turn_of_its_own(read):
  found = said(read, types.Item('q'), types.Item('c'))
  assert found.startswith('<|im_start|>system\nJudge whether the Document')
  assert '<Query>:NULL\n<Document>:NULL<|im_end|>' in found


def test_what_is_shared_ends_before_the_candidate(read):
  query, *candidates = map(read.look, (QUERY, types.Item(
      'text', text='(a cat'), types.Item('image', image=IMAGE)))
  head = read.head(query)
  for candidate in candidates:
    tokens = read.tokens(query, candidate)
    cut = pairs.shared(head, tokens)
    assert len(head) - 1 <= cut <= len(head)
    np.testing.assert_array_equal(head[:cut], tokens[:cut])
  assert pairs.shared(head, head) == len(head) - 1
  assert pairs.shared(np.array([1, 2, 3]), np.array([1, 5, 3, 4])) == 1


def test_positions_are_those_that_a_padded_pair_has(read):
  query, candidate = map(read.look, (QUERY, types.Item('c', image=IMAGE)))
  inputs = read(QUERY, types.Item('c', image=IMAGE))
  batch = read.pad([inputs], read.bucket(inputs))
  np.testing.assert_array_equal(
      read.positions(query, candidate, inputs.tokens),
      batch['positions'][0][:, :len(inputs.tokens)])


def test_a_long_text_is_cut_before_what_the_frame_needs(read):
  long = types.Item('c', text='a dog runs ' * 40)
  whole = read(QUERY, long, frame=TRUE_FALSE).tokens
  reader = pairs.PairReader(
      tiny_rerankers.with_words(tiny_generators.tokenizer()),
      tiny_generators.RESOLUTION, len(whole) - 200)
  found = said(reader, QUERY, long, frame=TRUE_FALSE)
  assert found.endswith('Does the Document meet the requirements based on the '
                        'Query and the Instruct? True or False<|im_end|>\n'
                        '<|im_start|>assistant\n')
  with pytest.raises(ValueError, match='^q with c: .* never cut, want at most'):
    pairs.PairReader(tiny_generators.tokenizer(), tiny_generators.RESOLUTION,
                     3)(QUERY, types.Item('c', image=IMAGE))
