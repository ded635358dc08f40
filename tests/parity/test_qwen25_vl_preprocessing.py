"""Qwen2.5-VL's pixels, frames, sizes and prompts, as its authors have them."""
import numpy as np
import PIL.Image
import pytest

from jaxret.data import types
from jaxret.data.qwen2_vl import pixels as qwen2_vl
from jaxret.data.qwen2_vl import reader as reader_lib
from jaxret.data.qwen2_vl import seen
from jaxret.data.qwen25_vl import pixels
from jaxret.models.qwen2_vl import vision
from tests.parity import qwen25_vl_reference as reference
from tests.parity import unite_reference as shared
from tests.parity.test_unite_preprocessing import outcome

PIXELS = 1e-5       # the same resampler
# torchvision's instead of PIL's; of single frames, of images two levels.
GREY_LEVEL, OTHER_PIXELS = 0.016, 2 / 255 / min(vision.STD) + PIXELS


@pytest.fixture(scope='module')
def tables(qwen25_vl_golden):
  return shared.table(qwen25_vl_golden, 'preprocess/tables.json')


def test_qwen25_vl_sizes(tables):
  for row in tables['smart_resize']:
    limits = row['min_pixels'], row['max_pixels']
    for key, variant in (('qwen_vl_utils', 'qwen_vl_utils_0_0_8'),
                         ('tf457_image', 'tf523'), ('tf524_image', 'tf523')):
      got = outcome(qwen2_vl.smart_resize, row['height'], row['width'], limits,
                    variant)
      # An error is told in words of its own.
      want = 'ValueError' if isinstance(row[key], str) else row[key]
      assert got == want, (row, key)


def test_qwen25_vl_frames_of_a_video(tables):
  """Their number, which they are, and how often they come."""
  for row in tables['qwen_vl_utils_sampling']:
    asked = dict(row['asked'])
    count = asked.pop('nframes', 0)
    resolution = pixels.Resolution(n_frames=count, **asked)
    total, fps = row['total_frames'], row['video_fps']
    got = outcome(
        qwen2_vl.frame_count, total, fps, resolution.fps,
        resolution.min_frames, resolution.max_frames, count, pixels.LIBRARY)
    assert got == row['nframes'], row
    if row['indices'] is None:
      continue
    indices = resolution.choose_frames(total, fps)
    assert indices.tolist() == row['indices'], row
    np.testing.assert_allclose(
        seen.Sampled(indices, total, fps).rate, row['sample_fps'], rtol=1e-12)


def test_qwen25_vl_limits_of_frames(tables):
  for row in tables['qwen_vl_utils_video_limits']:
    resolution = pixels.Resolution()
    if row['total_pixels']:
      resolution = pixels.Resolution(video_total=row['total_pixels'])
    assert resolution.frame_limits(row['nframes']) == (
        row['min_pixels'], row['max_pixels']), row


def test_qwen25_vl_image_patches(qwen25_vl_golden, tables):
  arrays = shared.read(qwen25_vl_golden, 'preprocess/images.npz')
  limits = tables['limits']['min_pixels'], tables['limits']['max_pixels']
  images = {key: array[None] for key, array in arrays.items()
            if key.startswith('in/')}
  for name, image in images.items():
    size = qwen2_vl.smart_resize(*image.shape[1:3], limits)
    np.testing.assert_array_equal(
        qwen2_vl.resize(image, [size])[0],
        arrays[name.replace('in/', 'resized/')])
  found = [shared.processed(image, limits, 'tf523')
           for image in images.values()]
  for version, atol in (('tf524_pil', PIXELS),
                        ('tf524_torchvision', OTHER_PIXELS)):
    np.testing.assert_array_equal([grid for _, grid in found],
                                  arrays[f'{version}/image_grid_thw'])
    np.testing.assert_allclose(
        np.concatenate([patches for patches, _ in found]),
        arrays[f'{version}/pixel_values'], atol=atol)


def test_qwen25_vl_video_patches(qwen25_vl_golden, tables):
  """An odd last frame is repeated."""
  arrays = shared.read(qwen25_vl_golden, 'preprocess/video.npz')
  limits = tuple(tables['video']['limits'])
  frames = arrays['in/frames']
  size = qwen2_vl.smart_resize(*frames.shape[1:3], limits, 'tf523')
  patches, grid = qwen2_vl.patchify(qwen2_vl.resize(frames, [size]))
  np.testing.assert_array_equal([grid], arrays['tf524/video_grid_thw'])
  np.testing.assert_allclose(
      vision.pixel_values(patches), arrays['tf524/pixel_values_videos'],
      atol=GREY_LEVEL)


def test_qwen25_vl_prompts_and_tokens(qwen25_vl_golden):
  """Of messages, and of the media that lie beside them."""
  tokenizer = reference.tokenizer(qwen25_vl_golden)
  model_config = reference.files.read_config(
      qwen25_vl_golden / 'model', 'mrope').config
  reader = reader_lib.open_reader(model_config, tokenizer)
  checked = 0
  for name, told in reference.told(qwen25_vl_golden).items():
    arrays = reference.arrays_of(qwen25_vl_golden, name)
    left = {kind: [tuple(grid) for grid in told.get(f'{kind}_grid_thw', ())]
            for kind in seen.KINDS}
    for row, messages in enumerate(told['messages']):
      prompt = reference.prompt(messages)
      assert prompt == told['text'][row], name
      kinds, grids = [], []
      for kind in seen.KINDS:
        for _ in range(prompt.count(f'<|{kind}_pad|>')):
          kinds.append(kind)
          grids.append(left[kind].pop(0))
      tokens = reader.expanded(prompt, kinds, grids)
      real = arrays['in/attention_mask'][row].astype(bool)
      np.testing.assert_array_equal(
          tokens, arrays['in/input_ids'][row][real], name)
      checked += 1
  assert checked


def test_qwen25_vl_media_are_read_to_the_golden_patches(qwen25_vl_golden):
  """Files and frames to patches, grids and the seconds of a slice."""
  resolution = qwen2_vl.Resolution(
      released=False, processor=(4 * 784, 16384 * 784),
      read_video=(4 * 784, 16384 * 784), max_frames=768)
  model_config = reference.files.read_config(qwen25_vl_golden / 'model').config
  layout = reader_lib.layout_of(model_config)
  for name, told in reference.told(qwen25_vl_golden).items():
    arrays = reference.arrays_of(qwen25_vl_golden, name)
    for kind in seen.KINDS:
      patches, seconds = [], []
      for number, file in enumerate(told[f'{kind}_files']):
        source = read(qwen25_vl_golden / file)
        frames, sampled = seen.frames(
            name, kind, source, resolution, 'white')
        pixels_of, grid = qwen2_vl.patchify(frames)
        assert list(grid) == told[f'{kind}_grid_thw'][number], (name, file)
        patches.append(pixels_of)
        if kind == 'video':
          stated = sampled._replace(fps=told['fps'][number])
          seconds.append(layout.steps([stated])[0][0])
      if patches:
        values = np.asarray(vision.pixel_values(np.concatenate(patches)))
        np.testing.assert_allclose(
            values, arrays[shared.KINDS[kind][0]], atol=PIXELS, err_msg=name)
      if seconds:
        np.testing.assert_array_equal(
            np.float32(seconds), arrays['in/second_per_grid_ts'], name)


def read(path):
  if path.suffix == '.npz':
    with np.load(path) as arrays:
      return arrays['frames']
  return np.asarray(PIL.Image.open(path).convert('RGB'))


def test_qwen25_vl_items_become_the_golden_batch(qwen25_vl_golden):
  """A Reader's Inputs, padded: positions in time among them."""
  model_config = reference.files.read_config(
      qwen25_vl_golden / 'model', 'mrope').config
  reader = reader_lib.open_reader(
      model_config, reference.tokenizer(qwen25_vl_golden),
      resolution=pixels.Resolution(read_video=(4 * 784, 16384 * 784)))
  checked = 0
  for name, told in reference.told(qwen25_vl_golden).items():
    if (len(told['messages']), len(told['video_files']),
        len(told['image_files'])) != (1, 1, 0):
      continue
    arrays = reference.arrays_of(qwen25_vl_golden, name)
    inputs = reader(types.Item(name, video=read(
        qwen25_vl_golden / told['video_files'][0])))
    inputs = inputs._replace(
        tokens=arrays['in/input_ids'][0], sampled=(
            inputs.sampled[0]._replace(fps=told['fps'][0]),))
    batch = reader.pad([inputs], reader.bucket(inputs))
    length = len(inputs.tokens)
    np.testing.assert_array_equal(
        batch['positions'][0, :, :length],
        arrays['out/position_ids_mrope'][:, 0], name)
    checked += 1
  assert checked
