"""Texts as BERT models are given them; what is refused, by name."""
import types as types_lib

import numpy as np
import pytest

from jaxret.data import text, types
from jaxret.data.sentence_bert import reader
from tests import tiny_sentence_bert as tiny


def make(tmp_path, max_tokens=None, trim_text=False, **fields):
  if not (tmp_path / 'tokenizer.json').is_file():
    tiny.save(tmp_path)
  config = types_lib.SimpleNamespace(**{
      'max_tokens': 5, 'lower': False, 'prompt': '',
      'encoder': types_lib.SimpleNamespace(max_tokens=6, vocab_size=9),
      **fields})
  return reader.open_reader(
      config, text.load_tokenizer(tmp_path), max_tokens, trim_text)


def tokens(read, given, prompt=None):
  return read(types.Item('mine', text=given), prompt).tokens.tolist()


def test_tokens_and_prompts(tmp_path):
  assert tokens(make(tmp_path), ' dog runs ') == [2, 5, 6, 3]
  assert tokens(make(tmp_path, lower=True), 'DOG') == [2, 5, 3]
  read = make(tmp_path, prompt='a ')
  assert tokens(read, 'dog') == [2, 4, 5, 3]
  assert tokens(read, 'dog', 'up ') == [2, 7, 5, 3]
  assert tokens(read, 'dog', '') == [2, 5, 3]


def test_long_texts_are_refused_or_cut(tmp_path, caplog):
  with pytest.raises(ValueError, match='mine: 6 tokens, want at most 5'):
    tokens(make(tmp_path), 'a dog runs up')
  assert tokens(make(tmp_path, max_tokens=6), 'a dog runs up') == [
      2, 4, 5, 6, 7, 3]
  assert tokens(make(tmp_path, trim_text=True), 'a dog runs up') == [
      2, 4, 5, 6, 3]
  assert 'mine: 6 tokens, the end of its text is cut' in caplog.text
  with pytest.raises(ValueError, match='max_tokens: got 7, want 3 to 6'):
    make(tmp_path, max_tokens=7)


@pytest.mark.parametrize('fields, message', [
    ({'text': 'a [SEP]'}, r'holds a control token of the model \(id 3\)'),
    ({'text': 'Dog'}, 'token 9 lies outside the table of 9 embeddings'),
    ({'image': b'x'}, 'it has image; this model embeds texts alone'),
    ({'text': 'a', 'video': b'x'}, 'it has video; this model embeds texts'),
    ({}, 'it has no text, image or video')])
def test_what_is_refused(tmp_path, fields, message):
  read = make(tmp_path)
  for call in (read, read.check):
    with pytest.raises(ValueError, match=f'^mine: .*{message}'):
      call(types.Item('mine', **fields))


def test_padding(tmp_path):
  read = make(tmp_path)
  inputs = [read(types.Item('mine', text=one)) for one in ('dog', 'dog runs')]
  assert read.bucket(inputs[0]) == (5,)
  batch = read.pad(inputs, (5,))
  np.testing.assert_array_equal(batch['tokens'], [
      [2, 5, 3, 0, 0], [2, 5, 6, 3, 0]])
  assert batch['length'].tolist() == [3, 4]
  with pytest.raises(ValueError, match='mine: 4 tokens, the batch has room'):
    read.pad(inputs, (3,))
