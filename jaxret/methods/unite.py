"""UNITE: one embedder for text, images, videos and mixtures of them.

Source: arXiv 2505.19650 and the authors' code; what differs is named in
losses.modal_contrastive, data.inputs and data.qwen2_vl.
"""
import functools

import jax
import jax.numpy as jnp

from jaxret import losses, sharding
from jaxret.data import embedding_sets, pair_examples, qwen2_vl, unite_prompts
from jaxret.data import inputs as inputs_lib
from jaxret.methods import base
from jaxret.models import decoder as decoder_lib
from jaxret.models import lora as lora_lib
from jaxret.models import qwen2_vl as model_lib
from jaxret.models import qwen2_vl_files as files
from jaxret.models import qwen2_vl_vision as vision_lib

VISION_SIZES = ('width', 'layers', 'heads', 'mlp_width')
DECODER_SIZES = ('width', 'mlp_width', 'layers', 'heads', 'kv_heads',
                 'head_width', 'rope_theta', 'rope_sections', 'norm_eps',
                 'tie_embeddings')


def model_config(config, tokenizer):
  """The Qwen2VlConfig of a config; a checkpoint's own sizes come first."""
  m, lora = config.model, config.model.lora
  shared = {'dtype': m.dtype, 'param_dtype': m.param_dtype, 'remat': m.remat}
  factors = {'lora_scale': lora.alpha / lora.rank if lora.rank else 1.0,
             'lora_dropout': lora.dropout}
  if m.pretrained:
    return files.read_config(
        m.pretrained, m.position_mode, **shared, **factors).config
  sizes = {name: m[name] for name in DECODER_SIZES}
  sizes['rope_sections'] = tuple(sizes['rope_sections'])
  decoder = decoder_lib.DecoderConfig(
      vocab_size=m.vocab_size or tokenizer.vocab_size, **sizes, **shared,
      **factors)
  vision = vision_lib.VisionConfig(
      out_width=m.width, **shared,
      **{name: config.vision[name] for name in VISION_SIZES})
  return model_lib.Qwen2VlConfig(decoder, vision, m.position_mode)


def resolution(config):
  """The qwen2_vl.Resolution of a config's `media` section."""
  return qwen2_vl.Resolution(**{
      name: tuple(value) if isinstance(value, (tuple, list)) else value
      for name, value in config.media.items()})


def reader(config, tokenizer, cache_bytes=0):
  """What turns Items into tokens and patches, as `config` has them."""
  return inputs_lib.Reader(
      tokenizer, resolution(config), config.data.max_tokens,
      cache_bytes=cache_bytes, mrope=config.model.position_mode == 'mrope')


def method(config, tokenizer):
  """The Method of `config`; `tokenizer` as data.text.load_tokenizer returns."""
  model, lora = model_config(config, tokenizer), config.model.lora
  init_all = functools.partial(init, model, lora.targets, lora.rank)
  load = None
  if config.model.pretrained:
    load = functools.partial(_load, init_all, model, config.model.pretrained)
  contrast = functools.partial(embedding_loss, config.loss)
  return base.Method(
      name='unite', init=init_all, load=load,
      loss=functools.partial(loss, model, contrast),
      examples=functools.partial(examples, config, tokenizer),
      trainable=tuple(config.model.trainable),
      train_flops=lambda batch: model_lib.train_flops(
          model, bool(lora.rank), _sides(batch).values()),
      tokens=lambda batch: int(sum(
          rows['length'].sum() for rows in _sides(batch).values())),
      embed=functools.partial(embed_pairs, model),
      embedding_loss=contrast)


def init(model, targets, rank, key):
  """Random parameters: the whole model, and LoRA factors if rank > 0."""
  base_key, lora_key = jax.random.split(key)
  params = model_lib.init(model, base_key)
  if rank:
    params['lora'] = lora_lib.init(lora_key, params['params'], targets, rank)
  return params


def merged(config, params):
  """{'params': ...} with what LoRA trained folded in: where stage 2 starts."""
  if 'lora' not in params:
    return params
  factors = config.model.lora
  return {'params': jax.jit(functools.partial(
      lora_lib.merge, scale=factors.alpha / factors.rank))(
          params['params'], params['lora'])}


def examples(config, tokenizer, pairs, shapes=None, its_reader=None):
  """pair_examples.PairExamples of training pairs.

  pairs: sequence of things with query, candidate, target_modality, negative.
  its_reader: a `reader` whose cache several examples share.
  """
  return pair_examples.PairExamples(
      its_reader or reader(config, tokenizer), pairs, shapes)


def embed(model, params, batch, key=None):
  """Unit vectors float32 [B, D] of a batch as data.inputs.pad gives it.

  Without a key there is no dropout.
  """
  rngs = None if key is None else {'dropout': key}
  return model.module().apply(params, batch, rngs=rngs)


def embed_pairs(model, params, constants, batch, key):
  """{'query', 'candidate'[, 'negative']: [B, D]}; see base.Method."""
  del constants
  embeddings = {}
  for number, (side, rows) in enumerate(_sides(batch).items()):
    own = None if key is None else jax.random.fold_in(key, number)
    embeddings[side] = embed(model, params, rows, own)
  return embeddings


def embedding_loss(settings, embeddings, batch):
  """MAMCL of embeddings [B, D] of the whole batch; see base.Method.

  settings: temperature, dual, modality_mask, multi_positive, released; see
  losses.modal_contrastive.
  """
  query, candidate = embeddings['query'], embeddings['candidate']
  value = losses.modal_contrastive(
      query, candidate, settings.temperature,
      batch['modality'] if settings.modality_mask else None,
      embeddings.get('negative'),
      batch['positive'] if settings.multi_positive else None,
      settings.dual, settings.released)
  best = jnp.argmax(query @ candidate.T, 1)
  right = batch['positive'][best] == batch['positive']
  return value, {'accuracy': jnp.mean(right.astype(jnp.float32))}


def loss(model, contrast, params, constants, batch, key):
  """The same in one pass; see base.Method."""
  return contrast(embed_pairs(model, params, constants, batch, key), batch)


def _sides(batch):
  """{side: its arrays} of a batch of pairs."""
  sides = {side: {name.removeprefix(f'{side}_'): array
                  for name, array in batch.items()
                  if name.startswith(f'{side}_')}
           for side in pair_examples.SIDES}
  return {side: rows for side, rows in sides.items() if rows}


def _load(init_all, model, directory, key, mesh):
  """Pretrained parameters on the mesh, LoRA factors at random."""
  params = files.load(directory, model, mesh)
  abstract = jax.eval_shape(init_all, key)
  if 'lora' in abstract:
    places = sharding.shardings(mesh, abstract)['lora']
    params['lora'] = jax.jit(
        lambda key: init_all(key)['lora'], out_shardings=places)(key)
  return params


def fingerprint(config):
  """What embeddings depend on besides weights, items and prompts."""
  return {'max_tokens': config.data.max_tokens,
          'position_mode': config.model.position_mode,
          'media': str(resolution(config))}


def tokenizer_options():
  """What a tokenizer must know besides captions."""
  names = tuple(unite_prompts.CODES)
  orders = [(name,) for name in names] + [('image', 'text'), ('video', 'text')]
  return {'control_tokens': unite_prompts.CONTROL_TOKENS, 'prompts': [
      unite_prompts.summary_prompt('', order) for order in orders]}


def check(config):
  """Raises ValueError for fields of the loss that have no effect."""
  if config.loss.modality_mask and config.pairs.per_source:
    raise ValueError(
        'loss.modality_mask has nothing to mask in batches of one source '
        'each: set pairs.per_source=False')


EMBEDS = base.Embeds(
    ('stage1',), ('plain',), model_config, reader, merged, fingerprint,
    tokenizer_options, embedding_sets.training_pairs, embedding_sets.evaluated,
    check)
