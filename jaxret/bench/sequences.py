"""Likelihoods of texts behind prompts of their own: pairs per second.

  python -m jaxret.bench.sequences --preset=small --prefixes=64 --suffixes=256
      [--baseline=transformers] [--baseline_seconds=120]

A Qwen2-VL with random weights; each prefix shows an image of as many tokens as
a video of bench.scoring, suffixes are as long as real captions and begin alike
as they do. One warm-up compiles everything. All goes through
jaxret.score_sequences, ROWS prefixes at a time, in turns with the baseline:
transformers with the same weights on all cores, which keeps the keys and values
of each prefix and reads suffixes of like lengths in batches behind them. Prints
one JSON object as the last thing on standard output; progress goes to standard
error. On a machine that others use too, the ratio of CPU times, `cpu_speedup`,
says more than `speedup`.
"""
import argparse
import json
import sys

import jax
import numpy as np

import jaxret
from jaxret import generator, process_settings, sharding
from jaxret.bench import captioning, machine, presets, scoring
from jaxret.data import types
from jaxret.data.qwen2_vl import continuations, layout, pixels
from jaxret.data.qwen2_vl import reader as reader_lib
from jaxret.models import decoder as decoder_lib
from jaxret.models.qwen2_vl import model as model_lib
from jaxret.scoring.likelihood import sequences

SPECIAL = captioning.SPECIAL
IMAGE_PX = 448  # 256 tokens
ROWS, COLUMNS = 8, 64


def main(argv=None):
  options = parse(argv)
  process_settings.keep_freed_memory()
  print(json.dumps(measure(options)))
  return 0


def parse(argv):
  parser = argparse.ArgumentParser('jaxret.bench.sequences')
  parser.add_argument('--preset', choices=captioning.PRESETS, default='small')
  parser.add_argument('--prefixes', type=machine.positive, default=64)
  parser.add_argument('--suffixes', type=machine.positive, default=256)
  parser.add_argument('--baseline', choices=('transformers',),
                      help='what to compare with, on the CPU')
  parser.add_argument('--baseline_seconds', type=float, default=120.0,
                      help='how long the baseline runs; a sample of prefixes')
  parser.add_argument('--baseline_batch', type=machine.positive, default=32,
                      help='suffixes that the baseline reads at a time')
  return parser.parse_args(argv)


class Numbered:
  """A Reader of prompts and suffixes that are named by their numbers."""
  ends = ()

  def __init__(self, prompts, suffixes):
    self.prompts, self.suffixes = prompts, suffixes

  def __call__(self, item, chat=False):
    return self.prompts[int(item.text)]

  def bucket(self, prompt):
    return reader_lib.shape_of(len(prompt.tokens), prompt.grids)

  def pad(self, prompts, shape):
    return continuations.pad(prompts, shape, SPECIAL)

  def suffix(self, text, name):
    return self.suffixes[int(text)]


def make_prompts(config, count, seed=0):
  """[continuations.Prompt] of one random image each between random tokens."""
  rng = np.random.default_rng(seed)
  def words(n):
    return rng.integers(len(SPECIAL) + 1, config.decoder.vocab_size, n)
  found = []
  for number in range(count):
    patches, grid = pixels.patchify(rng.integers(
        0, 256, (1, IMAGE_PX, IMAGE_PX, 3), np.uint8))
    tokens = np.array([
        *words(presets.BEFORE_VIDEO), SPECIAL['vision_start'],
        *[SPECIAL['image']] * layout.n_tokens(grid), SPECIAL['vision_end'],
        *words(presets.AFTER_VIDEO)], np.int32)
    found.append(continuations.Prompt(
        str(number), tokens, ('image',), (grid,), (patches,),
        layout.mrope_positions(tokens, ('image',), (grid,), SPECIAL)))
  return found


def measure(options):
  """The JSON object of one run; keys as in docs/speed.md."""
  config = captioning.PRESETS[options.preset]
  mesh = sharding.make_mesh()
  params = jax.jit(
      lambda key: model_lib.init(config, key),
      out_shardings=sharding.replicated(mesh))(jax.random.key(0))
  # Special tokens are not among the words of a caption.
  suffixes = [caption + len(SPECIAL) for caption in presets.captions(
      options.suffixes, config.decoder.vocab_size - len(SPECIAL))]
  reader = Numbered(make_prompts(config, options.prefixes), suffixes)
  model = generator.Generator(config, params, reader, mesh)
  blocks = np.split(np.arange(options.prefixes),
                    range(ROWS, options.prefixes, ROWS))
  def ours(block):
    return jaxret.score_sequences(
        [types.Item(f'prefix {i}', str(i)) for i in block],
        [str(i) for i in range(len(suffixes))], model, rows=ROWS,
        columns=COLUMNS, show_progress=False)
  machine.log('compiling')
  for block in {len(block): block for block in blocks}.values():
    ours(block)
  result = {'preset': options.preset, 'device': jax.devices()[0].device_kind,
            'devices': jax.device_count(), 'prefixes': options.prefixes,
            'suffixes': options.suffixes}
  timed, compared = _run(options, config, params, reader, blocks, ours)
  return {**result, **_facts(options, config, reader, sum(timed)), **compared}


def _run(options, config, params, reader, blocks, ours):
  """(seconds of our blocks, what the comparison says)."""
  other = None
  if options.baseline:
    from jaxret.bench import torch_sequences
    other = torch_sequences.scorer(
        config, sharding.to_host(params), SPECIAL, reader,
        options.baseline_batch)
    other(blocks[0][:1])  # first calls are slow
  mine, theirs, difference = [], [], 0.0
  for number, block in enumerate(blocks):
    with machine.timed(mine):
      found = ours(block)
    if other and sum(
        seconds for seconds, _ in theirs) < options.baseline_seconds:
      with machine.timed(theirs):
        expected = other(block)
      difference = max(difference, float(np.abs(found - expected).max()))
    machine.log(f'block {number + 1} of {len(blocks)}: {mine[-1][0]:.2f} s'
                + (f', baseline {theirs[-1][0]:.2f} s' if theirs else ''))
  seconds = [seconds for seconds, _ in mine]
  if not other:
    return seconds, {}
  pairs = options.suffixes * sum(map(len, blocks[:len(theirs)]))
  (own, own_cpu), (taken, cpu) = (
      np.sum(part[:len(theirs)], 0) for part in (mine, theirs))
  return seconds, {
      'baseline': options.baseline, 'baseline_pairs': pairs,
      'baseline_pairs_per_s': pairs / taken, 'baseline_seconds': taken,
      'baseline_cpu_seconds': cpu, 'speedup': taken / own,
      'cpu_speedup': cpu / own_cpu, 'max_abs_difference': difference}


def _facts(options, config, reader, seconds):
  """Speed, and how much of the work was needed."""
  c, n_prompt = config.decoder, len(reader.prompts[0].tokens)
  distinct = len({tuple(ids[:k]) for ids in reader.suffixes
                  for k in range(1, len(ids))})
  least = options.prefixes * (n_prompt + distinct)
  tokens = options.prefixes * (
      reader.bucket(reader.prompts[0]).tokens + sum(
          tile.tokens for tile in sequences.shared(reader.suffixes, COLUMNS)))
  patches = len(reader.prompts[0].patches[0])
  flops = options.prefixes * (
      model_lib.flops(config, n_prompt, [patches])
      + distinct * (decoder_lib.flops_per_token(c)
                    + 4 * c.layers * c.heads * c.head_width * n_prompt)
      + (1 + distinct) * decoder_lib.head_flops(c))
  devices = jax.device_count() if jax.default_backend() != 'cpu' else 1
  top = devices * max(scoring.peak(config).values())
  return {'seconds': seconds,
          'pairs_per_s': options.prefixes * options.suffixes / seconds,
          'tokens_per_s': tokens / seconds, 'flops_per_s': flops / seconds,
          'peak_flops_per_s': top, 'utilization': flops / seconds / top,
          'tokens': tokens, 'minimal_tokens': least}


if __name__ == '__main__':
  sys.exit(main())
