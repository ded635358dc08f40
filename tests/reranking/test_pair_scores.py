"""Pairs cut into heads and suffixes: tokens, positions, media."""
import numpy as np

from jaxret.data import question_frames, visual_features
from jaxret.reranking import pair_scores
from tests import tiny_rerankers
from tests.tiny_rerankers import CANDIDATES, QUERIES

QUESTION = pair_scores.Question(question_frames.FRAMES['yes_no'], None)


def looked(reader, items):
  found = []
  for number, item in enumerate(items):
    shown = reader.look(tiny_rerankers.embedder.as_item(item, number))
    found.append(pair_scores.Looked(shown, tuple(
        visual_features.content_key('', *one) for one in shown.media)))
  return found


def test_head_and_suffix_are_the_pair():
  reader = tiny_rerankers.qwen3_vl().reader
  queries, candidates = looked(reader, QUERIES), looked(reader, CANDIDATES)
  block = pair_scores.block(
      reader, QUESTION, queries, candidates, [range(5), range(5)])
  assert block.of == list(range(5))  # said alike behind both queries
  for query, head, start, wanted in zip(
      queries, block.heads, block.starts, block.wanted):
    for suffix in (block.suffixes[s] for s in wanted):
      candidate = suffix.shown[0]
      whole = reader.tokens(query.shown, candidate.shown, *QUESTION)
      np.testing.assert_array_equal(
          np.concatenate([head.tokens, suffix.tokens]), whole)
      np.testing.assert_array_equal(
          np.concatenate([head.positions, suffix.positions + start], 1),
          reader.positions(query.shown, candidate.shown, whole))


def test_visual_tokens_go_where_they_are_shown():
  reader = tiny_rerankers.qwen3_vl().reader
  (both,) = looked(reader, CANDIDATES[3:4])
  image = reader.special['image']
  piece = pair_scores.Piece(
      np.array([1, image, image, 2]), None, (both,), {'image': 1})
  features = {both.keys[0]: np.arange(6.0).reshape(3, 2)}
  visual, index = np.zeros((6, 2)), np.full(6, -1)
  piece.put(visual, index, 2, features, reader.special)
  np.testing.assert_array_equal(index, [-1, -1, -1, 3, 4, -1])
  np.testing.assert_array_equal(visual[3:5], [[2, 3], [4, 5]])
  assert not visual[[0, 1, 2, 5]].any()
