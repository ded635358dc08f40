"""Exhaustive likelihood scoring: speed, utilization, and other ways to do it.

  python -m jaxret.bench.scoring --preset=small --videos=64 --texts=256
      [--baseline=torch | prefix-torch | likelihood-torch] [--inside]
      [--sweep=FILE.svg] [--invariant]

Random weights and inputs. One warm-up compiles everything; then all pairs are
scored in both directions with both priors. Prints one JSON object as the last
thing on standard output; progress goes to standard error.
"""
import argparse
import json
import sys
import time

import jax
import numpy as np

from jaxret import process_settings, sharding
from jaxret.bench import machine, presets, tile_parts
from jaxret.methods.blim import likelihood as blim_likelihood
from jaxret.methods.blim import method as blim
from jaxret.scoring.likelihood import cost, tiles
from jaxret.scoring.likelihood import score as likelihood

BASELINES = ('torch', 'prefix-torch', 'likelihood-torch')
PRICE_TURNS = 3
SWEEP = (32, 64, 128, 256)


def main(argv=None):
  options = parse(argv)
  process_settings.keep_freed_memory()
  preset = presets.PRESETS[options.preset]
  mesh = sharding.make_mesh({'data': -1, 'fsdp': options.fsdp})
  machine.log(f'{jax.device_count()} {jax.devices()[0].device_kind}, '
              f'mesh {dict(mesh.shape)}')
  params = init_params(preset.vlm, mesh)
  if options.invariant:
    result = {'preset': options.preset,
              **price(options, preset, params, mesh)}
  elif options.sweep:
    result = {'preset': options.preset, **sweep(options, preset, params, mesh)}
  else:
    result = measure(options, preset, params, mesh)
  print(json.dumps(result))
  return 0


def parse(argv):
  parser = argparse.ArgumentParser('jaxret.bench.scoring')
  parser.add_argument('--preset', choices=presets.PRESETS, default='small')
  parser.add_argument('--videos', type=machine.positive, default=64)
  parser.add_argument('--texts', type=machine.positive, default=256)
  parser.add_argument('--baseline', choices=BASELINES,
                      help='what to compare with, in PyTorch on the CPU')
  parser.add_argument('--baseline_seconds', type=float, default=120.0,
                      help='how long the baseline runs; a sample of the pairs')
  parser.add_argument('--captions', metavar='FILE',
                      help='real captions, one a line, for random ones')
  parser.add_argument('--tokenizer', metavar='DIR', help='for --captions')
  parser.add_argument('--share', action=argparse.BooleanOptionalAction,
                      default=True, help='compute shared beginnings once')
  parser.add_argument('--fsdp', type=machine.positive, default=1,
                      help='devices that share the weights')
  parser.add_argument('--inside', action='store_true',
                      help='time the parts of one tile of captions as well')
  parser.add_argument('--invariant', action='store_true',
                      help='what tiles of fixed shapes cost, in turns')
  parser.add_argument('--text_tile', type=pair, metavar='ROWS,COLUMNS')
  parser.add_argument('--video_tile', type=pair, metavar='ROWS,COLUMNS')
  parser.add_argument('--sweep', metavar='FILE.svg',
                      help='pairs/s for square sets of growing size, as a plot')
  options = parser.parse_args(argv)
  if bool(options.captions) != bool(options.tokenizer):
    parser.error('--captions and --tokenizer go together')
  return options


def pair(text):
  rows, columns = text.split(',')
  return int(rows), int(columns)


def init_params(model, mesh):
  """Random parameters in the model's dtype, made where they belong."""
  def make(key):
    params = blim.init(model, (), 0, key)
    return jax.tree.map(
        lambda x: x.astype(model.decoder.param_dtype), params)
  key = jax.random.key(0)
  places = sharding.shardings(mesh, jax.eval_shape(make, key))
  return jax.jit(make, out_shardings=places)(key)


def make_prompts(options, model):
  if not options.captions:
    return presets.prompts(model, presets.captions(
        options.texts, model.decoder.vocab_size))
  from jaxret.data import text
  tokenizer = text.load_tokenizer(options.tokenizer)
  with open(options.captions) as file:
    lines = [line.strip() for line in file if line.strip()][:options.texts]
  # Ids beyond a small model's vocabulary wrap around: sharing stays.
  size = model.decoder.vocab_size
  return presets.prompts(model, [
      np.array(tokenizer.encode(line), np.int32) % size for line in lines])


class Job:
  """Everything that one measured run takes."""

  def __init__(self, options, preset, params, mesh, prompts, n_videos,
               invariant=False):
    self.vlm, self.mesh, self.params = preset.vlm, mesh, params
    self.model = blim_likelihood.likelihood_model(preset.vlm)
    self.prompts = prompts
    self.features = presets.features(preset.vlm, n_videos)
    self.vocabulary = self.features.mean(2)
    self.text_options, self.video_options = (
        likelihood.Options(*tile, share=options.share, invariant=invariant)
        for tile in (options.text_tile or preset.text_tile,
                     options.video_tile or preset.video_tile))

  def run(self, warm_up=False):
    """Scores; returns ({quantity: array}, {quantity: seconds}, tokens)."""
    shape = len(self.features), len(self.prompts.labels)
    by_video = np.full(shape, np.nan, np.float32)
    by_text = np.full(shape[::-1], np.nan, np.float32)
    if warm_up:  # one block of rows of each shape
      by_video[self.text_options.rows:] = 0
      lengths = [len(prefix) for prefix in self.prompts.text_prefixes]
      seen = {}
      for block in tiles.blocks(lengths, self.video_options.rows,
                                self.video_options.max_padding):
        if seen.setdefault(block.length, block) is not block:
          by_text[block.index] = 0
    common = self.model, self.params, self.mesh, self.prompts
    videos = self.features, self.vocabulary
    tokens = {}
    def texts():
      tokens['text_given_video'] = likelihood.score_texts(
          *common, self.features, self.text_options, by_video)
      return by_video
    def clips():
      tokens['video_given_text'] = likelihood.score_videos(
          *common, *videos, self.video_options, by_text)
      return by_text
    def text_prior():
      values, tokens['text_prior'] = likelihood.text_priors(
          *common, self.text_options)
      return values
    def video_prior():
      values, index, tokens['video_prior'] = likelihood.video_priors(
          *common, *videos, self.video_options)
      return values[index]
    found, seconds = {}, {}
    for name, part in (('text_given_video', texts), ('video_given_text', clips),
                       ('text_prior', text_prior),
                       ('video_prior', video_prior)):
      start = time.perf_counter()
      found[name] = part()
      seconds[name] = time.perf_counter() - start
    return found, seconds, tokens


def measure(options, preset, params, mesh):
  """The JSON object of one run; keys as in docs/speed.md."""
  job = Job(options, preset, params, mesh, make_prompts(options, preset.vlm),
            options.videos)
  machine.log('compiling')
  job.run(warm_up=True)
  before = peak(preset.vlm)
  found, seconds, tokens = job.run()
  after = peak(preset.vlm)
  best = {shape: max(before[shape], after[shape]) for shape in before}
  devices = jax.device_count() if jax.default_backend() != 'cpu' else 1
  top = max(best.values()) * devices
  least = cost.minimal(
      job.model.cost, job.prompts, options.videos, preset.vlm.clips)
  work, taken = cost.total(least), sum(seconds.values())
  pairs = found['text_given_video'].size
  result = {
      'preset': options.preset, 'device': jax.devices()[0].device_kind,
      'devices': jax.device_count(), 'videos': options.videos,
      'texts': found['text_given_video'].shape[1], 'seconds': taken,
      'pairs_per_s': pairs / taken,
      'tokens_per_s': sum(tokens.values()) / taken,
      'flops_per_s': work.flops / taken, 'peak_flops_per_s': top,
      'utilization': work.flops / taken / top,
      'tokens': sum(tokens.values()), 'minimal_tokens': work.tokens,
      'matmul_flops_per_s': {
          'x'.join(map(str, shape)): value for shape, value in best.items()},
      'parts': {name: {
          'seconds': seconds[name], 'share': seconds[name] / taken,
          'tokens': tokens[name], 'minimal_tokens': least[name].tokens,
          'utilization': least[name].flops / seconds[name] / top}
                for name in seconds}}
  if options.inside:
    result['inside_captions_tile'] = tile_parts.measure(job)
  if options.baseline:
    from jaxret.bench import torch_scoring
    other = torch_scoring.run(options.baseline, job, found,
                              options.baseline_seconds, machine.log)
    result.update(
        baseline=options.baseline, **other,
        speedup=result['pairs_per_s'] / other['baseline_pairs_per_s'])
  return result


def price(options, preset, params, mesh):
  """What tiles of fixed shapes cost, as a ratio of seconds.

  Both score all pairs in turns; medians. On CPU these are CPU seconds, which
  other work on the machine lengthens less.
  """
  prompts = make_prompts(options, preset.vlm)
  jobs = [Job(options, preset, params, mesh, prompts, options.videos, invariant)
          for invariant in (False, True)]
  clock = (time.process_time if jax.default_backend() == 'cpu'
           else time.perf_counter)
  taken, tokens, found = [[], []], [0, 0], [None, None]
  for turn in range(1 + PRICE_TURNS):
    for k, job in enumerate(jobs):
      start = clock()
      found[k], _, counts = job.run()
      tokens[k] = sum(counts.values())
      if turn:  # the first one compiles
        taken[k].append(clock() - start)
  seconds = [float(np.median(each)) for each in taken]
  return {
      'device': jax.devices()[0].device_kind, 'seconds': seconds[0],
      'invariant_seconds': seconds[1], 'ratio': seconds[1] / seconds[0],
      'tokens': tokens[0], 'invariant_tokens': tokens[1],
      'largest_difference': {name: float(np.abs(
          value - found[1][name]).max()) for name, value in found[0].items()}}


def peak(model):
  """Matmul speeds at the decoder's own shapes and at a large square one."""
  c = model.decoder
  rows = 4096
  return machine.matmul_flops_per_s(
      [(2048,) * 3 if jax.default_backend() == 'cpu' else (8192,) * 3,
       (rows, c.width, c.mlp_width), (rows, c.mlp_width, c.width),
       (rows, c.width, c.heads * c.head_width)], c.dtype)


def sweep(options, preset, params, mesh):
  """Pairs/s for growing square sets, written as a plot as well."""
  import matplotlib
  matplotlib.use('svg')
  from matplotlib import pyplot
  rates = {}
  for size in SWEEP:
    options.texts = size
    job = Job(options, preset, params, mesh, make_prompts(options, preset.vlm),
              size)
    job.run(warm_up=True)
    taken = sum(job.run()[1].values())
    rates[size] = size * size / taken
    machine.log(f'{size} x {size}: {rates[size]:.1f} pairs/s')
  figure, axes = pyplot.subplots(figsize=(4.5, 3), layout='constrained')
  axes.plot(list(rates), list(rates.values()), marker='o')
  axes.set_xscale('log', base=2)
  axes.set_xticks(list(rates), [f'{n}²' for n in rates])
  axes.set_ylim(0)
  axes.set_xlabel('videos x texts')
  axes.set_ylabel('pairs per second')
  axes.set_title(f'{options.preset}, {jax.devices()[0].device_kind}')
  figure.savefig(options.sweep)
  return {'device': jax.devices()[0].device_kind, 'pairs_per_s': rates,
          'plot': options.sweep}


if __name__ == '__main__':
  sys.exit(main())
