"""Questions: texts in templates, words of the answer, what prompts share."""
import numpy as np
import pytest

from jaxret.data import text as text_lib
from jaxret.data import types
from jaxret.data.llava import images as llava_images
from jaxret.data.llava import questions as rerank_inputs
from tests import tiny_mm_embed

GRID = llava_images.Grid(4, 2)
N_VISUAL = GRID.side ** 2 + 1


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  return text_lib.train_tokenizer(
      ['a red dog', 'True or False'], 300,
      tmp_path_factory.mktemp('tokenizer') / 'made',
      control_tokens=('<s>', '</s>', '<image>', '<pad>'), prompts=['[INST] '])


def image(seed):
  return np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)


def question(*modalities):
  return tiny_mm_embed.questions()[modalities]


def reader(tokenizer):
  return rerank_inputs.Reader(tokenizer, GRID)


def test_prompts_of_a_query_share_what_comes_before_the_candidates(tokenizer):
  """A composed query: its own image is laid out once, and whole."""
  read, template = reader(tokenizer), question('image,text', 'image')
  queries = [types.Item(f'q{i}', text, image(i))
             for i, text in enumerate(('a dog', 'a red one now'))]
  candidates = [types.Item(f'c{i}', None, image(9 + i)) for i in range(3)]
  groups = [[read(query, one, template) for one in candidates[:3 - number]]
            for number, query in enumerate(queries)]
  batch = rerank_inputs.pad_groups(
      groups, rerank_inputs.group_shape(groups), GRID)
  for row, group in enumerate(groups):
    start = batch['length'][row]
    np.testing.assert_array_equal(batch['pixels'][row], group[0].images[0])
    visual = batch['visual_index'][row, :start]
    np.testing.assert_array_equal(
        visual[visual >= 0], [*range(1, N_VISUAL), 0])
    for column, one in enumerate(group):
      np.testing.assert_array_equal(np.concatenate([
          batch['tokens'][row, :start], batch['suffix_tokens'][row, column][
              :batch['suffix_length'][row, column]]]), one.tokens)
      np.testing.assert_array_equal(
          batch['suffix_pixels'][row, column], one.images[1])
      visual = batch['suffix_visual_index'][row, column]
      np.testing.assert_array_equal(
          visual[visual >= 0], [*range(1, N_VISUAL), 0])
  # The second has two candidates: its last one is there twice.
  np.testing.assert_array_equal(batch['suffix_tokens'][1, 1],
                                batch['suffix_tokens'][1, 2])


def test_equal_and_single_prompts_leave_one_token_to_ask(tokenizer):
  read, template = reader(tokenizer), question('image', 'text')
  query, candidate = types.Item('q', None, image(0)), types.Item('c', 'a dog')
  for count in (1, 2):
    group = [read(query, candidate, template)] * count
    batch = rerank_inputs.pad_groups(
        [group], rerank_inputs.group_shape([group]), GRID)
    assert (batch['suffix_length'] == 1).all()
    assert batch['length'][0] == len(group[0].tokens) - 1
    assert 'suffix_pixels' not in batch


def test_no_more_is_shared_than_there_is_room_for(tokenizer):
  """Of one candidate alone, the prompts differ in nothing."""
  read, template = reader(tokenizer), question('image,text', 'image')
  query = types.Item('q', 'a dog', image(0))
  group = [read(query, types.Item('c', None, image(1)), template)] * 2
  whole = group[0]
  for crops, tokens, seen in ((1, len(whole.tokens), 1), (0, 99, 0),
                              (2, N_VISUAL + 8, None)):
    batch = rerank_inputs.pad_groups([group], rerank_inputs.Shape(
        tokens, crops, 2, len(whole.tokens), 2), GRID)
    start = batch['length'][0]
    assert start <= tokens
    np.testing.assert_array_equal(np.concatenate([
        batch['tokens'][0, :start], batch['suffix_tokens'][0, 1][
            :batch['suffix_length'][0, 1]]]), whole.tokens)
    shared = whole.image[:start].max(initial=-1) + 1
    assert seen is None or shared == seen
    if shared < 2:  # an image is whole on either side
      assert (whole.image[start:] >= shared).sum() == (
          (2 - shared) * N_VISUAL)
      np.testing.assert_array_equal(
          batch['suffix_pixels'][0, 0, 0], whole.images[shared][0])


def test_alike_pixels_are_shared_and_others_are_not(tokenizer):
  """Candidates' images come first in a caption's question."""
  read, template = reader(tokenizer), question('text', 'image')
  query = types.Item('q', 'a dog')
  for second, crops in ((0, 1), (1, 0)):
    group = [read(query, types.Item('c', None, image(seed)), template)
             for seed in (0, second)]
    assert rerank_inputs.group_shape([group]).crops == crops


def test_too_long_a_prompt_is_refused_by_name(tokenizer):
  one = reader(tokenizer)(types.Item('q', 'a dog'), types.Item('c', 'red'),
                          question('text', 'text'))
  with pytest.raises(ValueError, match='query q, candidate c: .* room for 3'):
    rerank_inputs.pad([one], rerank_inputs.Shape(3, 0), GRID)
