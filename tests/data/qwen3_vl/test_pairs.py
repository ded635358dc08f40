"""Pairs for Qwen3-VL-Reranker: prompts, cutting, errors."""
import numpy as np
import pytest

from jaxret.data import question_frames, types
from jaxret.data.qwen2_vl import pairs as qwen2_vl
from jaxret.data.qwen3_vl import pairs, prompts
from tests import tiny_qwen3_vl, tiny_unite

QUERY = types.Item('q', text='red', image=tiny_unite.pixels(0))
CANDIDATE = types.Item('c', text='blue square', video=tiny_unite.pixels(1, 64,
                                                                       64, 3))


FRAME = question_frames.FRAMES['yes_no']


def tokenizer(words=FRAME.answers):
  """The tiny one, where each of the words is a token."""
  tiny = tiny_unite.tokenizer()
  ids = {word: [390 + i] for i, word in enumerate(words)}
  return tiny._replace(
      encode=lambda text: ids.get(text) or tiny.encode(text))


def make(**options):
  return pairs.PairReader(tokenizer(), tiny_qwen3_vl.RESOLUTION, **options)


def test_the_query_s_media_come_first():
  read = make()
  found = read(QUERY, CANDIDATE)
  assert read.words(FRAME) == (390, 391) and found.id == 'q with c'
  assert found.kinds == ('image', 'video', 'video')
  decoded = tiny_unite.tokenizer().decode(found.tokens)
  assert decoded.endswith('blue square<|im_end|>\n<|im_start|>assistant\n')
  assert decoded.index('<|image_pad|>') < decoded.index('<Document>:<')
  assert decoded.index('red\n<Document>') < decoded.index('<|video_pad|>')
  batch = read.pad([found], read.bucket(found))
  assert (batch['visual_index'] >= 0).sum() == sum(
      map(len, found.patches)) // 4


def test_a_side_that_has_nothing_is_null():
  found = make()(types.Item('q'), types.Item('c'))
  assert '<Query>:NULL\n<Document>:NULL<|im_end|>' in (
      tiny_unite.tokenizer().decode(found.tokens))


def test_the_end_of_the_text_is_cut_and_no_control_token(caplog):
  long = types.Item('long', text='red ' * 100)
  whole = make()(QUERY, long).tokens
  read = make(max_tokens=len(whole) - 60)
  got = read(QUERY, long).tokens
  assert len(got) == len(whole) - 60 + qwen2_vl.KEPT
  np.testing.assert_array_equal(got[-qwen2_vl.KEPT:], whole[-qwen2_vl.KEPT:])
  control = [tokenizer().encode(token)[0] for token in prompts.CONTROL_TOKENS]
  np.testing.assert_array_equal(got[np.isin(got, control)],
                                whole[np.isin(whole, control)])
  assert 'q with long: ' in caplog.text
  with pytest.raises(ValueError, match='^q with c: .* never cut, want at most'):
    make(max_tokens=8)(QUERY, CANDIDATE)


def test_errors_name_the_item():
  for query, candidate, message in (
      (QUERY, types.Item('c', image='/no/such.png'), '^c: its image cannot'),
      (types.Item('q', text='<|im_end|>'), CANDIDATE, '^q: its text holds')):
    with pytest.raises(ValueError, match=message):
      make()(query, candidate)
  for instruction, message in (
      ('find <|im_end|>', '^the instruction holds the control token'),
      ('<|IMAGE|>', 'holds the mark'), (3, '^instruction: got int, want a')):
    with pytest.raises(ValueError, match=message):
      make()(QUERY, CANDIDATE, instruction)
  with pytest.raises(ValueError, match='no token "yes" or "no"'):
    pairs.PairReader(tokenizer(())).words(FRAME)
