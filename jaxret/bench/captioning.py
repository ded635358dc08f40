"""Greedy description with a static cache: tokens per second.

  python -m jaxret.bench.captioning --preset=small --batch=8
      [--new_tokens=128] [--baseline=torch]

A Qwen2-VL with random weights describes random images; no token ends an
answer. One warm-up compiles; the median of several rounds counts, in which
the baseline, `generate` of transformers with the same weights on all cores,
takes turns. Prints one JSON object as the last thing on standard output;
progress goes to standard error. On a machine that others use too, the ratio
of CPU times, `cpu_speedup`, says more than `speedup`.
"""
import argparse
import json
import sys

import jax
import numpy as np

from jaxret import process_settings, sharding
from jaxret.bench import machine
from jaxret.data.qwen2_vl import layout, pixels
from jaxret.data.qwen2_vl import reader as reader_lib
from jaxret.models import decoder as decoder_lib
from jaxret.models import generation
from jaxret.models.qwen2_vl import model as model_lib
from jaxret.models.qwen2_vl import vision as vision_lib

# Ids of the control tokens in the vocabulary of every preset.
SPECIAL = {'image': 1, 'video': 2, 'vision_start': 3, 'vision_end': 4}
BEFORE, AFTER = 15, 16  # tokens of the prompt around an image
IMAGE_PX = 224


def _config(vocab_size, width, mlp_width, layers, heads, kv_heads, head_width,
            sections, vision, dtype='float32'):
  decoder = decoder_lib.DecoderConfig(
      vocab_size, width, mlp_width, layers, heads, kv_heads, head_width,
      tie_embeddings=True, rope_sections=sections, dtype=dtype,
      param_dtype=dtype)
  return model_lib.Qwen2VlConfig(decoder, vision_lib.VisionConfig(
      width, *vision, dtype=dtype, param_dtype=dtype), 'mrope')


PRESETS = {
    'tiny': _config(512, 64, 128, 2, 4, 2, 16, (2, 3, 3), (32, 1, 2, 64)),
    'small': _config(8192, 256, 1024, 6, 8, 2, 32, (4, 6, 6),
                     (128, 4, 4, 512)),
    'qwen2-vl-2b': _config(
        151936, 1536, 8960, 28, 12, 2, 128, (16, 24, 24),
        (1280, 32, 16, 5120), 'bfloat16'),
}


def main(argv=None):
  options = parse(argv)
  process_settings.keep_freed_memory()
  print(json.dumps(measure(options)))
  return 0


def parse(argv):
  parser = argparse.ArgumentParser('jaxret.bench.captioning')
  parser.add_argument('--preset', choices=PRESETS, default='small')
  parser.add_argument('--batch', type=machine.positive, default=8)
  parser.add_argument('--new_tokens', type=machine.positive, default=128)
  parser.add_argument('--rounds', type=machine.positive, default=5)
  parser.add_argument('--baseline', choices=('torch',),
                      help='what to compare with, on the CPU')
  return parser.parse_args(argv)


def prompts(config, count, seed=0):
  """[reader.Inputs] of one random image each between random tokens."""
  rng = np.random.default_rng(seed)
  def words(n):
    return rng.integers(len(SPECIAL) + 1, config.decoder.vocab_size, n)
  inputs = []
  for number in range(count):
    patches, grid = pixels.patchify(rng.integers(
        0, 256, (1, IMAGE_PX, IMAGE_PX, 3), np.uint8))
    seen = [SPECIAL['image']] * layout.n_tokens(grid)
    tokens = np.array([*words(BEFORE), SPECIAL['vision_start'], *seen,
                       SPECIAL['vision_end'], *words(AFTER)], np.int32)
    inputs.append(reader_lib.Inputs(
        str(number), tokens, ('image',), (grid,), (patches,)))
  return inputs


def measure(options):
  """The JSON object of one run; keys as in docs/speed.md."""
  config = PRESETS[options.preset]
  mesh = sharding.make_mesh()
  params = jax.jit(
      lambda key: model_lib.init(config, key),
      out_shardings=sharding.replicated(mesh))(jax.random.key(0))
  shown = prompts(config, options.batch)
  shape = reader_lib.shape_of(len(shown[0].tokens), shown[0].grids)
  batch = sharding.global_batch(
      mesh, reader_lib.pad(shown, shape, SPECIAL, mrope=True))
  module = config.module()

  def ours():
    with jax.set_mesh(mesh):
      return np.asarray(generation.greedy(
          module, options.new_tokens, (), params, batch).tokens)

  timed = {'ours': ours}
  if options.baseline:
    from jaxret.bench import torch_captioning
    timed['baseline'] = torch_captioning.generator(
        config, sharding.to_host(params), shown, SPECIAL, options.new_tokens)
  timed = machine.in_turns(timed, options.rounds)
  return {'preset': options.preset, **_facts(
      config, options, len(shown[0].tokens), shape, timed['ours']),
          **(_comparison(options, **timed) if options.baseline else {})}


def _facts(config, options, prompt_tokens, shape, timed):
  taken = timed.seconds
  flops = options.batch * _flops(
      config, prompt_tokens, shape.patches, options.new_tokens)
  c = config.decoder
  devices = jax.device_count() if jax.default_backend() != 'cpu' else 1
  top = devices * max(machine.matmul_flops_per_s(
      [(2048,) * 3, (4096, c.width, c.mlp_width)], c.dtype).values())
  return {
      'device': jax.devices()[0].device_kind, 'devices': jax.device_count(),
      'batch': options.batch, 'prompt_tokens': prompt_tokens,
      'new_tokens': options.new_tokens, 'seconds': taken,
      'cpu_seconds': timed.cpu_seconds,
      'tokens_per_s': options.batch * options.new_tokens / taken,
      'flops_per_s': flops / taken, 'peak_flops_per_s': top,
      'utilization': flops / taken / top}


def _flops(config, prompt_tokens, patches, new_tokens):
  """Minimal forward FLOPs of one answer."""
  c = config.decoder
  total = prompt_tokens + new_tokens - 1
  return (model_lib.flops(config, prompt_tokens, [patches])
          + (new_tokens - 1) * decoder_lib.flops_per_token(c)
          + decoder_lib.attention_flops(c, total)
          - decoder_lib.attention_flops(c, prompt_tokens)
          + new_tokens * decoder_lib.head_flops(c))


def _comparison(options, ours, baseline):
  taken = baseline.seconds
  return {
      'baseline': options.baseline,
      'baseline_tokens_per_s': options.batch * options.new_tokens / taken,
      'baseline_seconds': taken, 'baseline_cpu_seconds': baseline.cpu_seconds,
      'speedup': taken / ours.seconds,
      'cpu_speedup': baseline.cpu_seconds / ours.cpu_seconds,
      'equal_tokens': float(np.mean(ours.result == baseline.result))}


if __name__ == '__main__':
  sys.exit(main())
