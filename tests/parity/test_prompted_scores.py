"""jaxret.score_matrix against transformers' own passes, pair by pair."""
import functools

import numpy as np
import pytest

import jaxret
from tests import tiny_generators
from tests import tiny_prompted as tiny

pytestmark = pytest.mark.slow
ATOL = 2e-4


@pytest.fixture(scope='module')
def torch():
  pytest.importorskip('transformers')
  return pytest.importorskip('torch')


def passes(torch, theirs, inputs_of, model, items, texts, placed=False):
  """Mean log P(token) of each pair, by one pass each, float64 [V, T].

  inputs_of: (prompt) -> what their model is given of it besides its tokens.
  placed: tells them the positions, which their versions disagree on.
  """
  special, found = model.reader.special, np.empty((len(items), len(texts)))
  for v, item in enumerate(items):
    prompt = model.reader(tiny.asked(item), chat=True)
    seen, start = inputs_of(prompt), len(prompt.tokens)
    for t, text in enumerate(texts):
      ids = tiny.answer(model, text)
      tokens = torch.tensor(np.append(prompt.tokens, ids))[None].long()
      if placed:
        behind = prompt.positions[:, -1:] + 1 + np.arange(len(ids))
        seen['position_ids'] = torch.tensor(np.concatenate(
            [prompt.positions, behind], 1))[:, None].long()
      with torch.inference_mode():
        logits = theirs(
            input_ids=tokens, attention_mask=torch.ones_like(tokens),
            mm_token_type_ids=(tokens == special['image']).int() + 2 * (
                tokens == special['video']).int(), **seen).logits[0]
      values = torch.log_softmax(logits.double(), -1).numpy()
      found[v, t] = values[start - 1:-1][np.arange(len(ids)), ids].mean()
  return found


def media(torch, pixel_values, whole, prompt):
  """Of the one medium of a prompt. whole: grids of a video's frames as one."""
  kind, grids = prompt.kinds[0], list(prompt.grids)
  if whole:
    grids = [(len(grids), *grids[0][1:])]
  names = {'image': ('pixel_values', 'image_grid_thw'),
           'video': ('pixel_values_videos', 'video_grid_thw')}[kind]
  return {names[0]: torch.tensor(np.concatenate([
      np.asarray(pixel_values(x)) for x in prompt.patches])),
      names[1]: torch.tensor(grids)}


def test_qwen3_vl_scores_12_items_and_20_texts(torch):
  import transformers
  if transformers.__version__.startswith('4'):
    pytest.skip('the golden files are those of version 5')
  from jaxret.models.qwen3_vl import vision
  theirs = transformers.Qwen3VLForConditionalGeneration.from_pretrained(
      tiny.GOLDEN / 'qwen3_vl' / 'model', attn_implementation='eager').eval()
  found = jaxret.score_matrix(tiny.ITEMS, tiny.TEXTS, tiny.qwen3_vl())
  np.testing.assert_allclose(found.text_given_video, passes(
      torch, theirs, functools.partial(media, torch, vision.pixel_values, True),
      tiny.qwen3_vl(), tiny.ITEMS, tiny.TEXTS), atol=ATOL)


@pytest.mark.parametrize('backbone', ['qwen2_vl', 'qwen25_vl'])
def test_its_forerunners_score_some(torch, tmp_path, backbone):
  import transformers

  from jaxret.models.qwen2_vl import vision
  if transformers.__version__.startswith('4'):
    pytest.skip('the golden files are those of version 5')
  if backbone == 'qwen25_vl':
    theirs = (
        transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
            tiny.GOLDEN / 'qwen25_vl' / 'model', attn_implementation='eager'))
    ours = tiny.qwen25_vl()
  else:
    from tests.parity import live_models
    theirs = live_models.qwen2_vl(tmp_path)
    ours = jaxret.load_generator(
        tmp_path, resolution=tiny_generators.RESOLUTION, mesh=tiny.one_device())
  items, texts = tiny.ITEMS[1:9:2], tiny.TEXTS[::4]
  found = jaxret.score_matrix(items, texts, ours)
  inputs_of = functools.partial(media, torch, vision.pixel_values, False)
  np.testing.assert_allclose(found.text_given_video, passes(
      torch, theirs.eval(), inputs_of, ours, items, texts,
      placed=backbone == 'qwen25_vl'), atol=ATOL)
  assert np.ptp(found.text_given_video, 0).min() > 10 * ATOL
