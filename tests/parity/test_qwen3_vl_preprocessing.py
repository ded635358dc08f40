"""Qwen3-VL's preprocessing: sizes, frames, times and patches."""
import dataclasses

import numpy as np
import pytest

from jaxret.data.qwen2_vl import pixels as qwen2_vl
from jaxret.data.qwen3_vl import pixels as qwen3_vl
from jaxret.data.qwen3_vl import prompts, reader
from jaxret.models.qwen3_vl import vision
from tests.parity import qwen3_vl_reference as reference

PIXELS = 1e-5
OTHER_PIXELS = 0.03  # another bicubic resampler: one grey level and a little


@pytest.fixture(scope='module')
def tables(qwen3_vl_golden):
  return reference.table(qwen3_vl_golden, 'preprocess/tables.json')


def outcome(function, *args):
  """What a function returns, or the name of the error that it raises."""
  try:
    return list(function(*args))
  except ValueError:
    return 'ValueError'


def test_qwen3_vl_smart_resize(tables):
  for row in tables['smart_resize']:
    for name, variant in (('qwen_vl_utils', 'qwen_vl_utils_0_0_8'),
                          ('tf524_image', qwen3_vl.TRANSFORMERS)):
      got = outcome(
          qwen2_vl.smart_resize, row['height'], row['width'],
          (row['min_pixels'], row['max_pixels']), variant, row['factor'])
      assert got == row[name], (row, name)


def test_qwen3_vl_video_smart_resize(tables):
  for row in tables['video_smart_resize']:
    got = outcome(
        qwen3_vl.video_resize, row['num_frames'], row['height'], row['width'],
        (row['min_pixels'], row['max_pixels']))
    assert got == row['tf524_video'], row
    if min(row['height'], row['width']) >= row['factor']:
      assert got == row['tf457_video'], row


def test_qwen3_vl_frames_and_times_of_the_processor(tables):
  for row in tables['sampling']:
    policy = dataclasses.replace(
        qwen3_vl.Processor(min_frames=tables['sampler']['min_frames'],
                           max_frames=tables['sampler']['max_frames']),
        fps=row['asked'].get('fps', tables['sampler']['default_fps']))
    if 'num_frames' in row['asked']:  # a number of frames: times alone
      indices = np.array(row['tf457_indices'])
    else:
      indices = policy.choose_frames(row['total_num_frames'], row['video_fps'])
    for version in ('tf457', 'tf524'):
      assert indices.tolist() == row[f'{version}_indices'], row
      times = policy.times(indices, row['video_fps'], False)
      assert [f'<{time} seconds>' for time in qwen3_vl.seconds_shown(times)
              ] == row[f'{version}_timestamps'], row


def test_qwen3_vl_frames_of_the_embedder(tables):
  checked = 0
  for row in tables['qwen_vl_utils_sampling']:
    asked = dict(row['asked'])
    if 'nframes' in asked or row['nframes'] == 'ValueError':
      continue
    policy = qwen3_vl.Resolution(
        fps=asked.pop('fps', 2.0), min_frames=asked.pop('min_frames', 4),
        max_frames=asked.pop('max_frames', 768))
    assert not asked
    assert policy.choose_frames(
        row['total_frames'], row['video_fps']).tolist() == row['indices'], row
    checked += 1
  assert checked


def test_qwen3_vl_limits_of_frames(tables):
  for row in tables['qwen_vl_utils_video_limits']:
    listed = row['total_pixels'] is not None
    policy = qwen3_vl.Resolution()
    if listed:
      policy = dataclasses.replace(policy, listed_total=row['total_pixels'])
    least, most = policy.frame_limits(row['nframes'], listed)
    assert (least, int(most)) == (row['min_pixels'], int(row['max_pixels']))


def processor(tables):
  limits = tables['limits']
  return qwen3_vl.Processor(
      image=(limits['min_pixels'], limits['max_pixels']),
      video=tuple(tables['video']['limits']))


def test_qwen3_vl_image_patches(qwen3_vl_golden, tables):
  arrays = reference.read(qwen3_vl_golden, 'preprocess/images.npz')
  policy = processor(tables)
  found = []
  for name in (key for key in arrays if key.startswith('in/')):
    resized = policy.resize('image', arrays[name][None])
    np.testing.assert_array_equal(
        resized[0], arrays[name.replace('in/', 'resized/')])
    found.append(qwen3_vl.patchify(resized))
  patches = vision.pixel_values(np.concatenate([one for one, _ in found]))
  for version, atol in (('tf524_pil', PIXELS),
                        ('tf524_torchvision', OTHER_PIXELS)):
    np.testing.assert_array_equal(
        [grid for _, grid in found], arrays[f'{version}/image_grid_thw'])
    np.testing.assert_allclose(
        patches, arrays[f'{version}/pixel_values'], atol=atol)


def test_qwen3_vl_video_patches(qwen3_vl_golden, tables):
  """An odd last frame is repeated."""
  arrays = reference.read(qwen3_vl_golden, 'preprocess/video.npz')
  patches, grid = qwen3_vl.patchify(
      processor(tables).resize('video', arrays['in/frames']))
  np.testing.assert_array_equal([grid], arrays['tf524/video_grid_thw'])
  np.testing.assert_allclose(
      vision.pixel_values(patches), arrays['tf524/pixel_values_videos'],
      atol=OTHER_PIXELS)


def content(parts, fps):
  """(what is said, sizes of its placeholders) of golden message parts."""
  for part in parts:
    if part['type'] == 'text':
      yield part['text']
    elif part['type'] == 'image':
      yield prompts.image()
    else:
      n_frames, rate = next(fps)
      times = qwen3_vl.Processor().times(np.arange(n_frames), rate, False)
      yield prompts.video(qwen3_vl.seconds_shown(times))


def test_qwen3_vl_prompts_of_the_cases(qwen3_vl_golden):
  """Turns, media and times as the golden processor renders them."""
  tokenizer = reference.tokenizer(qwen3_vl_golden)
  read = reader.Reader(tokenizer, qwen3_vl.Processor())
  special = reference.model(qwen3_vl_golden).special
  cases = reference.table(qwen3_vl_golden, 'cases.json')['cases']
  for name, case in reference.cases(qwen3_vl_golden, special).items():
    lengths = [len(reference.read(qwen3_vl_golden, file)['frames'])
               for file in cases[name]['video_files']]
    fps = iter(zip(lengths, cases[name]['fps']))
    for messages, row in zip(cases[name]['messages'], case.rows):
      text = ''.join(prompts.turn(message['role'], ''.join(
          content(message['content'], fps))) for message in messages)
      tokens = read.expanded(
          f'{text}{prompts.START}assistant\n', row.kinds, row.grids)
      np.testing.assert_array_equal(tokens, row.tokens, err_msg=name)


def test_qwen3_vl_pixels_of_the_cases(qwen3_vl_golden):
  """The media of the cases need no resize: every pixel agrees."""
  import PIL.Image
  cases = reference.table(qwen3_vl_golden, 'cases.json')['cases']
  for name in cases:
    arrays = reference.read(qwen3_vl_golden, cases[name]['file'])
    if cases[name].get('vision_inputs_from', name) != name:
      continue
    for kind, (key, grids) in reference.KINDS.items():
      if key not in arrays:
        continue
      found = [qwen3_vl.patchify(
          np.asarray(PIL.Image.open(qwen3_vl_golden / file))[None]
          if kind == 'image' else
          reference.read(qwen3_vl_golden, file)['frames'])
               for file in cases[name][f'{kind}_files']]
      np.testing.assert_array_equal(
          [grid for _, grid in found], arrays[grids])
      np.testing.assert_allclose(
          vision.pixel_values(np.concatenate([one for one, _ in found])),
          arrays[key], atol=PIXELS, err_msg=name)
