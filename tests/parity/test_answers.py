"""Choices and their priors against transformers' own log-softmax."""
import numpy as np
import pytest

import jaxret
from jaxret.data import types
from jaxret.models.qwen2_vl import vision
from tests import tiny_generators as tiny

pytestmark = pytest.mark.slow
ITEMS = [{'image': tiny.pixels(0, 56, 56)},
         {'video': tiny.pixels(4, 4, 56, 56)}]
CHOICES = ('yes', 'no', 'a dog runs on the grass', 'a dog')
QUESTION = 'Is there a dog?'


def log_softmax(theirs, prompt, ids, masked):
  """log P of the next token behind each of one sequence, float64 [T, V].

  The keys of what is seen are hidden by a mask [1, 1, T, T]; positions are
  ours, which transformers would count otherwise for a sequence with holes.
  """
  import torch
  tokens = torch.tensor(np.concatenate([prompt.tokens, ids]))[None].long()
  places = prompt.positions[:, -1:] + 1 + np.arange(len(ids))
  positions = torch.tensor(
      np.concatenate([prompt.positions, places], 1))[:, None].long()
  kind, = prompt.kinds
  pad = {'image': theirs.config.image_token_id,
         'video': theirs.config.video_token_id}[kind]
  keep = torch.tril(torch.ones(tokens.shape[1], tokens.shape[1]).bool())
  if masked:
    keep &= (tokens[0] != pad)[None]
  mask = torch.where(keep, 0.0, torch.finfo(torch.float32).min)[None, None]
  pixels = torch.from_numpy(np.array(vision.pixel_values(prompt.patches[0])))
  names = {'image': ('pixel_values', 'image_grid_thw'),
           'video': ('pixel_values_videos', 'video_grid_thw')}[kind]
  with torch.inference_mode():
    logits = theirs(
        input_ids=tokens, attention_mask={'full_attention': mask},
        position_ids=positions,
        mm_token_type_ids=(1 + (kind == 'video')) * (tokens == pad).int(),
        **dict(zip(names, (pixels, torch.tensor([prompt.grids[0]]))))).logits[0]
  return torch.log_softmax(logits.double(), -1).numpy()


@pytest.mark.parametrize('length_normalized', [True, False])
def test_both_parts_are_those_of_transformers(tmp_path, length_normalized):
  pytest.importorskip('torch')
  pytest.importorskip('transformers')
  from tests.parity import live_models
  theirs = live_models.qwen2_vl(tmp_path)
  model = jaxret.load_generator(tmp_path, resolution=tiny.RESOLUTION)
  found = jaxret.answer(ITEMS, QUESTION, CHOICES, model, alpha=0.7,
                        length_normalized=length_normalized,
                        show_progress=False)
  reduced = np.mean if length_normalized else np.sum
  for n, item in enumerate(ITEMS):
    prompt = model.reader(types.Item(
        'x', QUESTION, item.get('image'), item.get('video')), True)
    for c, choice in enumerate(CHOICES):
      ids = model.reader.suffix(f'{choice}<|im_end|>', 'x')
      wanted = []
      for masked in (False, True):
        value = log_softmax(theirs, prompt, ids, masked)
        wanted.append(reduced(value[
            np.arange(len(ids)) + len(prompt.tokens) - 1, ids]))
      np.testing.assert_allclose(
          [found.likelihood[n, c], found.prior[n, c]], wanted, atol=1e-4)
      np.testing.assert_allclose(
          found.scores[n, c], wanted[0] - 0.7 * wanted[1], atol=1e-4)
  assert np.abs(found.likelihood - found.prior).max() > 1e-2
