"""LECCR: cross-lingual retrieval of images and videos with descriptions.

Source: arXiv 2409.19961 and the authors' code. Where that departs from the
paper, `losses.leccr.PRESETS` holds both forms.
"""
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxret import sharding
from jaxret.losses import leccr as losses
from jaxret.methods import base
from jaxret.methods.leccr import examples as examples_lib
from jaxret.models import (
  augment,
  bert,
  clip,
  encoder,
  encoder_names,
  pretrained,
)
from jaxret.models import leccr as leccr_lib


def recipe(config):
  """The Recipe of `config.recipe`: its preset, less what is set beside it."""
  section = config.recipe
  if section.preset not in losses.PRESETS:
    raise ValueError(f'recipe.preset {section.preset!r} is not known; want one '
                     f'of {", ".join(losses.PRESETS)}')
  chosen, preset = {}, losses.PRESETS[section.preset]
  for field in dataclasses.fields(losses.Recipe):
    value = section.get(field.name, '')
    known = [getattr(one, field.name) for one in losses.PRESETS.values()]
    if value and value not in known:
      raise ValueError(f'recipe.{field.name} {value!r} is not known; want one '
                       f"of {', '.join(known)}, or '' for the preset's")
    chosen[field.name] = value or getattr(preset, field.name)
  return losses.Recipe(**chosen)


def model_config(config, tokenizer):
  """The LeccrConfig of `config.model`; checkpoints' own sizes come first."""
  m = config.model
  numerics = {'dtype': m.dtype, 'param_dtype': m.param_dtype,
              'remat': m.remat, 'attention': m.get('attention', 'xla')}
  if m.text_pretrained:
    text = bert.open_bert(m.text_pretrained, **numerics)[1]
  else:
    t = m.text
    text = bert.BertConfig(
        encoder.EncoderConfig(t.width, t.mlp_width, t.layers, t.heads,
                              dropout=m.dropout, **numerics),
        tokenizer.vocab_size, t.max_tokens)
  vision, visual_width = None, m.visual_width
  if not m.frame_layers and m.vision_pretrained:
    sizes = clip.open_clip(m.vision_pretrained, m.image_px, **numerics)[2]
    vision, visual_width = sizes.vision, sizes.embedding_width
  elif not m.frame_layers:
    v = m.vision
    vision = clip.ClipVisionConfig(
        encoder.EncoderConfig(v.width, v.mlp_width, v.layers, v.heads,
                              'quick_gelu', **numerics),
        m.image_px, v.patch_px)
  return leccr_lib.LeccrConfig(
      text, vision, visual_width, m.embedding_width, m.slots,
      m.reader_layers, m.interaction_layers, m.frame_layers,
      recipe(config).query_init, m.temperature, m.dropout, m.dtype,
      m.param_dtype, numerics['attention'])


def method_config(config):
  """The fields of a config that `method` reads, and no others."""
  return ConfigDict({
      'model': config.model.to_dict(), 'recipe': config.recipe.to_dict(),
      'loss': {'softened_alpha': config.loss.softened_alpha},
      'data': {'augment': config.data.augment,
               'tokens': config.data.get('tokens', ConfigDict()).to_dict()}})


def method(config, tokenizer, sizes=None):
  """The Method of `config`, or of its `method_config`, or of other sizes.

  tokenizer: as load_text_encoder_tokenizer gives it. `examples` takes a
  ParallelSplit, its Visuals and `loss_weights`, which are inputs of a step:
  models that differ in these or in their data share what is compiled.
  """
  sizes = sizes or model_config(config, tokenizer)
  module = leccr_lib.Leccr(sizes)
  m = config.model
  init_all = functools.partial(init, module)
  load = None
  if m.text_pretrained or (sizes.vision and m.vision_pretrained):
    load = functools.partial(
        _load, init_all, m.text_pretrained,
        m.vision_pretrained if sizes.vision else '')
  return base.Method(
      name='leccr', init=init_all, load=load,
      loss=functools.partial(
          loss, module, recipe(config), config.loss.softened_alpha,
          config.recipe.gpus, config.data.augment),
      examples=functools.partial(
          examples_lib.ParallelExamples, tokenizer.encode,
          tokens=dict(config.data.get('tokens', {}))),
      trainable=('.*',),
      train_flops=functools.partial(leccr_lib.train_flops, sizes),
      tokens=lambda batch: sum(
          int(batch[name].sum()) for name in batch if name.endswith('_length')))


def init(module, key):
  """Random parameters; the layers of a stack of slots start equal."""
  c = module.config
  if c.vision is None:
    visual, mask = jnp.zeros((1, 1, c.visual_width)), jnp.ones((1, 1), bool)
  else:
    px = c.vision.image_px
    visual, mask = jnp.zeros((1, px, px, 3), jnp.uint8), None
  tokens, seen = jnp.zeros((2, 1), jnp.int32), jnp.ones((2, 1), bool)
  params = module.init(key, visual, mask, tokens, seen, tokens[:1], seen[:1])
  return {'params': leccr_lib.share_first_layers(params['params'])}


def loss_weights(section):
  """{name: float32 []} of the weights in a config's section `loss`."""
  return {name: np.float32(value) for name, value in section.items()
          if name.endswith('_weight')}


def inputs(batch):
  """What `Leccr` is called with, from a batch of ParallelExamples."""
  captions = [jnp.concatenate(pair) for pair in zip(
      tokens_of(batch, 'source'), tokens_of(batch, 'target'))]
  return (batch['visual'], frame_mask(batch), *captions,
          *tokens_of(batch, 'description'))


def tokens_of(batch, name):
  """(int [B, T], their mask bool [B, T]), or Nones if the batch has none."""
  if name not in batch:
    return None, None
  rows = batch[name]
  return rows, jnp.arange(rows.shape[1]) < batch[f'{name}_length'][:, None]


def frame_mask(batch):
  """bool [B, F] of frame features, None for images."""
  if 'n_frames' not in batch:
    return None
  return jnp.arange(batch['visual'].shape[1]) < batch['n_frames'][:, None]


def loss(module, recipe, softened_alpha, gpus, augmented, params, constants,
         batch, key):
  """The weighted sum of all terms (spec §4); see base.Method.

  constants: `loss_weights`. batch: of ParallelExamples.
  """
  rngs = None
  if key is not None:
    rngs = {'dropout': jax.random.fold_in(key, 0)}
    if augmented and 'n_frames' not in batch:
      batch = {**batch, 'visual': augment.random_crops(
          jax.random.fold_in(key, 1), batch['visual'])}
  features = module.apply(params, *inputs(batch), rngs=rngs)
  parts = losses.terms(features, recipe, batch['visual_index'],
                       frame_mask(batch), softened_alpha, gpus)
  return losses.total(parts, constants), {
      **{f'{name}_loss': jnp.mean(value) for name, value in parts.items()},
      'temperature': features.temperature}


def _load(init_all, text, vision, key, mesh):
  """Pretrained encoders on the mesh; what they lack starts at random."""
  abstract = jax.eval_shape(init_all, key)
  shardings = sharding.shardings(mesh, abstract)
  params = jax.jit(init_all, out_shardings=shardings)(key)['params']
  def part(*roots):
    return ({root: abstract['params'][root] for root in roots},
            {root: shardings['params'][root] for root in roots})
  if text:
    encoder_params, _ = pretrained.load(
        bert.open_bert(text)[0], encoder_names.BERT, *part('text_encoder'))
    params.update(encoder_params)
  if vision:
    checkpoint, table, _ = clip.open_clip(vision)
    tower, _ = clip.load(checkpoint, table, *part('vision', 'vision_head'))
    params.update(tower)
  return {'params': params}
