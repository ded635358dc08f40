"""What UNITE trains: a Qwen2-VL, a Qwen2.5-VL or a Qwen3-VL, as weights say.

The first two are given UNITE's prompt, or that of another recipe, the last that
of Qwen3-VL-Embedding. What depends on the backbone is here.
"""
import dataclasses

from jaxret import models
from jaxret.data import recipes
from jaxret.data.qwen2_vl import pixels as qwen2_vl_pixels
from jaxret.data.qwen2_vl import prompts as qwen2_vl_prompts
from jaxret.data.qwen2_vl import reader as qwen2_vl_reader
from jaxret.data.qwen3_vl import pixels as qwen3_vl_pixels
from jaxret.data.qwen3_vl import reader as qwen3_vl_reader
from jaxret.methods import base
from jaxret.models.qwen2_vl import model as qwen2_vl
from jaxret.models.qwen3_vl import model as qwen3_vl


def read(config, **numerics):
  """The sizes that `config.model.pretrained` has; see files.read_config.

  Raises ValueError for a model of another kind, or a field that has no effect
  on it.
  """
  m = config.model
  files = models.files_of(m.pretrained, models.TRAINED_WINGS)
  model = files.read_config(m.pretrained, m.position_mode, **numerics).config
  # Configs of old work directories have no such fields.
  prompt, pooling = m.get('prompt', ''), m.get('pooling', 'last')
  if not _is_qwen3_vl(model):
    return files.without_absent_head(
        m.pretrained, dataclasses.replace(model, pooling=pooling))
  for name, value, only in (('prompt', prompt, ''), ('pooling', pooling, 'last')
                            ):
    if value != only:
      raise ValueError(f'model.{name} = {value!r} has no effect on Qwen3-VL, '
                       'which is prompted and read as Qwen3-VL-Embedding is: '
                       'leave it out')
  return model


def _is_qwen3_vl(model):
  return isinstance(model, qwen3_vl.Qwen3VlConfig)


def init(model, key):
  """Random parameters {'params': ...}.

  Those on Qwen2-VL have an output head if the model has, which nothing reads:
  work directories hold it.
  """
  if _is_qwen3_vl(model):
    return qwen3_vl.init(model, key, head=False)
  return qwen2_vl.init(model, key)


def load(directory, model, mesh):
  """The same as a directory or hub model has them, on the mesh."""
  files = models.files_of(directory, models.TRAINED_WINGS)
  return files.load(directory, model, mesh, head=not _is_qwen3_vl(model))


def template(config):
  """The prompts.Template that `model.prompt` names or is; '' = UNITE's.

  Raises ValueError for what is neither.
  """
  # Configs of old work directories have no such field.
  prompt = config.model.get('prompt', '') or 'unite'
  if prompt in recipes.RECIPES:
    return recipes.RECIPES[prompt].prompt
  if prompt.count('{content}') != 1:
    raise ValueError(
        f'model.prompt is {prompt!r}: use one of {", ".join(recipes.RECIPES)}, '
        'or a text with {content} once where an item is to stand')
  return qwen2_vl_prompts.template(prompt)


def resolution(config):
  """The Resolution that `config.media` is the section of."""
  wing = qwen3_vl_pixels if 'image' in config.media else qwen2_vl_pixels
  return wing.resolution(config.media)


def open_reader(config, model, tokenizer, cache_bytes=0):
  """What turns Items into tokens and patches; model: as `read` gives it.

  Raises ValueError for media as another backbone sees them.
  """
  seen, is_qwen3_vl = resolution(config), _is_qwen3_vl(model)
  if isinstance(seen, qwen3_vl_pixels.Resolution) != is_qwen3_vl:
    raise ValueError(
        f'media has the fields {", ".join(sorted(config.media)[:3])}, ..., '
        f'which a {model.name} has not: start from configs/unite.py:stage1'
        f'{"_qwen3vl" if is_qwen3_vl else ""}')
  if is_qwen3_vl:
    qwen3_vl_reader.check(model, config.data.max_tokens)
    return qwen3_vl_reader.Reader(
        tokenizer, seen, config.data.max_tokens, trim_text=True,
        cache_bytes=cache_bytes, alpha=base.alpha(config))
  return qwen2_vl_reader.Reader(
      tokenizer, seen, config.data.max_tokens, cache_bytes=cache_bytes,
      mrope=model.position_mode == 'mrope', alpha=base.alpha(config),
      layout=qwen2_vl_reader.layout_of(model), template=template(config))
