"""What a reranker learns from: right and wrong candidates of each query."""
import numpy as np
import pytest

from jaxret.data import text as text_lib
from jaxret.data import types
from jaxret.data.llava import images as llava_images
from jaxret.data.llava import prompts as mm_embed_prompts
from jaxret.data.llava import questions as rerank_inputs
from jaxret.data.sets import mixed
from jaxret.methods.mm_embed import rerank_examples

QUESTION = '<image>\n{query}\n<image>\nTrue or False'
GRID = llava_images.Grid(4, 2)


def image(seed):
  return np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)


def training_set():
  """Ten pictures, then two texts; query q asks for picture q."""
  pool = (*(types.Item(f'p{i}', image=image(i)) for i in range(10)),
          *(types.Item(f't{i}', 'a dog') for i in range(2)))
  queries = tuple(mixed.Query(
      types.Item(f'q{q}', f'the red dog is {q}', image(90 + q)),
      {'image': ('',)}, (f'p{q}', 'p9'), (f'p{q + 1}',)) for q in range(3))
  return mixed.TrainingSet(queries, pool, ('pictures',) * 10 + ('texts',) * 2)


# The best is right, then come a text, the excluded one and four others.
RANKED = np.array([[q, 10, q + 1, 5, 6, 7, 8, -1] for q in range(3)])


def groups(**changed):
  given = dict(seed=0, depth=3, n_near=2, n_far=1) | changed
  return rerank_examples.groups(
      training_set(), changed.pop('ranked', RANKED),
      lambda query, wanted: QUESTION,
      **{name: given[name] for name in ('seed', 'depth', 'n_near', 'n_far')})


@pytest.mark.parametrize('seed', range(5))
def test_the_first_candidate_is_right_and_the_others_are_wrong(seed):
  found = groups(seed=seed)
  assert [one.query.id for one in found] == ['q0', 'q1', 'q2']
  for q, one in enumerate(found):
    right, *wrong = (item.id for item in one.candidates)
    assert right in (f'p{q}', 'p9')
    assert set(wrong[:2]) < {'p5', 'p6', 'p7'}  # p8 is too deep
    assert len({right, *wrong}) == 4
    assert not {f'p{q}', f'p{q + 1}', 'p9', 't0', 't1'} & set(wrong)


def test_what_was_not_found_is_drawn_from_the_part_of_the_answer():
  found = groups(ranked=np.full((3, 4), -1), n_near=7, n_far=0)
  for q, one in enumerate(found):
    wrong = {item.id for item in one.candidates[1:]}
    assert wrong == {f'p{i}' for i in range(9)} - {f'p{q}', f'p{q + 1}'}
  assert not groups(n_near=7, n_far=1)  # there are seven wrong pictures


def test_an_example_is_a_group_without_its_first_axis(tmp_path):
  tokenizer = text_lib.train_tokenizer(
      ['a red dog', 'True or False'], 300, tmp_path / 'made',
      control_tokens=mm_embed_prompts.CONTROL_TOKENS, prompts=['[INST] '])
  reader = rerank_inputs.Reader(tokenizer, GRID)
  shape = rerank_inputs.Shape(60, 1, 4, 40, 1)
  examples = rerank_examples.Examples(reader, shape, groups())
  assert len(examples) == len(examples.ids) == 3
  arrays = examples[1]
  assert arrays['suffix_pixels'].shape == (4, 1, 4, 4, 3)
  one = groups()[1]
  for column, candidate in enumerate(one.candidates):
    whole = reader(one.query, candidate, QUESTION)
    np.testing.assert_array_equal(np.concatenate([
        arrays['tokens'][:arrays['length']], arrays['suffix_tokens'][column][
            :arrays['suffix_length'][column]]]), whole.tokens)
    np.testing.assert_array_equal(
        arrays['suffix_pixels'][column], whole.images[1])
