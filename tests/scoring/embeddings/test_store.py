"""Embeddings on disk: found again, never stale, a killed run goes on."""
import numpy as np
import PIL.Image
import pytest

from jaxret.data.types import Item
from jaxret.scoring.embeddings.store import Embeddings, key


class Model:
  """Embeds text by its length; counts what it was asked."""

  def __init__(self, dies_after=None, broken=()):
    self.asked, self.dies_after, self.broken = [], dies_after, broken

  def __call__(self, items, prompt):
    if self.dies_after is not None and len(self.asked) >= self.dies_after:
      raise KeyboardInterrupt
    self.asked += [item.text for item in items]
    return np.array([[np.nan] * 2 if item.text in self.broken else
                     [len(item.text), len(prompt or '')] for item in items])


def texts(*words):
  return [Item(f'id{n}', text=word) for n, word in enumerate(words)]


def test_each_content_is_embedded_once(tmp_path):
  model, store = Model(), Embeddings(tmp_path, {'weights': 'a'})
  rows = store.rows(texts('one', 'three', 'one'), None, model)
  np.testing.assert_array_equal(rows[:], [[3, 0], [5, 0], [3, 0]])
  assert rows.shape == (3, 2) and model.asked == ['one', 'three']
  # Another collection with one text more; the ids do not count.
  more = store.rows(texts('seventh', 'three'), None, model)
  np.testing.assert_array_equal(more[1:], [[5, 0]])
  np.testing.assert_array_equal(more[0:1], [[7, 0]])
  assert model.asked == ['one', 'three', 'seventh']
  # Under a prompt it is another embedding.
  np.testing.assert_array_equal(
      store.rows(texts('one'), 'Find', model)[:], [[3, 4]])


def test_a_killed_run_goes_on(tmp_path):
  words = [f'{"w" * n}' for n in range(1, 11)]
  first = Model(dies_after=6)
  with pytest.raises(KeyboardInterrupt):
    Embeddings(tmp_path, {}).rows(texts(*words), None, first, block_items=3)
  assert first.asked == words[:6]
  # What a kill leaves of a block does not count.
  folder = next(tmp_path.iterdir())
  (folder / '.000002.npy.1-1.partial').write_bytes(b'half')
  second = Model()
  rows = Embeddings(tmp_path, {}).rows(texts(*words), None, second, 3)
  assert second.asked == words[6:]
  np.testing.assert_array_equal(rows[:][:, 0], np.arange(1, 11))
  third = Model()
  again = Embeddings(tmp_path, {}).rows(texts(*words[::-1]), None, third)
  assert third.asked == []
  np.testing.assert_array_equal(again[2:5][:, 0], [8, 7, 6])


def test_a_damaged_row_is_embedded_again(tmp_path, caplog):
  words = ['a', 'bb', 'ccc', 'dddd']
  Embeddings(tmp_path, {}).rows(texts(*words), None, Model())
  path, = next(tmp_path.iterdir()).glob('*.npy')
  whole = path.read_bytes()
  size = np.load(path).dtype.itemsize
  # A bit of the second vector, of the third key, of the last checksum.
  for place, damaged in ((-3 * size + 20, 'bb'), (-2 * size, 'ccc'),
                         (-size + 16, 'dddd')):
    data = bytearray(whole)
    data[place] ^= 4
    path.write_bytes(data)
    caplog.clear()
    model = Model()
    rows = Embeddings(tmp_path, {}).rows(texts(*words), None, model)
    assert model.asked == [damaged]
    assert f'{path}: 1 of 4 embeddings' in caplog.text
    np.testing.assert_array_equal(rows[:][:, 0], [1, 2, 3, 4])
    path.with_name('000001.npy').unlink()


def test_a_block_that_lost_its_end_is_refused_by_name(tmp_path):
  Embeddings(tmp_path, {}).rows(texts('a', 'bb'), None, Model())
  path, = next(tmp_path.iterdir()).glob('*.npy')
  whole = path.read_bytes()
  for size in range(0, len(whole), 5):
    path.write_bytes(whole[:size])
    with pytest.raises(ValueError, match='is damaged') as caught:
      Embeddings(tmp_path, {})
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)


def test_runs_that_share_a_directory_never_replace_a_block(tmp_path):
  """The second writes while the first is between asking and writing."""
  ours, theirs = Embeddings(tmp_path, {}), Embeddings(tmp_path, {})
  other = texts('seven', 'eleven!')
  def slow(items, prompt):
    theirs.rows(other, prompt, Model())
    return Model()(items, prompt)
  rows = ours.rows(texts('a', 'bb', 'ccc'), None, slow)
  np.testing.assert_array_equal(rows[:][:, 0], [1, 2, 3])
  third = Model()
  every = Embeddings(tmp_path, {}).rows(
      [*other, *texts('a', 'bb', 'ccc')], None, third)
  np.testing.assert_array_equal(every[:][:, 0], [5, 7, 1, 2, 3])
  assert not third.asked
  # What the other made meanwhile is ours as well.
  assert ours.rows(other, None, third).index.min() >= 0 and not third.asked


def test_another_fingerprint_shares_nothing(tmp_path):
  for weights in ('a', 'b'):
    model = Model()
    Embeddings(tmp_path, {'weights': weights}).rows(texts('x'), None, model)
    assert model.asked == ['x']


def test_items_that_cannot_be_embedded_are_left_out_and_tried_again(tmp_path):
  store = Embeddings(tmp_path, {})
  rows = store.rows(texts('bad', 'good'), None, Model(broken=['bad']))
  assert rows.index.tolist() == [-1, 0]
  assert np.isnan(rows[:][0]).all()
  model = Model()
  assert store.rows(texts('bad', 'good'), None, model).index.min() == 0
  assert model.asked == ['bad']


def test_keys_tell_contents_apart(tmp_path):
  file = tmp_path / 'a.png'
  file.write_bytes(b'1')
  pixels = np.zeros((2, 2, 3), np.uint8)
  items = [
      Item('', text='a'), Item('', text='ab'), Item('', image=str(file)),
      Item('', text='a', image=str(file)), Item('', video=str(file)),
      Item('', text='a', image=str(file), order=('image', 'text', 'video')),
      Item('', image=b'1'), Item('', image=('a', 'b')), Item('', image=('ab',)),
      Item('', image=pixels), Item('', image=pixels.reshape(4, 1, 3))]
  keys = [key(item, None) for item in items]
  assert len(set(keys)) == len(keys) and {len(k) for k in keys} == {16}
  assert key(Item('x', text='a'), None) == keys[0] != key(items[0], 'a')
  # A file that was replaced is another content.
  file.write_bytes(b'22')
  assert key(items[2], None) != keys[2]


def test_keys_of_pil_images_are_of_what_they_show(tmp_path):
  rgba = np.zeros((2, 2, 4), np.uint8)
  def shown(pixels):
    return key(Item('', image=PIL.Image.fromarray(pixels)), None)
  assert shown(rgba) == shown(rgba.copy())
  assert len({shown(rgba), shown(rgba[..., :3]), shown(rgba + 1)}) == 3
  frames = [str(tmp_path / f'{i}.png') for i in range(2)]
  for file in frames:
    PIL.Image.fromarray(rgba).save(file)
  listed = Item('', video=(tuple(frames),))
  before = key(listed, None)
  PIL.Image.fromarray(rgba.repeat(9, 0)).save(frames[1])
  assert key(listed, None) != before


@pytest.mark.parametrize('vectors, message', [
    (np.zeros((1, 3)), r'shape \(1, 3\) for 2 items'),
    (np.array([[0., 1.], [np.inf, 0.]]), "embedding of 'id1' is not finite"),
    (np.array([[0., np.nan], [0., 0.]]), "embedding of 'id0' is not finite")])
def test_wrong_embeddings_are_refused(tmp_path, vectors, message):
  with pytest.raises(ValueError, match=message):
    Embeddings(tmp_path, {}).rows(texts('a', 'bb'), None, lambda *_: vectors)


def test_one_store_has_one_width(tmp_path):
  store = Embeddings(tmp_path, {})
  store.rows(texts('a'), None, Model())
  with pytest.raises(ValueError, match='2 wide, the model gives 3'):
    store.rows(texts('b'), None, lambda items, _: np.zeros((1, 3)))
