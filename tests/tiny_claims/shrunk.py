"""The experiments that are listed, with tiny models, for a step or two."""
import dataclasses

from jaxret.claims import listed
from tests import (
  finished_runs,
  tiny_cross_lingual,
  tiny_embedding,
  tiny_mm_embed,
  tiny_runs,
)

_EMBEDDING = {
    name: value for name, value in {
        **tiny_embedding.MODEL, **tiny_embedding.SIZES}.items()
    if not name.startswith('pairs.')}
# By the config file.
_TINY = {
    'blim': {**tiny_runs.TINY, **{f'data.sizes.{split}': size for split, size
                                  in tiny_runs.SIZES.items()}},
    'answers': {**finished_runs.ANSWERS, 'eval.captions': 0},
    'leccr': {**tiny_cross_lingual.MODEL, **tiny_cross_lingual.SIZES, **{
        f'captioner.{name}': value
        for name, value in tiny_cross_lingual.CAPTIONER.items()}},
    'unite': {**_EMBEDDING, 'data.sizes.train': 120, 'data.images.train': 60,
              'data.sizes.validation': 40, 'data.images.validation': 24},
    'mm_embed': {
        **{name: value for name, value in tiny_mm_embed.FIELDS.items()
           if name != 'hard.train.steps'},
        'data.images.validation': 24, 'data.texts.validation': 8},
}
# Of sections that one experiment alone has.
_STEPS = {'unite_stages': ('stage1.train.steps', 'one_stage.train.steps'),
          'unite_grains': ('coarse.train.steps', 'fine_after.train.steps'),
          'mm_embed': tuple(f'{row}.train.steps' for row in (
              'hard', 'any_modality', 'right_modality', 'random_mined'))}


def shrunk(found: listed.Listed, **changed) -> listed.Listed:
  """changed: fields of the configs besides, dots in place of __."""
  more = {name.replace('__', '.'): value for name, value in changed.items()}
  return listed.Listed(found.claims, {
      name: dataclasses.replace(one, change={
          **one.change, **_TINY[one.config.partition(':')[0]],
          **dict.fromkeys(_STEPS.get(name, ()), 2), **more})
      for name, one in found.experiments.items()})


def of_claim(name: str) -> listed.Listed:
  """One claim and what it needs."""
  found = listed.read()
  claim, = [one for one in found.claims if one.id == name]
  own = listed.Listed((claim,), found.experiments).of_papers([claim.paper])
  # A rate at which a few steps change what is found.
  return shrunk(own, optim__learning_rate=0.02)
