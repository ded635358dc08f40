"""MM-Embed's items: shapes, padding, caching, tokens outside the table."""
import numpy as np
import pytest

from jaxret.data import text, types
from jaxret.data.llava import reader as mm_embed_inputs

CONTROL = ('<s>', '</s>', '<image>', '<pad>')


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  return text.train_tokenizer(
      ['a red dog runs', 'Find the dog'], 300,
      tmp_path_factory.mktemp('tokenizer') / 'made', control_tokens=CONTROL,
      prompts=['Instruct: ', '\nQuery: '])


def image(seed=0):
  return np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)


def reader(tokenizer, **settings):
  return mm_embed_inputs.Reader(tokenizer, 4, 2, **settings)


ITEMS = (types.Item('t', 'a red dog'), types.Item('i', None, image()),
         types.Item('b', 'a dog', image(1)))


def test_sizes_are_known_before_an_image_is_opened(tokenizer):
  read = reader(tokenizer)
  for item in ITEMS:
    for given in ((None, False), (None, True), ('Find the dog', True)):
      assert read.shape(item, *given) == mm_embed_inputs.shape_of(
          read(item, *given))
  unread = types.Item('x', 'a', '/nowhere.jpg')
  assert read.shape(unread).image_px == 4


def test_rows_of_all_kinds_in_one_batch(tokenizer):
  read = reader(tokenizer)
  rows = [read(item, 'Find the dog', True) for item in ITEMS]
  shape = mm_embed_inputs.common_shape(map(mm_embed_inputs.shape_of, rows))
  batch = mm_embed_inputs.pad(rows, shape)
  for number, row in enumerate(rows):
    length = batch['length'][number]
    np.testing.assert_array_equal(batch['tokens'][number, :length], row.tokens)
    assert not batch['tokens'][number, length:].any()
    index = batch['visual_index'][number]
    seen = [] if row.image is None else [1, 2, 3, 4, 0]
    np.testing.assert_array_equal(index[index >= 0], seen)
  assert set(batch['pool_start']) == {rows[0].pool_start}
  text_alone = mm_embed_inputs.pad(rows[:1], shape)
  assert text_alone.keys() == batch.keys()
  assert 'pixels' not in mm_embed_inputs.pad(
      rows[:1], shape._replace(image_px=0))


LONG = types.Item('long', 'a red dog ' * 20)


def test_a_longer_text_is_cut_as_the_reader_is_told(tokenizer, caplog):
  whole = reader(tokenizer).tokens(LONG)[0]
  wanted = [*whole[:15], whole[-1]]  # EOS stays
  for trim_text, n_warnings in ((None, 0), (True, 1)):
    caplog.clear()
    read = reader(tokenizer, max_tokens=16, trim_text=trim_text)
    assert read.tokens(LONG)[0].tolist() == wanted
    assert len(caplog.records) == n_warnings
  assert (f'long: {len(whole)} tokens, the end of its text is cut to keep 16'
          in caplog.text)
  read(types.Item('short', 'a'))
  assert len(caplog.records) == 1


def test_a_longer_text_is_refused_by_name(tokenizer):
  n_tokens = len(reader(tokenizer).tokens(LONG)[0])
  read = reader(tokenizer, max_tokens=16, trim_text=False)
  with pytest.raises(ValueError, match=(
      f'^long: {n_tokens} tokens, want at most 16: shorten its text, or let')):
    read(LONG)
  with pytest.raises(ValueError, match='seen: .*: shorten the instruction, or'):
    read(types.Item('seen', None, image()), 'Find the dog ' * 9, True)
  exactly = reader(tokenizer, max_tokens=n_tokens, trim_text=False)
  assert len(exactly(LONG).tokens) == n_tokens


def test_what_does_not_fit_a_batch_is_refused_by_name(tokenizer):
  read = reader(tokenizer)
  row = read(ITEMS[2])
  with pytest.raises(ValueError, match='b: .* tokens, the batch has room for'):
    mm_embed_inputs.pad([row], mm_embed_inputs.Shape(3, 4))
  with pytest.raises(ValueError, match=r'b: its image is \(4, 4, 3\)'):
    mm_embed_inputs.pad([row], mm_embed_inputs.Shape(64, 0))


def test_images_of_files_are_kept_as_far_as_there_is_room(tokenizer, tmp_path):
  from PIL import Image
  for name in 'ab':
    Image.fromarray(image()).save(tmp_path / f'{name}.png')
  read = reader(tokenizer, cache_bytes=4 * 4 * 3)
  items = [types.Item(name, None, str(tmp_path / f'{name}.png'))
           for name in 'ab']
  first = [read(item).image for item in items]
  assert read(items[0]).image is first[0]
  assert read(items[1]).image is not first[1]
  np.testing.assert_array_equal(read(items[1]).image, first[1])


def test_tokens_outside_the_table(tokenizer):
  """<image> may lie outside; <pad> reads as EOS; others are refused."""
  size = tokenizer.encode('<image>')[0]
  words = mm_embed_inputs.Vocabulary(tokenizer._replace(pad_id=10 ** 6), size)
  assert words.image_id >= size
  outside = tokenizer._replace(
      pad_id=10 ** 6, encode=lambda text: {
          'pad': [10 ** 6], 'odd': [10 ** 7]}.get(text) or tokenizer.encode(
              text))
  words = mm_embed_inputs.Vocabulary(outside, 10 ** 6)
  assert words.encode('pad', 'x') == [words.bos_id, words.eos_id]
  assert words.encode('a', 'x') == [words.bos_id, *tokenizer.encode('a')]
  with pytest.raises(ValueError, match='x: token 10000000 lies outside'):
    words.encode('odd', 'x')


def test_a_tokenizer_without_the_control_tokens_is_refused(tmp_path):
  made = text.train_tokenizer(['a'], 270, tmp_path / 'made')
  with pytest.raises(ValueError, match='no control token <s>'):
    reader(made)
  without = text.train_tokenizer(
      ['a'], 270, tmp_path / 'other', control_tokens=('<s>', '</s>'))
  assert len(reader(without)(ITEMS[0]).tokens) > 2
  with pytest.raises(ValueError, match='i: it has an image, the tokenizer no'):
    reader(without)(ITEMS[1])


def test_styles_are_checked(tokenizer):
  with pytest.raises(ValueError, match="style 'x' is unknown"):
    reader(tokenizer, style='x')
