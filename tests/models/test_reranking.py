"""Answers about candidates behind a query that is read once: Qwen2-VL."""
import numpy as np
import pytest

from jaxret.data import question_frames, types
from tests import tiny_generators, tiny_rerankers

QUERIES = (
    {'image': tiny_generators.pixels(0, 56, 56), 'text': 'a dog'}, 'two cats')
CANDIDATES = (
    types.Item('text', text='a cat sleeps'),
    types.Item('image', image=tiny_generators.pixels(1, 28, 56)),
    types.Item('both', text='see <|IMAGE|> and <|VIDEO|>',
               image=tiny_generators.pixels(2, 56, 56),
               video=tiny_generators.pixels(3, 4, 56, 56)))


@pytest.mark.slow
@pytest.mark.parametrize('frame', ['yes_no', 'true_false'])
def test_answers_are_those_of_whole_pairs(frame):
  model = tiny_rerankers.qwen2_vl()
  want = tiny_rerankers.whole_pairs(
      model, QUERIES, CANDIDATES, frame=question_frames.FRAMES[frame])
  found = model.rerank(QUERIES, CANDIDATES, frame=frame, show_progress=False)
  assert want.std() > 0.01
  np.testing.assert_allclose(found.log_odds, want, atol=1e-4)
