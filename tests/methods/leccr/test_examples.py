"""Captions in two languages and their visuals, as examples of one shape."""
import dataclasses

import numpy as np
import pytest

from jaxret import methods, sharding
from jaxret.methods.leccr import evaluator
from jaxret.methods.leccr import examples as examples_lib
from jaxret.methods.leccr import method as leccr
from jaxret.models import leccr as leccr_lib
from tests.tiny_leccr import (
  BRANCHES,
  TOKENIZER,
  Visuals,
  encode,
  make_config,
  make_split,
)


@pytest.mark.parametrize('branch', BRANCHES)
def test_an_example_is_a_caption_with_what_it_describes(branch):
  """Texts and frames end in zeros, and say how long they are."""
  split, visuals = make_split(), Visuals(branch, 7)
  examples = examples_lib.ParallelExamples(encode, split, visuals, {'a': 1})
  assert len(examples) == 13 and examples.constants == {'a': 1}
  assert examples.ids == [text.id for text in split.texts]
  shapes = set()
  for i, owner in enumerate(split.text_video):
    example = examples[i]
    shapes.add(tuple(np.shape(array) for array in example.values()))
    assert example['visual_index'] == owner
    for name, text in (('source', split.texts[i].text),
                       ('target', split.translations[i].text),
                       ('description', split.descriptions[owner])):
      row, length = example[name], example[f'{name}_length']
      assert list(row[:length]) == encode(text) and not row[length:].any()
    if branch == 'image':
      np.testing.assert_array_equal(example['visual'], visuals[owner][0])
    else:
      n_frames = example['n_frames']
      np.testing.assert_array_equal(
          example['visual'][:n_frames], visuals[owner])
      assert not example['visual'][n_frames:].any()
  assert len(shapes) == 1


def test_texts_are_padded_or_cut_to_the_tokens_that_are_asked_for():
  """A row that is cut keeps its last token, the end."""
  examples = examples_lib.ParallelExamples(
      encode, make_split(), Visuals('image', 7), {},
      {'caption': 4, 'description': 15})
  example = examples[0]
  whole = encode('en000')
  assert list(example['source']) == [*whole[:3], whole[-1]]
  assert example['source_length'] == 4
  assert example['description'].shape == (15,)
  assert example['description_length'] == len(encode('shows 0'))


def test_without_translations_or_descriptions_nothing_is_trained():
  config = make_config('image')
  method = methods.get('leccr').method(config, TOKENIZER)
  split = make_split()
  for field, message in (
      ('translations', '0 translations of 13 captions; give a file of machi'),
      ('descriptions', '3 descriptions of 7 visuals; describe all')):
    some = () if field == 'translations' else split.descriptions[:3]
    with pytest.raises(ValueError, match=message):
      method.examples(dataclasses.replace(split, **{field: some}),
                      Visuals('image', 7), leccr.loss_weights(config.loss))
  module = leccr_lib.Leccr(leccr.model_config(config, TOKENIZER))
  bare = dataclasses.replace(split, descriptions=())
  with pytest.raises(ValueError, match='0 descriptions of 7 visuals'):
    evaluator.embed(module, {}, sharding.make_mesh(), bare,
                    Visuals('image', 7), encode)
