"""MM-Embed: a universal bi-encoder for text, images and both, instructed.

Source: arXiv 2411.02571 and the released model. Its training was described, not
released; what was left open is a field of configs/mm_embed.py.
"""
import functools

import jax
import jax.numpy as jnp

from jaxret import losses
from jaxret.data import pair_examples
from jaxret.data.llava import prompts as mm_embed_prompts
from jaxret.data.llava import question_prompts as rerank_prompts
from jaxret.data.llava import reader as mm_embed_inputs
from jaxret.data.shapes import mixed as shapes_mixed
from jaxret.methods import base, embedding_losses
from jaxret.methods.mm_embed import examples as mixed_examples
from jaxret.methods.mm_embed import sets as mixed_sets
from jaxret.models import clip, encoder
from jaxret.models import decoder as decoder_lib
from jaxret.models.llava import latent_attention
from jaxret.models.llava import mm_embed as model_lib
from jaxret.models.llava import mm_embed_files as files
from jaxret.models.llava import model as llava_next
from jaxret.models.llava import names as mm_embed_names
from jaxret.scoring.embeddings import rerank

DECODER_SIZES = ('width', 'mlp_width', 'layers', 'heads', 'kv_heads',
                 'head_width', 'rope_theta', 'norm_eps', 'tie_embeddings')
RERANK_MODES = (*rerank.MODES, 'chosen')


def model_config(config, tokenizer):
  """The MmEmbedConfig of a config; a checkpoint's own sizes come first."""
  m, factors = config.model, base.lora_fields(config.model.lora)
  shared = {'dtype': m.dtype, 'param_dtype': m.param_dtype, 'remat': m.remat,
            'attention': m.get('attention', 'xla')}
  stated = {'rope_theta': m.rope_theta or None, **shared, **factors}
  if m.llava:
    return files.read_start_config(m.llava, m.pretrained, **stated).config
  if m.pretrained:
    return files.read_config(
        m.pretrained, m.retriever or None, **stated).config
  numerics = {name: shared[name] for name in ('dtype', 'param_dtype')}
  return model_lib.MmEmbedConfig(
      decoder_lib.DecoderConfig(
          vocab_size=m.vocab_size or tokenizer.vocab_size, qkv_bias=False,
          **{name: m[name] for name in DECODER_SIZES}, **shared, **factors),
      clip.ClipVisionConfig(
          encoder.EncoderConfig(**config.vision.encoder, **shared),
          config.vision.image_px, config.vision.patch_px),
      latent_attention.LatentConfig(m.width, **config.latent, **numerics))


def reader(config, tokenizer, cache_bytes=0):
  """What turns Items into tokens and pixels, as `config` has them."""
  return mm_embed_inputs.open_reader(
      model_config(config, tokenizer), tokenizer, config.data.max_tokens,
      cache_bytes, alpha=base.alpha(config))


def method(config, tokenizer):
  """The Method of `config`; `tokenizer` as data.text.load_tokenizer returns."""
  model, lora = model_config(config, tokenizer), config.model.lora
  embedding_losses.check(config, model.width)
  init_all = functools.partial(
      base.init, functools.partial(model_lib.init, model), lora.targets,
      lora.rank)
  load = None
  if config.model.pretrained:
    load = functools.partial(_load, init_all, model, config.model)
  contrast = functools.partial(embedding_loss, config.loss)
  return base.Method(
      name='mm_embed', init=init_all, load=load,
      loss=lambda *inputs: contrast(embed_pairs(model, *inputs), inputs[2]),
      examples=functools.partial(examples, config),
      trainable=tuple(config.model.trainable),
      train_flops=functools.partial(train_flops, model, bool(lora.rank)),
      tokens=lambda batch: int(sum(rows['length'].sum() for rows in
                                   pair_examples.sides(batch).values())),
      embed=functools.partial(embed_pairs, model), embedding_loss=contrast)


def examples(config, pairs, reader, shapes=None):
  """mixed_examples.Examples; data.candidate_shape is that of documents."""
  if shapes and config.data.candidate_shape:
    document = tuple(config.data.candidate_shape)
    shapes = {side: shapes[side] if side == 'query' else document
              for side in pair_examples.SIDES}
  return mixed_examples.Examples(reader, pairs, shapes)


def embed_pairs(model, params, constants, batch, key):
  """{'query', 'candidate'[, 'negative']: float32 [B, D]}; see base.Method.

  Of several negatives [B, N, D]. Sides of one shape pass through the model
  together, which compiles once.
  """
  del constants
  groups = {}
  for side, rows in pair_examples.sides(batch).items():
    shape = tuple(sorted((name, array.shape) for name, array in rows.items()))
    groups.setdefault(shape, {})[side] = rows
  embeddings = {}
  for number, group in enumerate(groups.values()):
    rows = jax.tree.map(lambda *arrays: jnp.stack(arrays, 1).reshape(
        -1, *arrays[0].shape[1:]), *group.values())
    side_key = None if key is None else jax.random.fold_in(key, number)
    vectors = model_lib.embed(model, params, rows, side_key)
    vectors = vectors.reshape(-1, len(group), vectors.shape[-1])
    embeddings |= {side: vectors[:, i] for i, side in enumerate(group)}
  return embedding_losses.stacked_negatives(embeddings)


def embedding_loss(settings, embeddings, batch):
  """InfoNCE of embeddings of the whole batch (spec §2); see base.Method."""
  ids, negative_ids = batch['positive'], batch.get('negative_id')
  def contrast(embeddings, margin):
    return losses.one_way_info_nce(
        embeddings['query'], embeddings['candidate'], settings.temperature,
        embeddings.get('negative'),
        *((ids, negative_ids) if settings.mask_duplicates else (None, None)),
        margin)
  query, candidate = embeddings['query'], embeddings['candidate']
  value = embedding_losses.total(settings, contrast, embeddings, batch)
  best = jnp.argmax(query @ candidate.T, 1)
  return value, {'accuracy': jnp.mean((ids[best] == ids).astype(jnp.float32))}


def train_flops(model, frozen_base, batch):
  """Minimal model FLOPs of a step; the tower is frozen where LoRA trains."""
  seen, read = 0.0, 0.0
  for rows in pair_examples.sides(batch).values():
    read += sum(model_lib.flops(model, int(n)) for n in rows['length'])
    if 'visual_index' in rows:
      n_images = (rows['visual_index'] >= 0).any(1).sum()
      seen += n_images * llava_next.image_flops(model)
  return seen + 2 * read if frozen_base else 3 * (seen + read)


def _load(init_all, model, names, key, mesh):
  """Pretrained parameters on the mesh, LoRA factors at random."""
  params = (files.load_start(names.llava, names.pretrained, model, mesh)
            if names.llava else files.load(names.pretrained, model, mesh))
  return base.add_lora(init_all, params, key, mesh)


def tokenizer_options():
  """What a tokenizer must know besides the texts of shapes world."""
  return {'control_tokens': mm_embed_prompts.CONTROL_TOKENS, 'prompts': [
      *mm_embed_prompts.PROMPTS, *sum(shapes_mixed.INSTRUCTIONS.values(), ()),
      *rerank_prompts.TOKENIZER_TEXTS]}


def check(config):
  """Raises ValueError for a loss that is none, or a reranker without head."""
  embedding_losses.check(
      config, None if config.model.pretrained else config.model.width)
  m, settings = config.model, config.rerank
  if config.mine.get('teacher', False) and not (
      settings.pretrained or config.init_from):
    raise ValueError('mine.teacher wants a reranker that is trained: set '
                     'rerank.pretrained, or init_from, a run that has one')
  _check_mode(settings)
  if settings.tasks and not settings.pretrained and (
      m.pretrained or not m.tie_embeddings):
    raise ValueError(
        'rerank.tasks wants a reranker, and rerank.pretrained names none: the '
        "one that is trained here answers by the embedder's own embeddings, "
        'which published weights do not tie: set model.tie_embeddings=True '
        'for a model of your own, or rerank.pretrained')


def _check_mode(settings):
  """Raises ValueError for a way of reranking that there is not."""
  if settings.mode not in RERANK_MODES:
    raise ValueError(f'rerank.mode is {settings.mode!r}: use one of '
                     f'{", ".join(RERANK_MODES)}')
  if settings.mode == 'chosen' and 0 not in settings.weights:
    raise ValueError(
        f'rerank.weights are {tuple(settings.weights)}: name 0, too, which a '
        'reranker that is no help must get')


EMBEDS = base.Embeds(
    stages=('start', 'random', 'hard'),
    compared=('any_modality', 'right_modality', 'random_mined'),
    model=model_config,
    reader=reader, fingerprint=lambda config: {
        'max_tokens': config.data.max_tokens, **base.media_fingerprint(config)},
    tokenizer_options=tokenizer_options,
    training_pairs=mixed_sets.training_pairs, evaluated=mixed_sets.evaluated,
    check=check, served=model_lib.fold,
    weight_names=lambda model: mm_embed_names.MM_EMBED)
