"""UNITE: one embedder for text, images, videos and mixtures of them.

Source: arXiv 2505.19650 and the authors' code; what differs is named in
losses.modal_contrastive, data.qwen2_vl.reader and data.qwen2_vl.
"""
import functools

import jax
import jax.numpy as jnp

from jaxret import losses
from jaxret.data import pair_examples
from jaxret.data.qwen2_vl import prompts as unite_prompts
from jaxret.methods import base, embedding_losses, evaluated
from jaxret.methods.unite import backbones
from jaxret.methods.unite import sets as embedding_sets
from jaxret.models import decoder as decoder_lib
from jaxret.models.qwen2_vl import model as model_lib
from jaxret.models.qwen2_vl import vision as vision_lib

VISION_SIZES = ('width', 'layers', 'heads', 'mlp_width')
DECODER_SIZES = ('width', 'mlp_width', 'layers', 'heads', 'kv_heads',
                 'head_width', 'rope_theta', 'rope_sections', 'norm_eps',
                 'tie_embeddings')


def model_config(config, tokenizer):
  """The sizes of a config's model; those of a checkpoint come first.

  A Qwen2VlConfig, or what else backbones.read gives, which is trained alike.
  """
  m, factors = config.model, base.lora_fields(config.model.lora)
  shared = {'dtype': m.dtype, 'param_dtype': m.param_dtype, 'remat': m.remat,
            'attention': m.get('attention', 'xla')}
  if m.pretrained:
    return backbones.read(config, **shared, **factors)
  sizes = {name: m[name] for name in DECODER_SIZES}
  sizes['rope_sections'] = tuple(sizes['rope_sections'])
  decoder = decoder_lib.DecoderConfig(
      vocab_size=m.vocab_size or tokenizer.vocab_size, **sizes, **shared,
      **factors)
  vision = vision_lib.VisionConfig(
      out_width=m.width, **shared,
      **{name: config.vision[name] for name in VISION_SIZES})
  return model_lib.Qwen2VlConfig(
      decoder, vision, m.position_mode, m.get('pooling', 'last'))


def reader(config, tokenizer, cache_bytes=0):
  """What turns Items into tokens and patches, as `config` has them."""
  return backbones.open_reader(
      config, model_config(config, tokenizer), tokenizer, cache_bytes)


def method(config, tokenizer):
  """The Method of `config`; `tokenizer` as data.text.load_tokenizer returns."""
  model, lora = model_config(config, tokenizer), config.model.lora
  embedding_losses.check(config, model.width)
  init_all = functools.partial(
      base.init, functools.partial(backbones.init, model), lora.targets,
      lora.rank)
  load = None
  if config.model.pretrained:
    load = functools.partial(_load, init_all, model, config.model.pretrained)
  contrast = functools.partial(embedding_loss, config.loss)
  return base.Method(
      name='unite', init=init_all, load=load,
      loss=functools.partial(loss, model, contrast),
      examples=examples,
      trainable=tuple(config.model.trainable),
      train_flops=lambda batch: model_lib.train_flops(
          model, bool(lora.rank), pair_examples.sides(batch).values()),
      tokens=lambda batch: int(sum(
          rows['length'].sum() for rows in
          pair_examples.sides(batch).values())),
      embed=functools.partial(embed_pairs, model),
      embedding_loss=contrast)


def examples(pairs, reader, shapes=None):
  """pair_examples.PairExamples of training pairs; see base.Method."""
  return pair_examples.PairExamples(reader, pairs, shapes)


def embed(model, params, batch, key=None):
  """Unit vectors float32 [B, D] of a batch as qwen2_vl.reader.pad gives it.

  Without a key there is no dropout.
  """
  rngs = None if key is None else {'dropout': key}
  return model.module().apply(params, batch, rngs=rngs)


def embed_pairs(model, params, constants, batch, key):
  """{'query', 'candidate'[, 'negative']: [B, D]}; see base.Method.

  Of several negatives [B, N, D]; they pass through the model together.
  """
  del constants
  embeddings, groups, sides = {}, {}, pair_examples.sides(batch)
  for side in sorted(sides, key=pair_examples.number):
    groups.setdefault(pair_examples.kind(side), []).append(sides[side])
  for number, side in enumerate(pair_examples.SIDES):
    if side in groups:
      count = len(groups[side])
      rows = jax.tree.map(lambda *arrays: jnp.stack(arrays, 1).reshape(
          -1, *arrays[0].shape[1:]), *groups[side])
      side_key = None if key is None else jax.random.fold_in(key, number)
      vectors = embed(model, params, rows, side_key)
      embeddings[side] = vectors if count == 1 else vectors.reshape(
          -1, count, vectors.shape[-1])
  return embeddings


def embedding_loss(settings, embeddings, batch):
  """MAMCL of embeddings [B, D] of the whole batch; see base.Method.

  settings: temperature, dual, modality_mask, multi_positive, released, see
  losses.modal_contrastive; and those of methods.embedding_losses.
  """
  def contrast(embeddings, margin):
    return losses.modal_contrastive(
        embeddings['query'], embeddings['candidate'], settings.temperature,
        batch['modality'] if settings.modality_mask else None,
        embeddings.get('negative'),
        batch['positive'] if settings.multi_positive else None,
        settings.dual, settings.released, margin, batch.get('document'),
        batch.get('negative_id'))
  query, candidate = embeddings['query'], embeddings['candidate']
  value = embedding_losses.total(settings, contrast, embeddings, batch)
  best = jnp.argmax(query @ candidate.T, 1)
  right = batch['positive'][best] == batch['positive']
  return value, {'accuracy': jnp.mean(right.astype(jnp.float32))}


def loss(model, contrast, params, constants, batch, key):
  """The same in one pass; see base.Method."""
  return contrast(embed_pairs(model, params, constants, batch, key), batch)


def _load(init_all, model, directory, key, mesh):
  """Pretrained parameters on the mesh, LoRA factors at random."""
  return base.add_lora(
      init_all, backbones.load(directory, model, mesh), key, mesh)


def fingerprint(config):
  """What embeddings depend on besides weights, items and prompts."""
  # What is stored on work directories without these fields has the defaults.
  more = {name: config.model[name] for name, default in (
      ('prompt', ''), ('pooling', 'last'))
          if config.model.get(name, default) != default}
  return {'max_tokens': config.data.max_tokens,
          'position_mode': config.model.position_mode,
          'media': str(backbones.resolution(config)), **more,
          **base.media_fingerprint(config)}


def tokenizer_options():
  """What a tokenizer must know besides captions."""
  names = tuple(unite_prompts.CODES)
  orders = [(name,) for name in names] + [('image', 'text'), ('video', 'text')]
  return {'control_tokens': unite_prompts.CONTROL_TOKENS, 'prompts': [
      unite_prompts.summary_prompt('', order) for order in orders]}


def check(config):
  """Raises ValueError for fields that have no effect, or no meaning."""
  backbones.template(config)
  embedding_losses.check(
      config, None if config.model.pretrained else config.model.width)
  if config.loss.modality_mask and config.pairs.per_source:
    raise ValueError(
        'loss.modality_mask has nothing to mask in batches of one source '
        'each: set pairs.per_source=False')


EMBEDS = base.Embeds(
    ('stage1', 'coarse'), ('plain', 'one_stage', 'video_text', 'image_text',
                           'text_text', 'fine_after'),
    model_config, reader, fingerprint,
    tokenizer_options, embedding_sets.training_pairs, evaluated.evaluated,
    check)
