"""The device bench's parts on single models: embed, train, rerank."""
import dataclasses
import statistics
import time

import jax
import numpy as np
import optax

from jaxret import optim, sharding, train
from jaxret.bench import machine, multimodal, presets, rerank
from jaxret.methods import base
from jaxret.methods.blim import method as blim
from jaxret.models import clip, encoder
from jaxret.models import decoder as decoder_lib
from jaxret.models.llava import model as llava_next
from jaxret.models.qwen2_vl import model as qwen2_vl
from jaxret.models.videochat import model as vlm_lib

# {preset: (model, side of an image in tokens, images)}
EMBEDDERS = {'tiny': ('tiny', 2, 4), '7b': ('2b', 24, 32)}
# {preset: examples of a step}; the recipe for MSR-VTT has micro-batches of 32.
LORA_ROWS = {'tiny': 2, '7b': 16}
LORA_TARGETS = ('decoder/layers/attention/[qkvo]', 'decoder/lm_head',
                'projector/(vtg|tvg)/(in|out)')
LORA_RANK = 8
QWEN_RERANKERS = {'tiny': 'tiny', '7b': '2b'}
AGAIN = 100  # candidates of a query that a first stage found
CANDIDATES = 10  # of a query, each with an image of one crop
QUESTION, ANSWER = 60, 40  # tokens before and after the candidate's image


def _mistral(vocab_size, width, mlp_width, layers, heads, kv_heads, head_width,
             dtype):
  return decoder_lib.DecoderConfig(
      vocab_size, width, mlp_width, layers, heads, kv_heads, head_width,
      norm_eps=1e-5, qkv_bias=False, dtype=dtype, param_dtype=dtype)


def _clip(width, mlp_width, layers, heads, image_px, patch_px, dtype):
  return clip.ClipVisionConfig(encoder.EncoderConfig(
      width, mlp_width, layers, heads, 'quick_gelu', dtype=dtype,
      param_dtype=dtype), image_px, patch_px)


# LLaVA-NeXT on Mistral 7B: the tower is CLIP ViT-L/14 of 336 pixels.
RERANKERS = {
    'tiny': llava_next.LlavaNextConfig(
        _mistral(128, 32, 64, 2, 4, 2, 8, 'float32'),
        _clip(32, 64, 2, 2, 28, 14, 'float32')),
    '7b': llava_next.LlavaNextConfig(
        _mistral(32064, 4096, 14336, 32, 32, 8, 128, 'bfloat16'),
        _clip(1024, 4096, 23, 16, 336, 14, 'bfloat16')),
}


def timed(run, repeats):
  """(first seconds, median of the others, all of them) of run() -> arrays."""
  taken = []
  for _ in range(repeats + 1):
    start = time.perf_counter()
    jax.block_until_ready(run())
    taken.append(time.perf_counter() - start)
  return taken[0], statistics.median(taken[1:]), taken[1:]


def measured(name, run, repeats, count, unit, flops):
  """The row of a run that is repeated."""
  first, seconds, every = timed(run, repeats)
  return {'name': name, 'seconds': seconds, 'first_seconds': first,
          'all_seconds': every, 'count': count, 'unit': unit, 'flops': flops}


def cast(init, dtype, mesh):
  """Random parameters of init(key), in `dtype`, made where they belong."""
  def make(key):
    return jax.tree.map(lambda leaf: leaf.astype(dtype), init(key))
  key = jax.random.key(0)
  places = sharding.shardings(mesh, jax.eval_shape(make, key))
  return jax.jit(make, out_shardings=places)(key)


def embedding(options, mesh):
  """Images of one size and a prompt each, by each implementation."""
  name, side, count = EMBEDDERS[options.preset]
  preset = multimodal.PRESETS[name]
  rng = np.random.default_rng(0)
  inputs = [multimodal.item(preset, rng, f'image {n}', 'image', 0, (side, side))
            for n in range(count)]
  ready = multimodal.Ready(preset.config, inputs)
  batch = sharding.global_batch(
      mesh, ready.pad(inputs, ready.bucket(inputs[0])))
  patches = side * side * preset.config.vision.merge ** 2
  flops = count * qwen2_vl.flops(
      preset.config, len(inputs[0].tokens), [patches])
  params = cast(lambda key: qwen2_vl.init(preset.config, key),
                preset.config.decoder.dtype, mesh)
  rows = []
  for kind in machine.attention_kernels():
    config = dataclasses.replace(
        preset.config,
        decoder=dataclasses.replace(preset.config.decoder, attention=kind),
        vision=dataclasses.replace(preset.config.vision, attention=kind))
    run = jax.jit(lambda params, batch, config=config:
                  config.module().apply(params, batch))
    rows.append(measured(
        f'Qwen2-VL {name}, {patches} patches an image, attention {kind}',
        lambda run=run: run(params, batch), options.repeats, count, 'images',
        flops))
  return rows


def lora_step(options, mesh):
  """Steps of BLiM at MSR-VTT's lengths, by attention and rematerialization."""
  preset = presets.PRESETS[options.scoring_preset]
  rows = []
  for remat, attention in (
      *(('none', name) for name in machine.attention_kernels()),
      ('dots', 'xla'), ('full', 'xla')):
    vlm = dataclasses.replace(preset.vlm, decoder=dataclasses.replace(
        preset.vlm.decoder, remat=remat, attention=attention, lora_scale=4.0,
        lora_dropout=0.05))
    rows.append(_lora_row(options, mesh, vlm))
  return rows


def _lora_row(options, mesh, vlm):
  size = LORA_ROWS[options.preset] * sharding.batch_shards(mesh)
  batch, constants = lora_batch(vlm, size)
  method = base.Method(
      'blim', init=None, load=None, examples=None,
      trainable=('lora/.*', 'params/visual_head/.*'),
      loss=lambda *args: blim.loss(vlm, *args), train_flops=None, tokens=None)
  params = cast(lambda key: blim.init(vlm, LORA_TARGETS, LORA_RANK, key),
                vlm.decoder.param_dtype, mesh)
  trainable, frozen = optim.partition(params, method.trainable)
  del params
  optimizer = optax.adamw(1e-4)
  update = train.make_update(method, optimizer, mesh, 0, 1)
  state = [train.init_state(optimizer, trainable, mesh)]
  placed = sharding.global_batch(mesh, batch)
  constants = {name: sharding.constant(mesh, array)
               for name, array in constants.items()}
  def step():
    state[0], metrics = update(state[0], frozen, constants, placed)
    return metrics
  return measured(
      f'{size} examples, rank {LORA_RANK}, attention {vlm.decoder.attention}, '
      f'remat {vlm.decoder.remat}',
      step, options.repeats, vlm_lib.train_tokens(vlm, batch), 'tokens',
      vlm_lib.train_flops(vlm, True, batch))


def lora_batch(vlm, size):
  """(batch, constants) of random examples as methods.blim.examples has them."""
  prompts = presets.prompts(
      vlm, presets.captions(size, vlm.decoder.vocab_size))
  def padded(rows):
    longest = max(map(len, rows))
    return np.stack([np.pad(row, (0, longest - len(row))) for row in rows])
  def lengths(rows):
    return np.array([len(row) for row in rows], np.int32)
  features = presets.features(vlm, size)
  return {
      'features': features, 'video_index': np.arange(size, dtype=np.int32),
      'labels': padded(prompts.labels),
      'label_length': lengths(prompts.labels),
      'text_prefix': padded(prompts.text_prefixes),
      'text_prefix_length': lengths(prompts.text_prefixes),
      'visual_prefix_length': np.full(
          size, len(prompts.visual_prefix), np.int32)}, {
              'visual_prefix': prompts.visual_prefix,
              'video_vocabulary': features.mean(2)}


def reranking(options, mesh):
  """P(True) of candidates with an image, all at once, for one query."""
  config = RERANKERS[options.preset]
  batch = rerank_batch(config)
  batch = {name: sharding.replicate(mesh, array)
           for name, array in batch.items()}
  params = cast(lambda key: llava_next.init(config, key),
                config.decoder.dtype, mesh)
  words = np.array([1, 2], np.int32)
  run = jax.jit(lambda params, batch: llava_next.p_true_of_suffixes(
      config, params, batch, words))
  length = batch['suffix_tokens'].shape[-1]
  c = config.decoder
  flops = CANDIDATES * (
      llava_next.image_flops(config) + length * decoder_lib.flops_per_token(c)
      + decoder_lib.attention_flops(c, length + QUESTION)
  ) + QUESTION * decoder_lib.flops_per_token(c)
  with jax.set_mesh(mesh):
    return [measured(
        f'{CANDIDATES} candidates of {length} tokens, image and text',
        lambda: run(params, batch), options.repeats, CANDIDATES, 'candidates',
        flops)]


def best_again(options, mesh):
  """A query against 100 candidates by Reranker.rerank: texts, images, both.

  What the tower gives of images is kept by the first call, whose time is told
  apart, as for candidates of an index.
  """
  job = rerank.Job(rerank.PRESETS[QWEN_RERANKERS[options.preset]], 1, AGAIN)
  return [measured(f'Qwen3-VL {QWEN_RERANKERS[options.preset]}, {AGAIN} '
                   'candidates of a query, images seen before',
                   lambda: job.run(0), options.repeats, AGAIN, 'candidates',
                   None)]


def rerank_batch(config):
  """One query and its candidates; see models.llava.p_true_of_suffixes."""
  rng, vision = np.random.default_rng(0), config.vision
  length = vision.grid ** 2 + ANSWER
  def tokens(*shape):
    return rng.integers(1, config.decoder.vocab_size, shape, np.int32)
  index = np.full((1, CANDIDATES, length), -1, np.int32)
  index[..., :vision.grid ** 2] = 1 + np.arange(vision.grid ** 2)
  side = vision.image_px
  return {
      'tokens': tokens(1, QUESTION), 'length': np.full(1, QUESTION, np.int32),
      'suffix_tokens': tokens(1, CANDIDATES, length),
      'suffix_length': np.full((1, CANDIDATES), length, np.int32),
      'suffix_pixels': rng.integers(
          0, 256, (1, CANDIDATES, 1, side, side, 3), np.uint8),
      'suffix_visual_index': index}
