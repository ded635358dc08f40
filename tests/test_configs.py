"""The config files: every field said, old values kept, variants refused."""
import json
import pathlib

import pytest

from jaxret import checkpoint, config_files

ROOT = pathlib.Path(__file__).resolve().parents[1]
OLD = 'blim', 'leccr', 'mm_embed', 'unite'  # whose workdirs there are
FILES = 'answers', *OLD
# What embedders are trained on besides plain contrast: nothing, by default.
OBJECTIVES = {
    'eval.truncate_dim': 0, 'pairs.aligned': False,
    'loss.false_negative_margin': 2.0,
    'loss.matryoshka_dims': [], 'loss.matryoshka_weights': [],
    'loss.distillation_weight': 0.0, 'loss.distillation_temperature': 1.0}
ADDED = {
    'blim': {}, 'leccr': {},
    'unite': OBJECTIVES | {
        'loss.graded': '', 'loss.graded_temperature': 0.05,
        'data.grains': [], 'model.prompt': '', 'model.pooling': 'last'},
    'mm_embed': OBJECTIVES | {
        'data.subsets': [], 'mine.negatives': 1, 'mine.teacher': False,
        'mine.strategy': 'modality_aware',
        'rerank.choose_on': 'validation',
        'rerank.weights': [0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5]}}
# Sections that say what a training changes.
STAGES = ('start', 'random', 'hard', 'any_modality', 'right_modality',
          'random_mined', 'stage1', 'plain', 'one_stage', 'video_text',
          'image_text', 'text_text', 'coarse', 'fine_after', 'without_slots',
          'without_softened_matching')


def path_of(name):
  return ROOT / 'configs' / f'{name}.py'


def variants(name):
  return config_files.variants(path_of(name))


def load(name, variant=''):
  return config_files.load(f'{path_of(name)}:{variant}')


SPECS = [(name, variant) for name in FILES for variant in variants(name)]


@pytest.mark.parametrize('name, variant', SPECS)
def test_every_field_has_a_comment(name, variant):
  said = config_files.Comments(path_of(name))
  fields = config_files.fields(load(name, variant))
  assert [key for key in fields if len(said.of(key)) < 5] == []


@pytest.mark.parametrize('name', FILES)
def test_every_key_is_beside_or_below_a_comment_of_its_own(name):
  """A comment on another section's field of that name would hide a lack."""
  said = config_files.Comments(path_of(name))
  lacking = [key for key in config_files.fields(load(name))
             if key.split('.')[0] not in STAGES and not any(
                 own in (said.said | said.assigned)
                 for own in said.paths(key.split('.')))]
  assert lacking == []


@pytest.mark.parametrize('name', OLD)
def test_fields_are_those_of_before_less_the_removed(name):
  """tests/old_configs: as the parent of this change wrote config.json."""
  old = checkpoint.plain_config(json.loads(
      (ROOT / 'tests' / 'old_configs' / f'{name}.json').read_text()))
  new = checkpoint.plain_config(load(name))
  removed = set(checkpoint.REMOVED_FIELDS.get(name, ()))
  if name != 'blim':
    plans = {key for key in (*old, *new) if key.startswith('plan.')}
    new = {key: value for key, value in new.items() if key not in plans}
    removed |= plans & set(old)
  if name in ('unite', 'mm_embed'):
    removed.add('data.extract_batch_size')  # both are free: they bind nothing
  assert removed <= set(old)
  retuned = json.loads((ROOT / 'tests' / 'old_configs' / 'retuned.json'
                        ).read_text())  # values that were meant to change
  added = {'data.alpha': 'white', 'data.strict': False,
           'data.max_pixels': 89478485, 'eval.embed_media': False,
           'log.to': []} | (
      {} if name == 'leccr' else {'model.attention': 'xla'}) | (
          {'rerank.alpha': 'white'} if name == 'mm_embed' else {}) | (
              {'data.allow_outside': False, 'data.fetch': [],
               'data.subsets': [], **{f'data.columns.{column}': '' for column in
                                      ('image', 'video', 'caption', 'id',
                                       'split')},
               **{f'data.splits.{split}': ''
                  for split in ('train', 'validation', 'test')}}
              if 'data.train_on_all' in new else {})
  assert new == added | ADDED[name] | {
      key: value for key, value in old.items() if key not in removed
  } | retuned.get(name, {}) | (
      {'eval.agreement': 0.0, 'eval.bound_slack': 0.0,
       'eval.exact_directions': ['text_to_video', 'video_to_text'],
       'eval.exact_topk': 0, 'eval.instruction': '', 'eval.invariant': False,
       'eval.prior': 'mask', 'model.backbone': 'blim', 'plan.frames': 16,
       'plan.px': [480, 640]} if name == 'blim' else {})


@pytest.mark.parametrize('name', FILES)
def test_an_unknown_variant_is_refused_with_those_there_are(name):
  for wrong in ('nonsense', 'released_', '_'):
    with pytest.raises(ValueError, match=f"no variant '{wrong}'") as error:
      load(name, wrong)
    assert all(variant in str(error.value) for variant in variants(name))
