"""CLIP's and SigLIP's directories: what is read, what is refused, by name."""
import json
import pathlib
import shutil

import pytest

from jaxret.models.dual_encoder import files

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden'
CLIP, SIGLIP = GOLDEN / 'clip/model', GOLDEN / 'siglip2/model'
NAFLEX = GOLDEN / 'siglip2/naflex_model'
PROCESSOR = 'preprocessor_config.json'


def changed(source, directory, file, **fields):
  """A copy of a model's configs with fields of one file changed; None = none.

  'vision_config.x' is a field of a section.
  """
  for path in source.glob('*config.json'):
    shutil.copyfile(path, directory / path.name)
  whole = json.loads((directory / file).read_text())
  for name, value in fields.items():
    *sections, field = name.split('.')
    part = whole
    for section in sections:
      part = part[section]
    part[field] = value
    if value is None:
      del part[field]
  (directory / file).write_text(json.dumps(whole))
  return directory


def read(source, directory, file='config.json', **fields):
  return files.read_config(changed(source, directory, file, **fields))


def test_sizes_of_clip(tmp_path):
  c = read(CLIP, tmp_path)
  assert (c.name, c.width, c.vision.image_px, c.vision.patch_px) == (
      'clip', 24, 48, 16)
  assert c.text.eos_id is None and c.text.max_tokens == 20
  assert (c.processor.size, c.processor.crop, c.processor.resample) == (
      48, (48, 48), 3)


@pytest.mark.parametrize('eos, want', [(None, 49407), (7, 7), (2, None)])
def test_the_end_that_clip_pools(tmp_path, eos, want):
  found = read(CLIP, tmp_path, **{'text_config.eos_token_id': eos})
  assert found.text.eos_id == want


def test_sizes_of_siglip(tmp_path):
  c = read(SIGLIP, tmp_path, **{'vision_config.image_size': 64})
  assert (c.name, c.width, c.vision.grid, c.text.max_tokens) == (
      'siglip', 32, 4, 24)
  assert c.processor == files.model_lib.Processor(
      (64, 64), None, 2, (0.5,) * 3, (0.5,) * 3)
  c = read(NAFLEX, tmp_path)
  assert (c.vision.image_px, c.vision.grid) == (None, 6)
  assert (c.processor.patch_px, c.processor.max_patches) == (16, 32)


def test_what_makes_no_whole_patch(tmp_path):
  """google/siglip2-so400m-patch14-384, say: 27 patches of 14 in 384."""
  changed(SIGLIP, tmp_path, PROCESSOR, size={'height': 70, 'width': 70})
  config = json.loads((tmp_path / 'config.json').read_text())
  config['vision_config'] |= {'image_size': 70, 'patch_size': 16}
  (tmp_path / 'config.json').write_text(json.dumps(config))
  assert files.read_config(tmp_path).vision.grid == 4


def test_processors_of_old_and_new_files(tmp_path):
  want = read(CLIP, tmp_path).processor
  assert read(CLIP, tmp_path, PROCESSOR, size=48, crop_size=48
              ).processor == want
  part = json.loads((tmp_path / PROCESSOR).read_text())
  (tmp_path / PROCESSOR).unlink()
  (tmp_path / 'processor_config.json').write_text(json.dumps(
      {'processor_class': 'CLIPProcessor', 'image_processor': part}))
  assert files.read_config(tmp_path).processor == want
  (tmp_path / 'processor_config.json').unlink()
  with pytest.raises(ValueError, match='no preprocessor_config.json, which'):
    files.read_config(tmp_path)


@pytest.mark.parametrize('source, file, fields, message', [
    (CLIP, 'config.json', {'vision_config.hidden_act': 'relu'},
     "vision_config: got hidden_act = 'relu'"),
    (CLIP, 'config.json', {'vision_config.rope': 1}, 'a field that is not'),
    (SIGLIP, 'config.json', {'vision_config.vision_use_head': False},
     'vision_config: got vision_use_head = False'),
    (SIGLIP, 'config.json', {'text_config.projection_size': 16},
     'got images 32 wide and texts 16 wide'),
    (SIGLIP, 'config.json', {'model_type': 'siglip3'},
     "got model_type 'siglip3', want clip or siglip or siglip2"),
    (NAFLEX, 'config.json', {'vision_config.num_patches': 35},
     'got num_patches = 35, want a square number'),
    (CLIP, PROCESSOR, {'crop_size': {'height': 32, 'width': 32}},
     'want images of 48x48, which the model sees'),
    (CLIP, PROCESSOR, {'size': {'shortest_edge': 40}}, 'want images of 48x48'),
    (CLIP, PROCESSOR, {'do_center_crop': False}, 'want images of 48x48'),
    (CLIP, PROCESSOR, {'size': {'longest_edge': 48}},
     "got size = {'longest_edge': 48}, want height and width"),
    (CLIP, PROCESSOR, {'do_rescale': False}, 'got do_rescale = False'),
    (CLIP, PROCESSOR, {'sharpen': 2}, 'got sharpen = 2, a field that is not'),
    (SIGLIP, PROCESSOR, {'resample': None}, 'got resample = None, want'),
    (SIGLIP, PROCESSOR, {'resample': 1}, 'got resample = 1, want 2 or 3'),
    (SIGLIP, PROCESSOR, {'image_std': [0.5, 0, 0.5]}, 'got image_std = '),
    (SIGLIP, PROCESSOR, {'image_mean': None}, 'got image_mean = None'),
    (NAFLEX, PROCESSOR, {'patch_size': 14}, 'got patch_size = 14, want'),
    (NAFLEX, PROCESSOR, {'max_num_patches': 0}, 'want a whole number above 0'),
    (SIGLIP, 'tokenizer_config.json', {'tokenizer_class': 'SiglipTokenizer'},
     'takes punctuation out of texts'),
])
def test_what_is_refused(tmp_path, source, file, fields, message):
  with pytest.raises(ValueError) as error:
    read(source, tmp_path, file, **fields)
  assert message in str(error.value) and '\n' not in str(error.value)
  assert str(error.value).startswith(str(tmp_path))
