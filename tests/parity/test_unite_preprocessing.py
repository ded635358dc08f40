"""UNITE's preprocessing: sizes, frames, patches and prompts."""
import dataclasses

import numpy as np
import pytest

from jaxret.data.qwen2_vl import pixels as qwen2_vl
from jaxret.data.qwen2_vl import prompts as unite_prompts
from tests.parity import unite_reference as reference

PIXELS = 1e-5       # the same resampler
OTHER_PIXELS = 0.06  # torchvision's instead of PIL's


@pytest.fixture(scope='module')
def tables(unite_golden):
  return reference.table(unite_golden, 'preprocess/tables.json')


@pytest.fixture(scope='module')
def pipeline(unite_golden):
  return reference.read(unite_golden, 'preprocess/unite_pipeline.npz')


def outcome(function, *args, **kwargs):
  """What a function returns, or the name of the error that it raises."""
  try:
    found = function(*args, **kwargs)
  except ValueError:
    return 'ValueError'
  return list(found) if isinstance(found, tuple) else found


def test_unite_smart_resize(tables):
  for row in tables['smart_resize']:
    limits = row['min_pixels'], row['max_pixels']
    for variant in qwen2_vl.RESIZE_VARIANTS:
      got = outcome(
          qwen2_vl.smart_resize, row['h'], row['w'], limits, variant)
      assert got == row[variant], (row, variant)


def test_unite_frame_counts_and_indices(tables):
  for row in tables['smart_nframes']:
    ele = row['ele']
    got = outcome(
        qwen2_vl.frame_count, row['total_frames'], row['video_fps'],
        ele.get('fps'), ele.get('min_frames', 4), ele.get('max_frames'),
        ele.get('nframes'))
    assert got == row['nframes'], row
    if row['indices'] is not None:
      indices = qwen2_vl.frame_indices(row['total_frames'], got)
      assert indices.tolist() == row['indices'], row


def content(given):
  def count(kind):
    value = given.get(kind, [])
    return len(value) if isinstance(value, list) else 1
  return unite_prompts.Content(
      given.get('text'), {kind: count(kind) for kind in unite_prompts.MARKS},
      tuple(name for name in given if name in unite_prompts.CODES))


def test_unite_prompts(tables):
  for row in tables['prompts']:
    assert unite_prompts.prompt(content(row['input'])) == row['text'], row


def test_unite_prompt_of_several_media_marks_each_unless_released():
  several = content({'image': ['a', 'b'], 'video': 'c'})
  for released, images in ((True, 1), (False, 2)):
    text = unite_prompts.prompt(several, released)
    assert text.count(unite_prompts.PADS['image']) == images
    assert text.count(unite_prompts.PADS['video']) == 1


def test_unite_image_patches(unite_golden):
  arrays = reference.read(unite_golden, 'preprocess/images.npz')
  limits = reference.resolution_limits(unite_golden, 'image')
  images = {key: array[None] for key, array in arrays.items()
            if key.startswith('in/')}
  for name, image in images.items():
    size = qwen2_vl.smart_resize(*image.shape[1:3], limits)
    np.testing.assert_array_equal(
        qwen2_vl.resize(image, [size])[0],
        arrays[name.replace('in/', 'resized/')])
  for version, atol in (('tf447', PIXELS), ('tf523_pil', PIXELS),
                        ('tf523_torchvision', OTHER_PIXELS)):
    found = [reference.processed(image, limits, version.partition('_')[0])
             for image in images.values()]
    np.testing.assert_array_equal([grid for _, grid in found],
                                  arrays[f'{version}/image_grid_thw'])
    np.testing.assert_allclose(
        np.concatenate([patches for patches, _ in found]),
        arrays[f'{version}/pixel_values'], atol=atol)


def test_unite_video_patches(unite_golden):
  """An odd last frame is repeated; without it the older version agrees."""
  arrays = reference.read(unite_golden, 'preprocess/video.npz')
  limits = reference.resolution_limits(unite_golden, 'video')
  frames = arrays['in/frames']
  even = frames[:len(frames) // 2 * 2]
  for version, chosen in (('tf523', frames), ('tf447_even', even)):
    patches, grid = reference.processed(
        chosen, limits, version.partition('_')[0])
    np.testing.assert_array_equal(
        [grid], arrays[f'{version}/video_grid_thw'])
    np.testing.assert_allclose(
        patches, arrays[f'{version}/pixel_values_videos'],
        atol=PIXELS if version == 'tf447_even' else OTHER_PIXELS)


def resolution(ele):
  """The released Resolution with the video settings of the golden data."""
  released = qwen2_vl.Resolution()
  least, most = released.read_video
  return dataclasses.replace(
      released, fps=ele.get('fps'), n_frames=ele.get('nframes', 0),
      min_frames=ele.get('min_frames', released.min_frames),
      max_frames=ele.get('max_frames'), read_video=(
          ele.get('min_pixels', least), ele.get('max_pixels', most)))


@pytest.mark.parametrize('kind', ['image', 'video'])
def test_unite_double_resize(pipeline, tables, kind):
  released = resolution(tables['unite_pipeline']['ele'])
  frames = (pipeline['in/image'][None] if kind == 'image'
            else pipeline['in/clip_sampled'])
  sizes = released.sizes(kind, *frames.shape[1:3])
  want = pipeline[f'fetch_{kind}']
  if kind == 'image':
    read = qwen2_vl.resize(frames, sizes[:1])
    np.testing.assert_array_equal(read[0], want)
  else:
    read = np.stack([qwen2_vl.resize_in_float(frame, sizes[0])
                     for frame in frames])
    want = want.transpose(0, 2, 3, 1)
    difference = np.abs(read.astype(int) - want)
    assert difference.max() <= 1 and difference.mean() < 1e-3
    np.testing.assert_array_equal(
        released.resize(kind, frames), qwen2_vl.resize(read, sizes[1:]))
    read = want
  summary = tables['unite_pipeline'][kind]
  assert list(sizes[-1]) == summary['resized_hw']
  patches, grid = reference.processed(read, released.processor)
  np.testing.assert_array_equal([grid], pipeline[f'{kind}/grid_thw'])
  assert patches.shape[0] == summary['n_patches']
  assert patches.shape[0] // 4 == summary['llm_tokens']
  np.testing.assert_allclose(
      patches[pipeline[f'{kind}/rows_idx']], pipeline[f'{kind}/rows'],
      atol=PIXELS)
  for axis, name in ((0, 'col_mean'), (1, 'row_mean')):
    np.testing.assert_allclose(
        patches.mean(axis), pipeline[f'{kind}/{name}'], atol=PIXELS)


def test_unite_frames_of_the_pipeline(pipeline, tables):
  clip, ele = (tables['unite_pipeline'][key] for key in ('clip', 'ele'))
  np.testing.assert_array_equal(
      qwen2_vl.choose_frames(clip['t'], clip['fps'], resolution(ele)),
      pipeline['frame_indices'])
