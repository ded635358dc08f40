"""Rehearses LECCR on accelerators that are not at hand: config.task='plan'.

The training step of each model and a batch of descriptions are compiled at full
size, see jaxret.rehearsal. Of checkpoints only config.json is read.
"""
import dataclasses
import functools

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxret import input_speed, rehearsal, sharding, tpu_slices
from jaxret.data import media, types
from jaxret.data.qwen2_vl import reader as reader_lib
from jaxret.data.sets import nrccr
from jaxret.methods.leccr import captioner, examples, run
from jaxret.methods.leccr import method as leccr
from jaxret.models import bert, clip, generation
from jaxret.models import decoder as decoder_lib
from jaxret.models.qwen2_vl import model as qwen2_vl
from jaxret.scoring.likelihood import abstract


def plan(config, workdir):
  """Prints a table per slice and writes it to plan.json; returns its content.

  Raises ValueError for a slice that the compiler does not know, or where
  libtpu is not installed.
  """
  run.check_config(config)
  described = describer_of(config)
  parts = tpu_slices.open_all(config.plan)
  stages = {stage.row: build(stage.config)  # of one language; all are alike
            for stage in run.stages(config, workdir)
            if stage.config.data.languages == config.data.languages[:1]}
  batches = {row: example_of(model) for row, model in stages.items()}
  languages = len(config.data.languages)
  job = count_job(stages, batches, described, languages)
  works = [functools.partial(rehearse_training, row, stages[row], batches[row])
           for row in stages]
  if described:
    works.append(functools.partial(rehearse_describing, described))
  own = stages[run.evaluator.MAIN_ROW]
  slices = rehearsal.slices_of(
      own, parts, works, job, count_inputs(own, job, languages))
  return rehearsal.publish(config, job, slices, workdir)


def build(config):
  """The rehearsal.Model of a config; of checkpoints the sizes alone are read.
  """
  m = config.model
  if not (m.text_pretrained or m.vocab_size):
    raise ValueError('model.vocab_size is 0, from the tokenizer: task '
                     "'plan' reads none, set it")
  tokenizer = rehearsal.word_tokenizer(m.vocab_size)
  method = leccr.method(config, tokenizer, sizes_of(config, tokenizer))
  return rehearsal.Model(config, method, jax.eval_shape(
      method.init, jax.random.key(0)))


def sizes_of(config, tokenizer):
  """leccr.model_config, of checkpoints whose weights are not there."""
  plain = config.copy_and_resolve_references().unlock()
  m = plain.model
  numerics = {'dtype': m.dtype, 'param_dtype': m.param_dtype, 'remat': m.remat,
              'attention': m.get('attention', 'xla')}
  text, vision = m.text_pretrained, m.vision_pretrained
  m.text_pretrained = m.vision_pretrained = ''
  sizes = leccr.model_config(plain, tokenizer)
  if text:
    sizes = dataclasses.replace(sizes, text=bert.read_config(text, **numerics))
  if vision and sizes.vision:
    found = clip.read_config(vision, numerics)
    sizes = dataclasses.replace(
        sizes, visual_width=found.embedding_width, vision=dataclasses.replace(
            found.vision, image_px=m.image_px))
  return sizes


def example_of(model):
  """(example, constants) of a caption with its visual and description."""
  config, p = model.config, model.config.plan
  def words(count):
    return ' '.join(['a'] * count)
  caption = types.Item('caption', text=words(p.caption_words))
  split = nrccr.ParallelSplit(
      'plan', 'train', (types.Item('visual'),), (caption,),
      np.zeros(1, np.int32), translations=(caption,),
      descriptions=(words(p.description_words),) * bool(config.model.slots))
  px = config.model.image_px
  visuals = _Visuals(
      np.zeros((p.frames, config.model.visual_width), np.float32)
      if config.model.frame_layers else np.zeros((px, px, 3), np.uint8))
  made = examples.ParallelExamples(
      lambda text: [1, *[0] * len(text.split()), 2], split, visuals,
      leccr.loss_weights(config.loss), dict(config.data.tokens))
  return made[0], made.constants


class _Visuals:
  """One visual, again and again."""

  def __init__(self, visual):
    self._visual, self.longest = visual, len(visual)

  def __getitem__(self, index):
    return self._visual


def count_job(stages, batches, described, languages):
  """Minimal FLOPs of {'training ...': ..., 'describing': ...}.

  Each model is trained for every language.
  """
  job = {}
  for row, model in stages.items():
    example, _ = batches[row]
    job[f'training {row}'] = captions_of(model, languages) * (
        model.method.train_flops({
            name: np.asarray(value)[None] for name, value in example.items()}))
  if described:
    _, sizes, example, _ = described
    p, length = model.config.plan, int(example['length'])
    slices = [n for row in example['segments'] for n in np.bincount(row)[1:]]
    written = p.description_words
    attention = functools.partial(decoder_lib.attention_flops, sizes.decoder)
    job['describing'] = p.media * (
        qwen2_vl.flops(sizes, length, slices) + written * (
            decoder_lib.flops_per_token(sizes.decoder)
            + decoder_lib.head_flops(sizes.decoder))
        + attention(length + written) - attention(length))
  return job


def captions_of(model, languages):
  """How many captions a model is trained on, in all languages."""
  config, train = model.config, model.config.train
  return languages * (
      train.steps * train.batch_size or train.epochs * config.plan.train_pairs)


def count_inputs(model, job, languages):
  """{job: input_speed.Input} of what is read for it, measured here."""
  config, p = model.config, model.config.plan
  if config.model.frame_layers:
    return {}  # features from a file
  item = input_speed.medium(1, p.px)
  each = input_speed.core_seconds(functools.partial(
      media.load_frames, item, 1, config.model.image_px))
  def items(name):
    return p.media if name == 'describing' else captions_of(model, languages)
  return {name: input_speed.Input(items(name), each) for name in job}


def describer_of(config):
  """(section, sizes, example, abstract parameters) of what describes.

  None where nothing is described. The example is a prompt about an image.
  """
  if config.data.descriptions or not config.model.slots:
    return None
  section = ConfigDict(config.captioner.to_dict())
  if section.model.family == 'videochat_flash':
    raise ValueError("captioner.model.family is 'videochat_flash': task 'plan' "
                     'rehearses qwen2_vl alone')
  tokenizer = rehearsal.word_tokenizer(section.model.vocab_size)
  sizes, reader = (part(section, tokenizer)
                   for part in (captioner.model_config, captioner.reader))
  image = np.zeros((*config.plan.px, 3), np.uint8)
  seen = reader(types.Item('plan.px', image=image))
  arrays = reader.pad([seen], captioner.shape(section) or reader_lib.shape_of(
      len(seen.tokens), seen.grids))
  return section, sizes, {name: array[0] for name, array in arrays.items()}, (
      jax.eval_shape(functools.partial(qwen2_vl.init, sizes),
                     jax.random.key(0)))


def rehearse_training(row, stage, batch, model, part, mesh, accumulation):
  """{'training ...': ...} of a model, on the mesh that its batch fills."""
  del model, mesh, accumulation
  example, constants = batch
  return {f'training {row}': rehearsal.training_step(
      stage, part, *rehearsal.layout(stage.config, part), example,
      {name: ((), value.dtype) for name, value in constants.items()})}


def rehearse_describing(described, model, part, mesh, _):
  """{program: ...} of a batch of images: its prompts, and what is written.

  A host describes its share on its own chips.
  """
  section, sizes, example, params = described
  part = tpu_slices.one_host(part)
  mesh = sharding.make_mesh(devices=part.devices)
  weights, shards = sharding.abstract(mesh, params), sharding.batch_shards(mesh)
  rows, module = -(-section.batch_size // shards) * shards, sizes.module()
  with jax.set_mesh(mesh):
    lowered = jax.jit(functools.partial(module.apply, method='start')).lower(
        weights, rehearsal.batch_of(example, rows, mesh))
  compiled, use = tpu_slices.compile_for(
      part, lowered, f'prompts of {rows} images', weights)
  found = {'prompts': rehearsal.describe(
      use, weights, (), (), rehearsal.proposed(
          use, part, 'captioner.batch_size', rows, shards), size=rows)}
  if not use.fits:
    return found
  read = abstract.outputs(lowered, compiled)
  with jax.set_mesh(mesh):
    lowered = jax.jit(functools.partial(
        generation.continued, module, section.max_new_tokens, (1,))).lower(
            weights, *read)
  _, use = tpu_slices.compile_for(
      part, lowered, f'{section.max_new_tokens} tokens of {rows} images',
      (weights, read))
  return found | {'describing': rehearsal.describe(
      use, weights, (), read, rehearsal.proposed(
          use, part, 'captioner.batch_size', rows, shards), size=rows,
      largest=shards * tpu_slices.about_largest(
          rows // shards, use, 1024, part))}
