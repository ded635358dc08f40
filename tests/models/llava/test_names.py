"""The tables of LLaVA-NeXT and MM-Embed name every parameter once."""
import functools

import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.models import clip, decoder, encoder, layouts, pretrained
from jaxret.models.llava import latent_attention, mm_embed
from jaxret.models.llava import model as llava_next
from jaxret.models.llava import names as llava_names

DECODER = decoder.DecoderConfig(20, 16, 24, 2, 4, 2, 4, qkv_bias=False)
VISION = clip.ClipVisionConfig(
    encoder.EncoderConfig(12, 20, 2, 3, 'quick_gelu'), 8, 4)
LATENT = latent_attention.LatentConfig(16, 6, 2, 8)


@pytest.mark.parametrize('table, make, config', [
    ('MM_EMBED', mm_embed.init,
     mm_embed.MmEmbedConfig(DECODER, VISION, LATENT)),
    ('NV_EMBED_V1', mm_embed.init,
     mm_embed.MmEmbedConfig(DECODER, None, LATENT)),
    ('LLAVA_NEXT', llava_next.init,
     llava_next.LlavaNextConfig(DECODER, VISION))])
def test_every_parameter_is_named_once(table, make, config):
  shapes = jax.eval_shape(functools.partial(make, config), jax.random.key(0))
  table = getattr(llava_names, table)
  # What no tower of ours reads is named too, so that it is not refused.
  read = [weight.path for weight in table
          if not weight.path.startswith(('unread/', 'vision_head/'))]
  assert sorted(read) == sorted(sharding.flatten(shapes['params']))
  # A tensor stands twice only where its halves are two parameters.
  sources = [(weight.key, weight.transform) for weight in table]
  assert len(set(sources)) == len(sources)
  whole = {weight.key for weight in table if 'half' not in weight.transform}
  assert len(whole) + 2 * len({
      weight.key for weight in table if 'half' in weight.transform}) == len(
          table)


def test_fused_projections_are_cut_in_the_order_of_their_rows():
  """Keys come before values, and the value of the MLP before its gate."""
  rng = np.random.default_rng(0)
  prefix = 'latent_attention_model.cross_attend_blocks'
  tensors = {f'{prefix}.0.fn.to_kv.weight': rng.normal(size=(6, 4)),
             f'{prefix}.1.fn.net.0.weight': rng.normal(size=(10, 4)),
             f'{prefix}.1.fn.net.0.bias': rng.normal(size=10)}
  table = [weight for weight in llava_names.LATENT if weight.key in tensors]
  params, _ = pretrained.load(
      pretrained.Checkpoint('tiny', tensors), tuple(table))
  latent, (fused, net, bias) = params['latent_attention'], tensors.values()
  for got, want in (
      (latent['k']['kernel'], fused[:3].T),
      (latent['v']['kernel'], fused[3:].T),
      (latent['mlp']['value']['kernel'], net[:5].T),
      (latent['mlp']['gate']['kernel'], net[5:].T),
      (latent['mlp']['value']['bias'], bias[:5]),
      (latent['mlp']['gate']['bias'], bias[5:])):
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_newer_names_are_those_of_the_table():
  """And the older ones stay as they are."""
  keys = {weight.key.format(layer=0) for weight in llava_names.LLAVA_NEXT}
  for key, want in (
      ('model.language_model.layers.0.mlp.up_proj.weight',
       'language_model.model.layers.0.mlp.up_proj.weight'),
      ('model.vision_tower.vision_model.embeddings.class_embedding',
       'vision_tower.vision_model.embeddings.class_embedding'),
      ('model.multi_modal_projector.linear_1.bias',
       'multi_modal_projector.linear_1.bias'),
      ('model.image_newline', 'image_newline'),
      ('lm_head.weight', 'language_model.lm_head.weight')):
    assert names_of([key]) == [want] and want in keys
  assert names_of(keys) == list(keys)


def names_of(keys):
  return list(layouts.fitted(layouts.Checkpoint('', dict.fromkeys(keys)),
                             llava_names.LLAVA_NEXT).tensors)
