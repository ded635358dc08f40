"""The device bench's part on likelihood scoring: right first, then fast."""
import functools
import time
import types

import jax
import jax.numpy as jnp
import numpy as np

from jaxret import sharding
from jaxret.bench import machine, presets, scoring
from jaxret.models import attention as attention_lib
from jaxret.models import masks
from jaxret.scoring.likelihood import cost, reference, tiles
from jaxret.scoring.likelihood import score as likelihood

FULL_PASSES = 8, 8  # videos and texts whose pairs are scored by full passes


def equal(options, mesh):
  """How far scores and attention of this device are from the CPU's.

  Scores of a tiny model in float32, at JAX's own precision of products and at
  the highest one; attention of random heads in bfloat16, by each
  implementation, against float32 on the CPU.
  """
  preset = presets.PRESETS['tiny']
  cpu = sharding.make_mesh({'data': 1}, jax.devices('cpu')[:1])
  params = scoring.init_params(preset.vlm, cpu)
  want = _scores(preset, params, cpu)
  rows = []
  for precision in ('default', 'highest'):  # see exact_float32
    with jax.default_matmul_precision(precision):
      found = _scores(preset, params, sharding.make_mesh())
    rows.append({
        'name': f'float32 scores, {precision} precision of products',
        'largest_difference': max(
            float(np.abs(found[name] - want[name]).max()) for name in want)})
  return rows + _attention_rows()


def _scores(preset, params, mesh):
  """{quantity: array} of 6 videos and 12 texts."""
  options = types.SimpleNamespace(
      captions=None, texts=12, share=True, text_tile=None, video_tile=None)
  job = scoring.Job(
      options, preset, jax.device_put(params, sharding.shardings(mesh, params)),
      mesh, scoring.make_prompts(options, preset.vlm), 6)
  return job.run()[0]


def _attention_rows():
  shape, kv_shape = (2, 512, 8, 128), (2, 512, 2, 128)
  query, key, value = (
      np.asarray(jax.random.normal(jax.random.key(n), s, jnp.bfloat16))
      for n, s in enumerate((shape, kv_shape, kv_shape)))
  lengths = np.array([512, 300])
  keys = np.arange(512) < lengths[:, None]
  with jax.default_device(jax.devices('cpu')[0]):
    want, _ = attention_lib.attention(*(
        jnp.asarray(x, jnp.float32) for x in (query, key, value)),
        masks.causal(keys))
    want = np.asarray(want)
  rows = []
  for name in machine.attention_kernels():
    run = jax.jit(functools.partial(
        attention_lib.attention, implementation=name))
    seen = np.asarray(run(query, key, value, masks.causal(keys))[0])
    rows.append({'name': f'bfloat16 attention by {name}',
                 'largest_difference': float(np.abs(seen - want).max())})
  return rows


def rows_of_matrices(options, mesh):
  """Blocks of rows of both matrices and both priors, and the whole of them.

  Every row costs as much as another of its length, so that the time of a whole
  matrix follows from that of some of its rows.
  """
  preset = presets.PRESETS[options.scoring_preset]
  job = scoring.Job(
      types.SimpleNamespace(share=True, text_tile=None, video_tile=None),
      preset, scoring.init_params(preset.vlm, mesh), mesh,
      presets.prompts(preset.vlm, presets.captions(
          options.texts, preset.vlm.decoder.vocab_size)), options.videos)
  least = cost.minimal(job.model.cost, job.prompts, options.videos,
                       preset.vlm.clips)
  videos, texts = _chosen(job, options, mesh)
  rows, whole = [], 0.0
  for name, run, share in (
      ('text given video', functools.partial(_captions, job, videos),
       len(videos) / options.videos),
      ('video given text', functools.partial(_clips, job, texts),
       len(texts) / options.texts),
      ('text prior', functools.partial(_text_prior, job), 1.0),
      ('video prior', functools.partial(_video_prior, job), 1.0)):
    first, tokens = _timed(run)
    taken, tokens = _timed(run)
    work = least[name.replace(' ', '_')]
    whole += taken / share
    rows.append({
        'name': f'{name}, {share:.1%} of the rows', 'seconds': taken,
        'first_seconds': first, 'count': tokens, 'unit': 'tokens',
        'flops': work.flops * share,
        'tokens_of_the_fewest': tokens / (work.tokens * share)})
  pairs = options.videos * options.texts
  return rows + [{
      'name': f'all of {options.videos} x {options.texts} (extrapolated)',
      'seconds': whole, 'count': pairs, 'unit': 'pairs',
      'flops': cost.total(least).flops, 'minutes': whole / 60}]


def _timed(run):
  start = time.perf_counter()
  tokens = run()
  return time.perf_counter() - start, tokens


def _chosen(job, options, mesh):
  """Rows that are scored: the first blocks of videos, and some of texts.

  Of the blocks of texts, those in the middle of the lengths.
  """
  multiple = sharding.batch_shards(mesh)
  videos = tiles.blocks(np.ones(len(job.features), int), job.text_options.rows,
                        multiple=multiple)[:options.rows]
  texts = tiles.blocks([len(p) for p in job.prompts.text_prefixes],
                       job.video_options.rows, job.video_options.max_padding,
                       multiple)
  texts = sorted(texts, key=lambda block: -len(block.index))[:options.rows]
  return (np.concatenate([block.index for block in videos]),
          np.concatenate([block.index for block in texts]))


def _open(shape, rows):
  """A matrix in which only `rows` are to be scored."""
  matrix = np.zeros(shape, np.float32)
  matrix[rows] = np.nan
  return matrix


def _captions(job, rows):
  shape = len(job.features), len(job.prompts.labels)
  return likelihood.score_texts(
      job.model, job.params, job.mesh, job.prompts, job.features,
      job.text_options, _open(shape, rows))


def _clips(job, rows):
  shape = len(job.prompts.labels), len(job.features)
  return likelihood.score_videos(
      job.model, job.params, job.mesh, job.prompts, job.features,
      job.vocabulary, job.video_options, _open(shape, rows))


def _text_prior(job):
  return likelihood.text_priors(
      job.model, job.params, job.mesh, job.prompts, job.text_options)[1]


def _video_prior(job):
  return likelihood.video_priors(
      job.model, job.params, job.mesh, job.prompts, job.features,
      job.vocabulary, job.video_options)[2]


def full_passes(options, mesh):
  """A few pairs as the authors' code scores them, from the start each time."""
  preset = presets.PRESETS[options.scoring_preset]
  n_videos, n_texts = FULL_PASSES
  job = scoring.Job(
      types.SimpleNamespace(share=True, text_tile=None, video_tile=None),
      preset, scoring.init_params(preset.vlm, mesh), mesh,
      presets.prompts(preset.vlm, presets.captions(
          n_texts, preset.vlm.decoder.vocab_size)), n_videos)
  def run():
    reference.score(job.model, job.params, mesh, job.prompts, job.features,
                    job.vocabulary, job.text_options)
    return n_videos * n_texts
  first, _ = _timed(run)
  taken, pairs = _timed(run)
  return [{'name': 'four full passes of each pair', 'seconds': taken,
           'first_seconds': first, 'count': pairs, 'unit': 'pairs'}]
