"""The token sequences of BLiM against those of the authors' code."""
import functools
import json
import re

import numpy as np
import pytest

from jaxret.data import sets, text, types
from jaxret.methods.blim import prompts as prompts_lib
from tests.parity import blim_reference as reference

# One clip's token stands for the video, as in the authors' data set.
SEQUENCES = {'vtg': reference.vtg,
             'tvg': functools.partial(reference.tvg, n_clips=1)}


def _stand_in_tokenizer(spec):
  """The regex tokenizer that made the golden ids, as text.json describes it:
  special tokens | '.\\n' | optional space + letters | newline | punctuation."""
  vocab = spec['vocab']
  pattern = re.compile(
      r'<\|(?:endoftext|im_start|im_end)\|>|\.\n| ?[A-Za-z]+|\n|[.,:!?]')

  def encode(string):
    pieces = pattern.findall(string)
    assert ''.join(pieces) == string, 'the stand-in tokenizer lost characters'
    return [vocab[piece] for piece in pieces]

  words = {i: word for word, i in vocab.items()}
  return text.Tokenizer(
      encode=encode, decode=lambda ids: ''.join(words[int(i)] for i in ids),
      pad_id=spec['pad_token_id'], end_id=spec['im_end_id'],
      vocab_size=max(vocab.values()) + 1)


@pytest.fixture
def spec(blim_golden):
  return json.loads((blim_golden / 'text.json').read_text())


@pytest.fixture
def settings(blim_golden):
  return json.loads((blim_golden / 'README.json').read_text())['settings']


@pytest.fixture
def prompts(spec, settings):
  """One VISUAL per sequence, as in the ids that the authors' dataset gives."""
  instruction = sets.instruction(settings['dataset_style'].lower())
  return prompts_lib.BlimPrompts(
      _stand_in_tokenizer(spec), instruction, n_visual_tokens=1)


def _captions(spec, split):
  return [item['text'] for item in spec[f'{split}_items']]


def test_blim_strings_are_those_of_the_authors(spec, prompts):
  assert types.VISUAL == spec['image_token_index']
  decode = _stand_in_tokenizer(spec).decode
  caption = spec['test_items'][0]['text']
  for name, ids in (('vtg', SEQUENCES['vtg'](prompts, caption).tokens),
                    ('tvg', SEQUENCES['tvg'](prompts, caption).tokens)):
    at = int(np.flatnonzero(ids == types.VISUAL)[0])
    string = decode(ids[:at]) + '<image>' + decode(ids[at + 1:])
    assert string == spec[f'{name}_string_item0']


def test_blim_sequence_lengths(spec, prompts):
  for item in spec['test_items']:
    for kind, sequence in SEQUENCES.items():
      assert len(sequence(prompts, item['text']).tokens) == (
          item[f'n_{kind}_tokens'])


def test_blim_token_ids_of_every_test_item(blim_golden, spec, prompts):
  arrays = np.load(blim_golden / 'test_inputs.npz')
  for i, caption in enumerate(_captions(spec, 'test')):
    np.testing.assert_array_equal(
        SEQUENCES['vtg'](prompts, caption).tokens, arrays[f'vtg_ids_{i}'])
    np.testing.assert_array_equal(
        SEQUENCES['tvg'](prompts, caption).tokens, arrays[f'tvg_ids_{i}'])


@pytest.mark.parametrize('kind', ['vtg', 'tvg'])
def test_blim_labels_start_where_the_prefix_ends(
    blim_golden, spec, settings, prompts, kind):
  """Against the left-padded ids, labels and masks of the test items."""
  arrays = np.load(blim_golden / 'test_inputs.npz')
  ids, labels = arrays[f'{kind}_ids'], arrays[f'{kind}_labels']
  ignored = settings['ignore_index']
  for i, caption in enumerate(_captions(spec, 'test')):
    tokens, n_prefix = SEQUENCES[kind](prompts, caption)
    n_pad = ids.shape[1] - len(tokens)
    assert (ids[i, :n_pad] == prompts.pad_id).all()
    np.testing.assert_array_equal(ids[i, n_pad:], tokens)
    np.testing.assert_array_equal(
        labels[i, n_pad + n_prefix:], tokens[n_prefix:])
    assert (labels[i, :n_pad + n_prefix] == ignored).all()


@pytest.mark.parametrize('kind', ['vtg', 'tvg'])
def test_blim_training_batch_is_made_of_train_captions(
    blim_golden, spec, prompts, kind):
  arrays = np.load(blim_golden / 'train_batch.npz')
  sequences = {tuple(SEQUENCES[kind](prompts, caption).tokens)
               for caption in _captions(spec, 'train')}
  for row, mask in zip(arrays[f'{kind}_ids'], arrays[f'{kind}_mask']):
    assert tuple(row[mask.astype(bool)]) in sequences


def test_blim_prior_prefix_length(settings, prompts):
  assert prompts.prior_prefix_length == settings['tvg_prefix_length']
