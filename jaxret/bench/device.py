"""What one accelerator makes of jaxret, in a few minutes and without data.

  python -m jaxret.bench.device [--minutes=8] [--preset=7b] [--only=PART,...]

For the first minutes with a GPU or TPU host: wants JAX, Flax, optax, orbax and
NumPy, no files and no network. Weights and inputs are random, in bfloat16.
Parts run in the order of PARTS as long as there is time; one that fails says
why and the others go on. Prints a Markdown table and, as the last thing on
standard output, one JSON object; progress goes to standard error.
"""
import argparse
import json
import math
import sys
import time

import jax
import numpy as np

from jaxret import process_settings, sharding
from jaxret.bench import device_models, device_scoring, machine, presets

PRESETS = {'7b': 'qwen2-7b', 'tiny': 'tiny'}
# {part: (what it measures, (options, mesh) -> rows)}; a row is {'name',
# 'seconds', 'count', 'unit', 'flops', ...}, what is not known left out.
PARTS = {
    'equal': ('scores and attention against those of the CPU',
              device_scoring.equal),
    'scoring': ('exhaustive scoring of 1,000 x 1,000 pairs, by its rows',
                device_scoring.rows_of_matrices),
    'modes': ('the same pairs by full passes, as published',
              device_scoring.full_passes),
    'embedding': ('images to vectors, attention by each implementation',
                  device_models.embedding),
    'lora': ('training steps of LoRA factors and visual head',
             device_models.lora_step),
    'reranking': ('a query against candidates with an image each',
                  device_models.reranking),
    'best_again': ('a query against the 100 that a first stage found',
                   device_models.best_again),
}


def main(argv=None):
  options = parse(argv)
  process_settings.keep_freed_memory()
  process_settings.exact_float32()
  result = measure(options)
  print(table(result))
  print(json.dumps(result))
  return 0


def parse(argv):
  parser = argparse.ArgumentParser('jaxret.bench.device')
  parser.add_argument('--minutes', type=float, default=8.0,
                      help='no part starts later than this')
  parser.add_argument('--preset', choices=PRESETS, default='7b')
  parser.add_argument('--only', type=lambda text: text.split(','),
                      default=list(PARTS), metavar='PART,...',
                      help=f'of {", ".join(PARTS)}; default: all')
  parser.add_argument('--videos', type=machine.positive, default=1000)
  parser.add_argument('--texts', type=machine.positive, default=1000)
  parser.add_argument('--rows', type=machine.positive, default=2,
                      help='blocks of rows that are scored of each matrix')
  parser.add_argument('--repeats', type=machine.positive, default=3,
                      help='timed calls of what is short; medians are told')
  options = parser.parse_args(argv)
  if unknown := set(options.only) - set(PARTS):
    parser.error(f'--only: no part {sorted(unknown)[0]!r}; there are '
                 f'{", ".join(PARTS)}')
  if not (math.isfinite(options.minutes) and options.minutes > 0):
    parser.error(f'--minutes: got {options.minutes}, want more than 0')
  options.scoring_preset = PRESETS[options.preset]
  return options


def measure(options):
  """The JSON object of one run."""
  start = time.perf_counter()
  mesh = sharding.make_mesh()
  device = jax.devices()[0]
  model = presets.PRESETS[options.scoring_preset].vlm.decoder
  machine.log(f'{jax.device_count()} {device.device_kind}, '
              f'JAX {jax.__version__}')
  shapes = [(8192,) * 3, (4096, model.width, model.mlp_width)]
  if jax.default_backend() == 'cpu':
    shapes = [(512,) * 3]
  products = machine.matmul_flops_per_s(shapes, model.dtype)
  peak = max(products.values())
  result = {
      'preset': options.preset, 'device': device.device_kind,
      'devices': jax.device_count(), 'backend': jax.default_backend(),
      'jax': jax.__version__, 'peak_flops_per_s': peak,
      'matmul_flops_per_s': {
          'x'.join(map(str, shape)): speed
          for shape, speed in products.items()}, 'parts': {}}
  for name in options.only:
    spent = time.perf_counter() - start
    if spent > 60 * options.minutes:
      result['parts'][name] = {'left_out': f'no time after {spent:.0f} s'}
      continue
    machine.log(f'{spent:.0f} s: {name}, {PARTS[name][0]}')
    result['parts'][name] = run_part(PARTS[name][1], options, mesh, peak)
    machine.log(json.dumps(result['parts'][name]))
  return {**result, 'seconds': time.perf_counter() - start}


def run_part(part, options, mesh, peak):
  """{'rows': what a part found} or, for a part that fails, {'failed': why}."""
  start = time.perf_counter()
  try:
    rows = part(options, mesh)
  except Exception as error:  # of any kind, out of memory too: others go on
    return {'failed': f'{type(error).__name__}: {error}'[:2000],
            'seconds': time.perf_counter() - start}
  for row in rows:
    if row.get('flops'):
      row['flops_per_s'] = row['flops'] / row['seconds']
      row['utilization'] = row['flops_per_s'] / peak / jax.device_count()
  return {'rows': rows, 'seconds': time.perf_counter() - start}


def table(result):
  """The Markdown table of a result."""
  lines = [
      f'{result["devices"]} x {result["device"]}, JAX {result["jax"]}, preset '
      f'{result["preset"]}; matmul peak '
      f'{result["peak_flops_per_s"] / 1e12:.4g} TFLOP/s a device', '',
      '| what | seconds | rate | of the matmul peak | more |',
      '|---|---|---|---|---|']
  for name, part in result['parts'].items():
    for row in part.get('rows', ()):
      lines.append('| ' + ' | '.join(cells(name, row)) + ' |')
    if 'rows' not in part:
      reason = part.get('failed') or part['left_out']
      lines.append(f'| {name} | | | | {reason.splitlines()[0][:120]} |')
  return '\n'.join(lines)


def cells(part, row):
  """The five cells of a row."""
  known = {'name', 'seconds', 'count', 'unit', 'flops', 'flops_per_s',
           'utilization', 'all_seconds', 'first_seconds'}
  more = ', '.join(
      f'{key.replace("_", " ")} {number(value)}' for key, value in row.items()
      if key not in known)
  rate = f'{number(row["count"] / row["seconds"])} {row["unit"]}/s' if (
      'count' in row) else ''
  share = f'{row["utilization"]:.0%}' if 'utilization' in row else ''
  seconds = number(row['seconds']) if 'seconds' in row else ''
  return f'{part}: {row["name"]}', seconds, rate, share, more


def number(value):
  return f'{value:.4g}' if isinstance(value, (float, np.floating)) else (
      str(value))


if __name__ == '__main__':
  sys.exit(main())
