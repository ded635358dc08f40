"""How embedders that are trained on Qwen2-VL and Qwen2.5-VL are used.

A checkpoint has the files of its backbone and does not say how its authors
prompt it. Sources: UNITE, golden data made with the authors' code. GME, the
authors' script gme_inference.py. GVE, the model in MTEB, whose recall on the
authors' own split is that of the paper with it.
"""
import math
from typing import NamedTuple

from jaxret.data.qwen2_vl import pixels as qwen2_vl
from jaxret.data.qwen2_vl import prompts
from jaxret.data.qwen25_vl import pixels as qwen25_vl

_TOKEN = qwen2_vl.TOKEN_PX ** 2
# An instruction is the system's turn, and media stand before the text.
_INSTRUCTED = prompts.Template(
    prompts.conversation([('system', '{instruction}'), ('user', '{content}')])
    + prompts.POOLED, instruction=prompts.SYSTEM, between='')
# A video stands before an image.
_GVE = _INSTRUCTED._replace(kinds=('video', 'image'))


class Recipe(NamedTuple):
  """Options of jaxret.load; model_types: what it is of."""
  model_types: tuple[str, ...]
  prompt: prompts.Template
  position_mode: str
  resolution: qwen2_vl.Resolution
  max_tokens: int
  pooling: str = 'last'


RECIPES = {
    'unite': Recipe(('qwen2_vl',), prompts.UNITE, 'sequential',
                    qwen2_vl.Resolution(), 2048),
    'gme': Recipe(('qwen2_vl',), _INSTRUCTED, 'sequential',
                  qwen2_vl.Resolution(), 1800),
    'gve': Recipe(('qwen2_5_vl',), _GVE, 'mrope', qwen25_vl.Resolution(
        read_video=(4 * _TOKEN, 200 * _TOKEN), video_total=math.inf,
        max_frames=32), 4096),
}


def options(name, model_type):
  """{option of jaxret.load: value} of a recipe for a model of this type.

  Raises ValueError for a name that is not known or a model of another type.
  """
  if name not in RECIPES:
    raise ValueError(f'recipe {name!r} is unknown; want one of '
                     f'{", ".join(RECIPES)}, or give prompt, pooling and '
                     'position_mode yourself')
  recipe = RECIPES[name]
  if model_type not in recipe.model_types:
    raise ValueError(f'recipe {name!r} is of {" or ".join(recipe.model_types)}'
                     f', got a model of type {model_type}: want the recipe of '
                     'that model')
  return {field: value for field, value in recipe._asdict().items()
          if field != 'model_types'}
