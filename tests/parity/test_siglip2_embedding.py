"""SigLIP 2 as an embedder, of square images and of any shape (naflex)."""
import jax
import numpy as np
import pytest

from jaxret.models.dual_encoder import model as model_lib
from jaxret.models.videochat import vision as vision_lib
from tests.parity import dual_encoder_reference as reference


@pytest.fixture(scope='module')
def cases(siglip2_golden):
  return reference.cases(siglip2_golden).values()


def golden_patches(case):
  """(float [B, P, V], grids or None) of the golden pixels."""
  pixels = case.arrays['in/pixel_values']
  if 'in/spatial_shapes' in case.arrays:
    return pixels, case.arrays['in/spatial_shapes']
  vision = case.config.vision
  side = vision.grid * vision.patch_px
  pixels = np.moveaxis(pixels, 1, -1)[:, None, :side, :side]
  return vision_lib.patches(pixels, vision.patch_px), None


def test_siglip2_tokens(cases):
  for case in cases:
    batch = reference.batch(case.model, case.said['texts'])
    np.testing.assert_array_equal(
        batch['tokens'], case.arrays['in/input_ids'])
    assert batch['tokens'].shape[1] == case.config.text.max_tokens


def test_siglip2_pixels(cases):
  for case in cases:
    batch = reference.batch(case.model, case.images)
    got = case.config.module().normalized(batch['pixels'][:, 0])
    real = np.ones(got.shape[:2], bool)
    wanted = [case.arrays[f'in/{name}'] for name in (
        'pixel_values', 'pixel_values_torchvision')]
    if 'grids' in batch:
      np.testing.assert_array_equal(
          batch['grids'], case.arrays['in/spatial_shapes'])
      real = case.arrays['in/pixel_attention_mask'].astype(bool)
      np.testing.assert_array_equal(real, model_lib.real_patches(
          batch['grids'], got.shape[1]))
    else:
      wanted = [np.moveaxis(one, 1, -1) for one in wanted]
    for want, atol in zip(wanted, (reference.PIXELS, case.other_pixels)):
      reference.check(np.asarray(got)[real], want[real], atol)


@pytest.mark.slow
def test_siglip2_vision_hidden_states(cases):
  for case in cases:
    patches, grids = golden_patches(case)
    vision, head = case.params['vision'], case.params['vision_head']
    wanted = case.arrays.get('out/vision_hidden_states', ())
    real, mask = np.ones(patches.shape[:2], bool), None
    if grids is not None:
      mask = model_lib.real_patches(grids, patches.shape[1])
      real = np.asarray(mask)
    for n in range(1, len(wanted)):
      config, params = reference.shortened(case.config.vision, vision, n)
      hidden = model_lib.SiglipVision(config).apply(
          {'params': params}, patches, grids)
      reference.check(hidden, reference.norm(
          wanted[n], vision['final_norm'], config.encoder.norm_eps),
                      reference.HIDDEN, f'layer {n}')
    hidden = model_lib.SiglipVision(case.config.vision).apply(
        {'params': vision}, patches, grids)
    reference.check(
        np.asarray(hidden)[real], case.arrays['out/vision_last_hidden'][real],
        reference.HIDDEN)
    pooled = model_lib.SiglipHead(case.config.vision.encoder).apply(
        {'params': head}, hidden, mask)
    reference.check(
        pooled, case.arrays['out/vision_pooled'], reference.HIDDEN)


def test_siglip2_positions_of_other_grids(cases):
  checked = 0
  for case in cases:
    if 'out/vision_embeddings' not in case.arrays:
      continue
    patches, grids = golden_patches(case)
    vision = case.params['vision']
    found = patches @ np.asarray(vision['patch']['kernel']) + np.asarray(
        vision['patch']['bias']) + np.asarray(model_lib.resized_positions(
            vision['positions'], grids, patches.shape[1]))
    real = case.arrays['in/pixel_attention_mask'].astype(bool)
    reference.check(found[real], case.arrays['out/vision_embeddings'][real],
                    reference.HIDDEN)
    checked += 1
  if not checked:
    pytest.skip('these golden files hold no naflex')


@pytest.mark.slow
def test_siglip2_text_hidden_states(cases):
  for case in cases:
    text = case.params['text_encoder']
    tokens = case.arrays['in/input_ids']
    wanted = case.arrays.get('out/text_hidden_states', ())
    for n in range(1, len(wanted)):
      config, params = reference.shortened(case.config.text, text, n)
      hidden = model_lib.SiglipText(config).apply({'params': params}, tokens)
      reference.check(hidden, reference.norm(
          wanted[n], text['final_norm'], config.encoder.norm_eps),
                      reference.HIDDEN, f'layer {n}')
    if 'out/text_last_hidden' in case.arrays:
      reference.check(
          hidden, case.arrays['out/text_last_hidden'], reference.HIDDEN)
      pooled = case.config.module().apply(
          case.model.params, tokens, None, method='texts')
      reference.check(
          pooled, case.arrays['out/text_pooled'], reference.HIDDEN)


def test_siglip2_embeddings_and_logits(siglip2_golden, cases):
  for case in cases:
    logits = reference.check_logits(siglip2_golden, case)
    if 'out/probs' in case.arrays:
      reference.check(
          jax.nn.sigmoid(logits), case.arrays['out/probs'], reference.LOGITS)
