"""UNITE on Qwen2.5-VL and Qwen3-VL, exported, computed by other libraries."""
import json

import numpy as np
import PIL.Image
import pytest

import jaxret
from jaxret.data.qwen3_vl import prompts
from jaxret.exporting import export as exporting
from tests import tiny_exports, tiny_unite

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_device')]

ITEMS = [tiny_unite.item(kind, number) for number, kind in enumerate(
    ('text', 'image', 'video', 'image,text'))]
MEAN, STD = ((0.48145466, 0.4578275, 0.40821073),
             (0.26862954, 0.26130258, 0.27577711))


def pixels(model, patches):
  """Normalised patches; Qwen3-VL's are between -1 and 1."""
  patches = np.concatenate(patches).astype(np.float32) / 255
  each = patches.shape[-1] // 3
  mean, std = (((0.5,) * 3,) * 2 if model.config.model_type == 'qwen3_vl'
               else (MEAN, STD))
  return torch.from_numpy(
      (patches - np.repeat(np.float32(mean), each))
      / np.repeat(np.float32(std), each))


@torch.inference_mode()
def embedded(model, reader, item):
  """The unit vector of an item, float32 [D], by a model of transformers."""
  one = reader(item)
  n = len(one.tokens)
  positions = reader.pad([one], reader.bucket(one))['positions'][0][:, :n]
  given = {'input_ids': torch.from_numpy(one.tokens.astype(np.int64))[None],
           'position_ids': torch.from_numpy(positions.astype(np.int64))[:, None]
           }
  for kind, values, grids in (
      ('image', 'pixel_values', 'image_grid_thw'),
      ('video', 'pixel_values_videos', 'video_grid_thw')):
    if kind in one.kinds:
      given |= {values: pixels(model, one.patches), grids: torch.tensor(
          [np.array(grid).tolist() for grid in one.grids])}
  hidden = model(**given, use_cache=False).last_hidden_state[0, -1]
  return torch.nn.functional.normalize(hidden, dim=0).numpy()


def opened(kind, directory):
  """A model of transformers; nothing is left over or missing."""
  model, found = kind.from_pretrained(
      directory, output_loading_info=True, dtype='float32')
  assert not found['missing_keys'] and not found['mismatched_keys']
  assert set(found['unexpected_keys']) <= {'lm_head.weight'}
  return model.eval()


@pytest.mark.parametrize('name, kind, base', [
    ('qwen25_vl', 'Qwen2_5_VLModel', tiny_exports.QWEN25_VL),
    ('qwen3_vl', 'Qwen3VLModel', tiny_exports.QWEN3_VL)])
def test_transformers_computes_what_lora_trained(tmp_path, name, kind, base):
  workdir, _ = getattr(tiny_exports, f'unite_on_{name}')(tmp_path / 'run')
  out = exporting.export(workdir, tmp_path / 'out')
  model = jaxret.load(out)
  want = model.encode(ITEMS, show_progress=False)
  np.testing.assert_array_equal(
      want, jaxret.load(workdir).encode(ITEMS, show_progress=False))
  theirs = opened(getattr(transformers, kind), out)
  found = np.stack([embedded(theirs, model.reader, item) for item in ITEMS])
  np.testing.assert_allclose(found, want, atol=1e-5)
  untrained = opened(getattr(transformers, kind), base)
  assert np.abs(embedded(untrained, model.reader, ITEMS[0])
                - want[0]).max() > 1e-3
  whole = opened(getattr(
      transformers, kind.removesuffix('Model') + 'ForConditionalGeneration'),
                 out)
  assert whole.lm_head is not None


def test_sentence_transformers_computes_what_unite_on_qwen3_vl_does(tmp_path):
  """Texts, images and both, each with and without an instruction."""
  library = pytest.importorskip('sentence_transformers')
  pytest.importorskip('torchvision', reason='of its processor of videos')
  workdir, _ = tiny_exports.unite_on_qwen3_vl(tmp_path / 'run')
  out = exporting.export(workdir, tmp_path / 'out', 'sentence-transformers')
  assert 'library_name: sentence-transformers' in (
      out / 'README.md').read_text()
  ours = jaxret.load(out)
  image = tiny_unite.pixels(0, 64, 64)  # of a size that is not changed
  given = ['red square', {'image': image}, {'image': image, 'text': 'up'}]
  shown = PIL.Image.fromarray(image)
  model = library.SentenceTransformer(str(out), device='cpu')
  theirs = ['red square', shown, {'image': shown, 'text': 'up'}]
  for prompt in (None, 'Find a picture.'):
    want = ours.encode(given, prompt, show_progress=False)
    for item, vector in zip(theirs, want):
      np.testing.assert_allclose(
          model.encode([item], prompt=prompt)[0], vector, atol=1e-5)
  about = json.loads((out / 'config_sentence_transformers.json').read_text())
  assert about['prompts'] == {'default': prompts.INSTRUCTION}


def test_a_layout_that_would_embed_otherwise_is_refused(tmp_path):
  workdir, _ = tiny_exports.unite_on_qwen25_vl(tmp_path / 'run')
  with pytest.raises(ValueError, match='use --format=transformers; what that '
                     'writes, or the workdir itself, jaxret.load opens'):
    exporting.export(workdir, tmp_path / 'out', 'sentence-transformers')
