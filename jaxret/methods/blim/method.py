"""BLiM: text-video retrieval by likelihood in both directions.

Source: arXiv 2507.23284 and the authors' code; departures: docs/fidelity.md.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxret import losses, sharding
from jaxret.data import sets, types
from jaxret.methods import base
from jaxret.methods.blim import examples as examples_lib
from jaxret.methods.blim import likelihood, text_prior
from jaxret.methods.blim import prompts as prompts_lib
from jaxret.models import decoder as decoder_lib
from jaxret.models import names, pretrained
from jaxret.models.videochat import files as videochat
from jaxret.models.videochat import model as vlm_lib


def model_config(config, tokenizer):
  """The VlmConfig of `config.model`; a checkpoint's own sizes come first."""
  m = config.model
  if m.get('backbone', 'blim') != 'blim':
    raise ValueError(
        f"model.backbone is {m.backbone!r}, set model.backbone='blim' for "
        f'task {config.task!r}: of others there are train_and_evaluate and '
        'evaluate')
  sizes = {name: m[name] for name in (
      'width', 'mlp_width', 'layers', 'heads', 'kv_heads', 'head_width',
      'rope_theta', 'norm_eps', 'tie_embeddings')}
  sizes['vocab_size'] = m.vocab_size or tokenizer.vocab_size
  visual_width = m.visual_width
  if m.pretrained:
    released = videochat.read_config(m.pretrained)
    sizes.update(released['decoder'])
    visual_width = released['visual_width']
  return vlm_lib.VlmConfig(
      decoder_lib.DecoderConfig(
          **sizes, dtype=m.dtype, param_dtype=m.param_dtype, remat=m.remat,
          attention=m.get('attention', 'xla'), **base.lora_fields(m.lora)),
      visual_width, m.clips, m.tokens_per_clip)


def method(config, tokenizer):
  """The Method of `config`; `tokenizer` as data.text.load_tokenizer returns.

  Its `examples` takes (Split, Visuals that give features). Raises ValueError
  for a data set that has no instruction.
  """
  vlm = model_config(config, tokenizer)
  lora = config.model.lora
  init_all = functools.partial(init, vlm, lora.targets, lora.rank)
  prompts = prompts_lib.BlimPrompts(
      tokenizer, sets.instruction(config.data.name),
      vlm.clips * vlm.tokens_per_clip, config.data.max_caption_tokens or None)
  load = None
  if config.model.pretrained:
    load = functools.partial(_load, init_all, config.model.pretrained,
                             vlm.decoder.tie_embeddings)
  def check(texts, shape):
    prompts_lib.scored(prompts, texts)  # refuses what it cannot hold
    vlm.check_features(shape)
  return base.Method(
      name='blim', init=init_all, load=load,
      loss=functools.partial(
          loss, vlm, text_prior_share=text_prior.share(config.train)),
      examples=functools.partial(examples, prompts),
      trainable=tuple(config.model.trainable),
      train_flops=functools.partial(
          vlm_lib.train_flops, vlm, bool(lora.rank)),
      tokens=functools.partial(vlm_lib.train_tokens, vlm), check=check,
      scorer=base.Scorer(
          likelihood.likelihood_model(vlm),
          functools.partial(prompts_lib.scored, prompts), video_vocabulary,
          (vlm.clips, vlm.tokens_per_clip, vlm.visual_width)))


def init(vlm, targets, rank, key):
  """Random parameters: the whole model, and LoRA factors if rank > 0."""
  features = jnp.zeros((1, vlm.clips, vlm.tokens_per_clip, vlm.visual_width))
  tokens = jnp.full((1, vlm.clips * vlm.tokens_per_clip + 1), types.VISUAL)
  return base.init(lambda key: vlm.module().init(key, features, tokens),
                   targets, rank, key)


def examples(prompts, split, visuals):
  """Examples of a split, with its video vocabulary; see base.Method."""
  return examples_lib.BlimExamples(prompts, split, visuals, {
      'video_vocabulary': video_vocabulary(visuals)})


def video_vocabulary(visuals):
  """Token means of the raw features, float32 [V, clips, Dv] (spec §1)."""
  # In the order of the split; the authors sort by id: the same set.
  return np.stack([
      visuals[i].astype(np.float32).mean(1) for i in range(len(visuals))])


def loss(vlm, params, constants, batch, key, text_prior_share=0.0):
  """VTG + TVG, weights 1:1 (spec §3); see base.Method.

  constants: visual_prefix int [S], video_vocabulary float32 [N, clips, Dv].
  batch: as examples.BlimExamples gives it, with a leading B. text_prior_share:
  of the captions that are read without their video, see text_prior.keys.
  """
  def apply(method, *args, fold=0):
    rngs = None if key is None else {
        'dropout': jax.random.fold_in(key, fold)}
    return vlm.module().apply(params, *args, method=method, rngs=rngs)
  vtg = _vtg_loss(apply, constants['visual_prefix'], batch,
                  functools.partial(text_prior.keys, text_prior_share, key))
  tvg = _tvg_loss(apply, vlm.clips, constants['video_vocabulary'], batch)
  return vtg + tvg, {'vtg_loss': jnp.mean(vtg), 'tvg_loss': jnp.mean(tvg)}


def _vtg_loss(apply, visual_prefix, batch, keys):
  labels, length = batch['labels'], batch['label_length']
  prefix = jnp.broadcast_to(
      visual_prefix, (labels.shape[0], visual_prefix.shape[0]))
  tokens = jnp.concatenate([prefix, labels[:, :-1]], 1)
  visual = apply('visual_tokens', batch['features'], fold=0)
  x = apply('embed', tokens, visual)
  hidden = apply('hidden', x, visual_prefix.shape[0] + length - 1,
                 keys(tokens == types.VISUAL), fold=1)
  # Row S - 1, the last of the prefix, predicts the first label.
  rows = hidden[:, visual_prefix.shape[0] - 1:]
  value = losses.token_log_likelihood(
      apply('vocabulary_terms', rows, fold=2), labels)
  return losses.token_mean(
      value, decoder_lib.length_mask(length, labels.shape[1]))


def _tvg_loss(apply, clips, vocabulary, batch):
  length = batch['text_prefix_length'][:, None]
  tokens = jnp.pad(batch['text_prefix'], ((0, 0), (0, clips - 1)))
  place = jnp.arange(tokens.shape[1])
  # Clips are inputs up to the last but one: nothing is predicted after it.
  is_clip = (place >= length) & (place < length + clips - 1)
  tokens = jnp.where(is_clip, types.VISUAL, tokens)
  x = apply('embed', tokens, apply('clip_tokens', batch['features'], fold=3))
  hidden = apply('hidden', x, length[:, 0] + clips - 1, fold=4)
  rows = jnp.take_along_axis(
      hidden, (length - 1 + jnp.arange(clips))[..., None], 1)
  value = losses.clip_log_likelihood(
      apply('clip_queries', rows), vocabulary, batch['video_index'])
  return -jnp.mean(value, -1)


def _load(init_all, directory, tied, key, mesh):
  """Pretrained parameters on the mesh; what the checkpoint lacks is made.

  As the authors: the TVG projector starts as a copy of the VTG one, the
  visual head and the LoRA factors at random.
  """
  abstract = jax.eval_shape(init_all, key)
  places = sharding.shardings(mesh, abstract)
  params, missing = pretrained.load(
      pretrained.open_checkpoint(directory), names.VIDEOCHAT_FLASH,
      abstract['params'], places['params'], tied, generates=True)
  if any(path.startswith('projector/tvg') for path in missing):
    params['projector']['tvg'] = jax.tree.map(
        jnp.copy, params['projector']['vtg'])
  if 'visual_head/kernel' in missing:
    params['visual_head'] = jax.jit(
        lambda key: init_all(key)['params']['visual_head'],
        out_shardings=places['params']['visual_head'])(key)
  return base.add_lora(init_all, {'params': params}, key, mesh)
