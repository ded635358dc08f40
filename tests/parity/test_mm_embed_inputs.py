"""MM-Embed's preprocessing: pixels, prompts, tokens and what is pooled."""
import numpy as np
import pytest

from jaxret.data import text as text_lib
from jaxret.data import types
from jaxret.data.llava import images as llava_images
from jaxret.data.llava import prompts as mm_embed_prompts
from jaxret.data.llava import reader as mm_embed_inputs
from jaxret.models import clip
from tests.parity import mm_embed_reference as reference

PIXELS = 1e-5


@pytest.fixture(scope='module')
def tokenizer(mm_embed_golden):
  return text_lib.load_tokenizer(mm_embed_golden / 'model')


@pytest.fixture(scope='module')
def sizes(mm_embed_golden):
  """(vocabulary of the live decoder, side of an image, side of a patch)."""
  vision = reference.table(
      mm_embed_golden, 'model/config.json')['vision_config']
  text = reference.table(
      mm_embed_golden, 'model/retriever_config.json')['text_config']
  return text['vocab_size'], vision['image_size'], vision['patch_size']


def reader(tokenizer, sizes, **settings):
  vocab_size, image_px, patch_px = sizes
  return mm_embed_inputs.Reader(
      tokenizer, image_px, patch_px, vocab_size=vocab_size, **settings)


def normalised(pixels, constants):
  mean, std = (np.float32(constants[name]) for name in ('mean', 'std'))
  scaled = pixels.astype(np.float32) * np.float32(constants['rescale'])
  return (scaled - mean) / std


def test_mm_embed_pixels(mm_embed_golden):
  arrays = reference.read(mm_embed_golden, 'preprocess/preprocess.npz')
  constants = reference.table(mm_embed_golden, 'preprocess/config.json')
  for size in constants['sizes']:
    golden = reference.channels_last(arrays[f'pixel_values_{size}'])
    for number, want in enumerate(golden):
      image = arrays[f'image_{number}']
      squashed = llava_images.squash(image, size)
      np.testing.assert_allclose(
          normalised(squashed, constants), want, atol=PIXELS)
      if f'resized_uint8_{size}' in arrays:
        np.testing.assert_array_equal(
            squashed, arrays[f'resized_uint8_{size}'][number])


def test_mm_embed_pixels_are_normalised_alike_on_the_device(mm_embed_golden):
  constants = reference.table(mm_embed_golden, 'preprocess/config.json')
  assert (clip.MEAN, clip.STD) == (
      tuple(constants['mean']), tuple(constants['std']))
  levels = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)
  np.testing.assert_allclose(
      clip.pixel_values(levels), normalised(levels, constants), atol=1e-6)


def test_mm_embed_tokens_prompts_and_pooling(
    mm_embed_golden, tokenizer, sizes):
  table = reference.table(mm_embed_golden, 'encode/cases.json')
  pixels = reference.images(mm_embed_golden, 'encode')
  constants = reference.table(mm_embed_golden, 'preprocess/config.json')
  for case in table['cases']:
    arrays = reference.read(mm_embed_golden, f'encode/{case["file"]}')
    read = reader(tokenizer, sizes, max_tokens=case['max_length'])
    seen = []
    golden = reference.rows(arrays)
    for number, (entry, is_query, instruction) in enumerate(
        reference.case_rows(case)):
      item = reference.item(entry, pixels)
      assert mm_embed_prompts.prompt(
          item.text, item.image is not None, is_query,
          instruction) == case['prompts'][number]
      found = read(item, instruction, is_query)
      image_id = read.vocabulary.image_id
      np.testing.assert_array_equal(
          found.tokens, read.vocabulary.expand(
              golden[number], [read.n_visual] * int(
                  (golden[number] == image_id).sum())),
          err_msg=f'{case["name"]} {number}')
      assert found.pool_start == arrays['instruction_lengths'][number]
      if found.image is not None:
        seen.append(found.image)
    if seen:
      np.testing.assert_allclose(
          normalised(np.stack(seen), constants),
          reference.channels_last(arrays['pixel_values'][:, 0]), atol=PIXELS)


def test_mm_embed_nv_embed_v1_counts_instructions_its_own_way(
    mm_embed_golden, tokenizer, sizes):
  arrays = reference.read(mm_embed_golden, 'encode/nvembed_v1_text.npz')
  table = reference.table(mm_embed_golden, 'encode/nvembed_v1_text.json')
  # Its instruction is a string with all that is put around it.
  before, after = mm_embed_prompts.prompt('', False, True, '{I}').split('{I}')
  instruction = table['instruction'].removeprefix(before).removesuffix(after)
  assert before + instruction + after == table['instruction']
  for side, texts, given in (('query', table['queries'], instruction),
                             ('passage', table['passages'], None)):
    golden = reference.rows(arrays, f'{side}.')
    read = reader(tokenizer, sizes, style='nv_embed_v1',
                  max_tokens=arrays[f'{side}.input_ids'].shape[1])
    for number, text in enumerate(texts):
      found = read(types.Item('x', text), given, given is not None)
      np.testing.assert_array_equal(found.tokens, golden[number])
      assert found.pool_start == arrays[f'{side}.instruction_length']


def test_mm_embed_batches_are_as_the_golden_ones(
    mm_embed_golden, tokenizer, sizes):
  """Padded batches of mixed rows: tokens, lengths, pools, places of images."""
  def merit(case):  # images beside none, then many rows
    images = [entry.get('img') is not None
              for entry, *_ in reference.case_rows(case)]
    return any(images), not all(images), len(images)
  case = max(reference.table(mm_embed_golden, 'encode/cases.json')['cases'],
             key=merit)
  arrays = reference.read(mm_embed_golden, f'encode/{case["file"]}')
  pixels = reference.images(mm_embed_golden, 'encode')
  read = reader(tokenizer, sizes, max_tokens=case['max_length'])
  rows = [read(reference.item(entry, pixels), instruction, is_query)
          for entry, is_query, instruction in reference.case_rows(case)]
  shape = mm_embed_inputs.common_shape(map(mm_embed_inputs.shape_of, rows))
  batch = mm_embed_inputs.pad(rows, shape)
  model = reference.Model(
      None, None, read.vocabulary.image_id, read.grid)
  want = reference.batch(arrays, model, length=shape.tokens)
  for name in set(want) - {'pixels'}:
    np.testing.assert_array_equal(batch[name], want[name], err_msg=name)
  has_image = np.array([row.image is not None for row in rows])
  assert batch['pixels'][~has_image].sum() == 0
  assert batch['pixels'][has_image].any((1, 2, 3, 4)).all()


def test_mm_embed_refuses_what_would_fail_or_leak(tokenizer, sizes):
  image = np.zeros((4, 4, 3), np.uint8)
  instruction = 'Find the picture'
  start = mm_embed_prompts.pool_start(tokenizer.encode, instruction)
  read = reader(tokenizer, sizes)
  with pytest.raises(ValueError, match='q1: its text holds the image'):
    read(types.Item('q1', 'a <image> b'))
  with pytest.raises(ValueError, match='q2, its instruction: its text holds'):
    read(types.Item('q2', 'a'), 'Find <image>', True)
  with pytest.raises(ValueError, match='q3: it has no text and no image'):
    read(types.Item('q3'))
  with pytest.raises(ValueError, match='q4: its image is tuple'):
    read(types.Item('q4', 'a', (image, image)))
  # Text and image do not fit behind the instruction: only EOS would be pooled.
  for max_tokens, item in ((start + 1, types.Item('q5', 'a')),
                           (start + 2, types.Item('q5', None, image))):
    with pytest.raises(ValueError, match='q5: nothing is left of it behind'):
      reader(tokenizer, sizes, max_tokens=max_tokens)(item, instruction, True)


def test_mm_embed_a_candidate_that_looks_like_a_query_is_pooled_whole(
    tokenizer, sizes):
  found = reader(tokenizer, sizes)(types.Item('d', 'Instruct: a\nQuery: b'))
  assert found.pool_start == 0
