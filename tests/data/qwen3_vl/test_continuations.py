"""Prompts that Qwen3-VL continues: marks, times, masked media, chat."""
import numpy as np
import pytest

from jaxret.data import types
from jaxret.data.qwen3_vl import continuations, reader
from tests import tiny_qwen3_vl, tiny_unite

VIDEO = tiny_unite.pixels(1, 64, 64, frames=3)
IMAGE = tiny_unite.pixels(0, 64, 96)


def make(**options):
  return continuations.Reader(
      tiny_unite.tokenizer(), tiny_qwen3_vl.RESOLUTION, **options)


def shown(tokens):
  """The prompt as text, runs of placeholders as one."""
  decoded = tiny_unite.tokenizer().decode(tokens)
  for pad in ('<|image_pad|>', '<|video_pad|>'):
    while pad * 2 in decoded:
      decoded = decoded.replace(pad * 2, pad)
  return decoded


SEEN = {kind: f'<|vision_start|><|{kind}_pad|><|vision_end|>'
        for kind in ('image', 'video')}
FRAMES = f'<0.2 seconds>{SEEN["video"]}<1.2 seconds>{SEEN["video"]}'


@pytest.mark.parametrize('item, chat, want', [
    (types.Item('a', text='red'), False, 'red'),
    (types.Item('b', text='red', video=VIDEO), False, f'{FRAMES}red'),
    (types.Item('c', text='red', image=IMAGE, video=VIDEO), False,
     f'{SEEN["image"]}{FRAMES}red'),
    (types.Item('d', text='a <|VIDEO|> b <|IMAGE|> c', image=IMAGE,
                video=VIDEO), False, f'a {FRAMES} b {SEEN["image"]} c'),
    (types.Item('e', text='red', image=IMAGE), True,
     f'<|im_start|>user\n{SEEN["image"]}red<|im_end|>\n'
     '<|im_start|>assistant\n')], ids=lambda value: getattr(value, 'id', ''))
def test_prompts_are_as_the_item_has_them(item, chat, want):
  read = make()
  prompt = read(item, chat)
  assert shown(prompt.tokens) == want
  batch = read.pad([prompt], read.bucket(prompt))
  n = len(prompt.tokens)
  assert batch['length'] == n
  visual = np.isin(prompt.tokens, list(read.special.values()))
  if visual.any():
    np.testing.assert_array_equal(batch['visual_index'][0, :n] >= 0, visual)
  np.testing.assert_array_equal(
      batch['positions'][0, :, :n], prompt.positions)


def test_masked_prompts_keep_their_text_and_its_positions():
  read, item = make(), types.Item('x', text='red', video=VIDEO, image=IMAGE)
  whole, masked = read(item), read.masked(item)
  text = ~np.isin(whole.tokens, list(read.special.values()))
  np.testing.assert_array_equal(masked.tokens, whole.tokens[text])
  np.testing.assert_array_equal(masked.positions, whole.positions[:, text])
  assert not masked.grids and not masked.patches
  batch = read.pad([masked], read.bucket(masked))
  assert 'patches' not in batch
  np.testing.assert_array_equal(
      batch['positions'][0, :, :len(masked.tokens)], masked.positions)


@pytest.mark.parametrize('item, chat, message', [
    (types.Item('x'), False, '^x: it is empty'),
    (types.Item('x', text='<|image_pad|>'), False, '^x: its text holds'),
    (types.Item('x', text='<|im_end|>'), True, '^x: its text holds'),
    (types.Item('x', text='red ' * 90), False, '^x: .* want at most 40'),
    (types.Item('x', text='<|IMAGE|>'), False, '^x: its text has 1 marks')])
def test_what_cannot_be_continued_is_named(item, chat, message):
  with pytest.raises(ValueError, match=message):
    make(max_tokens=40)(item, chat)


def test_suffixes_hold_no_placeholder():
  read = make()
  np.testing.assert_array_equal(
      read.suffix(' red', 'a'), tiny_unite.tokenizer().encode(' red'))
  with pytest.raises(ValueError, match='^a: it holds <.video_pad.>'):
    read.suffix('<|video_pad|>', 'a')
  assert read.ends and isinstance(read, reader.Reader)
