"""Workdirs with checkpoints of random parameters, as if they were trained."""
import pathlib

import jax
import numpy as np

from configs import qwen3_vl as qwen3_vl_media
from jaxret import checkpoint, main, methods, optim, sharding
from jaxret.data import text
from jaxret.data.llava import prompts
from jaxret.methods.leccr import run as leccr_run
from tests import tiny_cross_lingual, tiny_mm_embed, tiny_unite

_GOLDEN = pathlib.Path(__file__).parent / 'golden'
QWEN3_VL, QWEN25_VL = (_GOLDEN / name / 'model'
                       for name in ('qwen3_vl', 'qwen25_vl'))
_TOKEN = qwen3_vl_media.TOKEN
SEEN = {'image': (_TOKEN, 6 * _TOKEN), 'frame': (_TOKEN, 4 * _TOKEN),
        'max_frames': 4, 'listed_px': 32}


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


def qwen3_vl_config():
  """UNITE with LoRA on a tiny Qwen3-VL."""
  config = tiny_unite.with_lora(tiny_unite.make_config())
  config.model.update(pretrained=str(QWEN3_VL), position_mode='mrope')
  config.media = qwen3_vl_media.media()
  config.media.update(SEEN)
  config.data.max_tokens = 400
  return config


def unite_on_qwen3_vl(directory):
  return workdir(directory, qwen3_vl_config(), text.load_tokenizer(QWEN3_VL))


def unite_on_qwen25_vl(directory):
  """With LoRA, its own prompt and M-RoPE; media in time."""
  config = tiny_unite.with_lora(tiny_unite.make_config())
  config.model.update(pretrained=str(QWEN25_VL), position_mode='mrope',
                      vocab_size=0)
  return workdir(directory, config, text.load_tokenizer(QWEN25_VL))


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
