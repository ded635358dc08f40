"""Workdirs with checkpoints of random parameters, as if they were trained."""
import jax
import numpy as np

from jaxret import checkpoint, main, methods, optim, sharding
from jaxret.data import text
from jaxret.data.llava import prompts
from jaxret.methods.leccr import run as leccr_run
from tests import tiny_cross_lingual, tiny_mm_embed, tiny_unite


def workdir(directory, config, tokenizer):
  """(directory, parameters) of a run of `config` with one checkpoint."""
  method = methods.get(config.method).method(config, tokenizer)
  made = method.load or (lambda key, mesh: jax.jit(method.init)(key))
  params = made(jax.random.key(0), sharding.make_mesh())
  random = np.random.default_rng(0)
  params = jax.tree.map(  # factors of LoRA start with zeros, norms with ones
      lambda leaf: leaf + 0.1 * random.normal(size=leaf.shape).astype(
          leaf.dtype), params) if method.load is None else {
              **params, 'lora': jax.tree.map(
                  lambda leaf: leaf + 0.1 * random.normal(
                      size=leaf.shape).astype(np.float32), params['lora'])}
  checkpoint.claim_workdir(directory, config)
  trained = optim.partition(params, method.trainable)[0]
  with checkpoint.Checkpoints(directory / 'checkpoints') as checkpoints:
    checkpoints.save(1, {'trainable': trained}, {'step': 1})
  return directory, params


def unite(directory, **fields):
  """A UNITE from scratch, or with LoRA on model.pretrained."""
  config = tiny_unite.make_config()
  if fields.get('model.pretrained'):
    tiny_unite.with_lora(config)
  config.update_from_flattened_dict(fields)
  tokenizer = tiny_unite.tokenizer()
  if not config.model.pretrained:
    config.model.tokenizer = tiny_unite.tokenizer_directory()
  return workdir(directory, config, tokenizer)


def mm_embed(directory, **fields):
  """An MM-Embed from scratch, its tokenizer in the workdir."""
  config = main.load_config(str(tiny_mm_embed.CONFIG))
  config.update_from_flattened_dict({**tiny_mm_embed.FIELDS, **fields})
  config.update({'before': (), 'starts_from': '', 'negatives': ''})
  config.data.update(shape=(), candidate_shape=())
  tokenizer = text.train_tokenizer(
      ['a red square', 'a blue circle moves'], 400, directory / 'tokenizer',
      prompts.CONTROL_TOKENS)
  return workdir(directory, config, tokenizer)


def leccr(directory, **fields):
  """(workdir of the model of German, its parameters) of a LECCR."""
  config = main.load_config(str(tiny_cross_lingual.CONFIG))
  config.update_from_flattened_dict({
      **tiny_cross_lingual.MODEL, 'data.languages': ('de',), 'compare': (),
      **fields})
  text.train_tokenizer(['ein rotes Quadrat', 'ein blauer Kreis'], 600,
                       directory / 'tokenizer')
  stage = leccr_run.stages(config, directory)[-1]
  return workdir(stage.directory, stage.config, text.load_tokenizer(
      directory / 'tokenizer'))
