"""UNITE's training files, and sources mixed in a fixed order."""
import itertools
import json

import numpy as np
import pytest

from jaxret.data import loader
from jaxret.data.sets import pair_files as pairs
from jaxret.data.types import Item

ENTRIES = [
    {'query': {'text': 'a dog'}, 'candidate': {'image': 'i/1.jpg'}},
    {'query': {'image': {'type': 'image', 'image': 'i/1.jpg'},
               'text': '<|IMAGE|> make it red'},
     'candidate': {'image': ['i/2.jpg'], 'text': '<|IMAGE|> red'},
     'negative': {'image': ['i/3.jpg', 'i/4.jpg']},
     'target_modal': 'text, image'},
    {'query': {'video': ['v.mp4']}, 'candidate': {'text': 'rain'},
     'negative': None, 'target_modal': None}]


def stored(folder, content):
  path = folder / 'train.json'
  path.write_text(json.dumps(content))
  return path


def test_every_form_of_the_published_file(tmp_path):
  read = pairs.PairFile(stored(tmp_path, ENTRIES))
  assert len(read) == 3
  first, second, third = (read[i] for i in range(3))
  assert first.query.text == 'a dog' and first.target_modality == 'image'
  assert first.candidate.image == str(tmp_path / 'i/1.jpg')
  # The prompt names the modalities in the order of the keys.
  assert second.query.order == ('image', 'text')
  assert second.query.image == str(tmp_path / 'i/1.jpg')
  assert second.candidate.image == str(tmp_path / 'i/2.jpg')
  assert second.target_modality == 'text,image'
  assert second.negative.image == (
      str(tmp_path / 'i/3.jpg'), str(tmp_path / 'i/4.jpg'))
  assert third.query.video == str(tmp_path / 'v.mp4')
  assert third.target_modality == 'text' and third.negative is None
  elsewhere = pairs.PairFile(stored(tmp_path, ENTRIES), '/media')
  assert elsewhere[2].query.video == '/media/v.mp4'


@pytest.mark.parametrize('entry, message', [
    ({'query': {'text': 'a'}}, "got fields query, wanted 'candidate'"),
    ({'query': 'a', 'candidate': {'text': 'b'}}, "'query' a string"),
    ({'query': {}, 'candidate': {'text': 'b'}}, "'query' with nothing"),
    ({'query': {'txt': 'a'}, 'candidate': {'text': 'b'}}, "'query' with txt"),
    ({'query': {'text': ' '}, 'candidate': {'text': 'b'}}, "'text' empty"),
    ({'query': {'image': 3}, 'candidate': {'text': 'b'}}, 'image 3'),
    ({'query': {'image': ['']}, 'candidate': {'text': 'b'}}, "image ['']"),
    ({'query': {'text': 'a'}, 'candidate': {'text': 'b'}, 'label': 1},
     "the field 'label'"),
    ({'query': {'text': 'a'}, 'candidate': {'text': 'b'},
      'target_modal': 'text,sound'}, "the modality 'sound'"),
    ({'query': {'text': 'a'}, 'candidate': {'text': 'b'},
      'negative': {'video': {'video': None}}}, "'negative' with video")])
def test_bad_entries_are_named(tmp_path, entry, message):
  path = stored(tmp_path, [ENTRIES[0], entry])
  with pytest.raises(ValueError) as error:
    pairs.PairFile(path)
  assert f'{path}, entry 2: got ' in str(error.value)
  assert message in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('content, message', [
    ([], 'got an empty list'), ({'query': 1}, 'got an object'),
    ([1], 'entry 1: got a number')])
def test_bad_files_are_named(tmp_path, content, message):
  with pytest.raises(ValueError, match=message):
    pairs.PairFile(stored(tmp_path, content))
  with pytest.raises(ValueError, match='is not a file'):
    pairs.PairFile(tmp_path / 'none.json')


def test_saved_pairs_are_read_again(tmp_path):
  made = [
      pairs.Pair(Item('q', text='x', image='/a.png',
                      order=('image', 'text', 'video')),
                 Item('c', video=('/1.mp4', '/2.mp4')), 'video',
                 Item('n', text='no')),
      pairs.Pair(Item('q', text='y'), Item('c', text='z'), 'text')]
  pairs.save(tmp_path / 'made.json', made)
  read = pairs.PairFile(tmp_path / 'made.json')
  assert len(read) == 2
  for old, new in zip(made, [read[0], read[1]]):
    assert new.target_modality == old.target_modality
    for a, b in zip(old[:2] + old[3:], new[:2] + new[3:]):
      assert (a is None) == (b is None)
      assert a is None or (a.text, a.image, a.video) == (
          b.text, b.image, b.video)
  assert read[0].query.order[:2] == ('image', 'text')


def mixture(**sizes):
  return pairs.Mixture({name: [f'{name}{i}' for i in range(size)]
                        for name, size in sizes.items()})


def drawn(order, steps, batch_size):
  return np.array([[order(step, batch_size, row) for row in range(batch_size)]
                   for step in steps])


def test_a_mixture_is_its_sources_one_after_the_other():
  mixed = mixture(a=3, b=1, c=2)
  assert [mixed[i] for i in range(len(mixed))] == [
      'a0', 'a1', 'a2', 'b0', 'c0', 'c1']
  assert [mixed.index(i) for i in range(6)] == [0, 0, 0, 1, 2, 2]
  with pytest.raises(ValueError, match="source 'b' is empty"):
    mixture(a=3, b=0)


@pytest.mark.parametrize('per_source', [False, True])
def test_shares_are_exact_and_each_source_is_read_in_epochs(per_source):
  mixed = mixture(a=40, b=24, c=8)
  weights = {'a': 5, 'b': 3, 'c': 2}
  order = pairs.MixedOrder(mixed, 8, 0, weights, per_source)
  n_steps = pairs.ROUND if per_source else pairs.ROUND // 8
  batches = drawn(order, range(n_steps), 8)
  source = np.vectorize(mixed.index)(batches)
  counts = np.bincount(source.ravel(), minlength=3)
  np.testing.assert_allclose(counts / counts.sum(), [.5, .3, .2], atol=.002)
  if per_source:
    assert (source == source[:, :1]).all()
    # A batch never holds an example twice: it spans no two epochs.
    assert all(len(set(batch)) == 8 for batch in batches.tolist())
  else:
    assert (np.diff(np.sort(source, 1), axis=1) > 0).any(1).mean() > 0.9
  seen = np.bincount(batches.ravel(), minlength=len(mixed))
  for number, (start, size) in enumerate(zip(mixed.starts, mixed.sizes)):
    own = seen[start:start + size]
    assert own.max() - own.min() <= 1, number


def test_the_order_depends_on_seed_and_step_alone():
  def make(seed):
    return pairs.MixedOrder(mixture(a=30, b=50), 6, seed)
  straight = drawn(make(1), range(400), 6)
  resumed = drawn(make(1), range(200, 400), 6)
  np.testing.assert_array_equal(straight[200:], resumed)
  back = drawn(make(1), range(399, -1, -1), 6)
  np.testing.assert_array_equal(straight, back[::-1])
  assert (drawn(make(2), range(5), 6) != straight[:5]).any()
  # Without weights every example is as likely as any other.
  seen = np.bincount(straight.ravel(), minlength=80)
  assert seen.min() >= 28 and seen.max() <= 32


def test_the_loader_draws_in_this_order_on_any_number_of_processes():
  mixed = mixture(a=20, b=12)

  class Examples:
    def __len__(self):
      return len(mixed)

    def __getitem__(self, i):
      return {'i': np.int64(i)}

  order = pairs.MixedOrder(mixed, 4, 3, per_source=True)
  def take(count, **arguments):
    batches = loader.train_batches(Examples(), 4, 0, order=order, **arguments)
    return np.array([b['i'] for b in itertools.islice(batches, count)])
  wanted = drawn(order, range(12), 4)
  np.testing.assert_array_equal(take(12), wanted)
  np.testing.assert_array_equal(take(5, start_step=7), wanted[7:])
  halves = [take(12, process_index=i, process_count=2) for i in range(2)]
  np.testing.assert_array_equal(np.concatenate(halves, 1), wanted)


@pytest.mark.parametrize('arguments, message', [
    (dict(weights={'a': 1}), 'for the sources a, b'),
    (dict(weights={'a': 1, 'b': 0}), 'wanted one above 0'),
    (dict(per_source=True), "source 'b' has 2 examples, a batch is 4")])
def test_mixtures_that_cannot_be_drawn(arguments, message):
  with pytest.raises(ValueError, match=message):
    pairs.MixedOrder(mixture(a=9, b=2), 4, 0, **arguments)
  order = pairs.MixedOrder(mixture(a=9, b=2), 4, 0)
  with pytest.raises(ValueError, match='batches of 4, not of 8'):
    order(0, 8, 0)
