"""CLIP as an embedder: texts, pixels, both towers, unit vectors."""
import json

import numpy as np
import pytest

from jaxret.models import clip
from jaxret.models.dual_encoder import model as model_lib
from tests.parity import dual_encoder_reference as reference


@pytest.fixture(scope='module')
def cases(clip_golden):
  return reference.cases(clip_golden).values()


def test_clip_tokens(clip_golden, cases):
  for case in cases:
    batch = reference.batch(case.model, case.said['texts'])
    for row, length, want, mask in zip(
        batch['tokens'], batch['length'], case.arrays['in/input_ids'],
        case.arrays['in/attention_mask'].astype(bool)):
      np.testing.assert_array_equal(row[:length], want[mask])
    vocabulary = json.loads((
        clip_golden / case.said['model'] / 'vocab.json').read_text())
    for row, tokens in zip(batch['tokens'], case.said['tokens']):
      named = [vocabulary[token] for token in tokens[:len(row)]]
      np.testing.assert_array_equal(row[:len(named)], named)


def test_clip_pixels(cases):
  for case in cases:
    batch = reference.batch(case.model, case.images)
    module = case.config.module()
    got = np.moveaxis(module.normalized(batch['pixels'][:, 0]), -1, 1)
    reference.check(got, case.arrays['in/pixel_values'], reference.PIXELS)
    reference.check(got, case.arrays['in/pixel_values_torchvision'],
                    case.other_pixels)


@pytest.mark.slow
def test_clip_vision_hidden_states(cases):
  for case in cases:
    pixels = np.moveaxis(case.arrays['in/pixel_values'], 1, -1)
    wanted = case.arrays['out/vision_hidden_states']
    assert len(wanted) == case.config.vision.encoder.layers + 1
    for n in range(1, len(wanted)):
      config, params = reference.shortened(
          case.config.vision, case.params['vision'], n)
      hidden = clip.ClipVision(config).apply({'params': params}, pixels)
      reference.check(hidden, wanted[n], reference.HIDDEN, f'layer {n}')
    reference.check(
        hidden, case.arrays['out/vision_last_hidden'], reference.HIDDEN)
    head = case.params['vision_head']
    pooled = reference.norm(hidden[:, 0], head['norm'],
                            case.config.vision.encoder.norm_eps)
    reference.check(
        pooled, case.arrays['out/vision_pooled'], reference.HIDDEN)
    reference.check(pooled @ np.asarray(head['projection']['kernel']),
                    case.arrays['out/image_features'], reference.HIDDEN)


@pytest.mark.slow
def test_clip_text_hidden_states(cases):
  """Behind the end they depend on the mask, which the golden rows have."""
  for case in cases:
    tokens = case.arrays['in/input_ids']
    mask = case.arrays['in/attention_mask'].astype(bool)
    wanted = case.arrays['out/text_hidden_states']
    text = case.params['clip_text']
    for n in range(1, len(wanted)):
      config, params = reference.shortened(case.config.text, text, n)
      hidden = np.asarray(model_lib.ClipText(config).apply(
          {'params': params}, tokens, mask))
      reference.check(hidden[mask], reference.norm(
          wanted[n], text['final_norm'], config.encoder.norm_eps)[mask],
                      reference.HIDDEN, f'layer {n}')
    reference.check(hidden[mask], case.arrays['out/text_last_hidden'][mask],
                    reference.HIDDEN)
    at = np.arange(len(tokens)), case.said['pooled_position']
    reference.check(hidden[at], case.arrays['out/text_pooled'],
                    reference.HIDDEN)


@pytest.mark.slow
def test_clip_texts_padded_to_any_length(cases):
  for case in cases:
    module = case.config.module()
    for key in ('input_ids', 'input_ids_max_length'):
      tokens = case.arrays[f'in/{key}']
      mask = case.arrays[f'in/{key}'.replace('input_ids', 'attention_mask')]
      length = mask.sum(1)
      features = module.apply(case.model.params, tokens, length,
                              method='texts')
      reference.check(
          features, case.arrays['out/text_features'], reference.HIDDEN, key)
      for name in (name for name in case.arrays
                   if name.startswith('out/text_embeds')):
        reference.check(model_lib.unit(features), case.arrays[name],
                        reference.EMBEDDING, f'{key} {name}')


def test_clip_embeddings_and_logits(clip_golden, cases):
  for case in cases:
    reference.check_logits(clip_golden, case)
