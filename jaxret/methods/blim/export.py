"""BLiM in the layout of VideoChat-Flash, its own heads in the same file."""
from jaxret.methods import base
from jaxret.models import model_files, names, pretrained, weight_files


def has_layout(config):
  """Whether it was trained on a VideoChat-Flash.

  From scratch, or on a model that continues prompts, it has a visual head that
  no file of the Hub has a place for.
  """
  return bool(config.model.pretrained) and (
      config.model.get('backbone', 'blim') == 'blim')


def exported(config, tokenizer, params):
  """See base.Exported. What the base has not, a visual head and its projector,
  stands under the names that model.pretrained reads it by."""
  table, origin = names.VIDEOCHAT_FLASH, config.model.pretrained
  found = weight_files.tensors(table, params['params'])
  known = weight_files.by_table(pretrained.open_checkpoint(origin), table)
  extra = {key: tensor for key, tensor in found.items() if key not in known}
  _, whole = model_files.read_json(origin)
  return base.Exported(
      'transformers', {'': base.Part(
          table, _without(params['params'], table, extra), origin,
          extra=extra)}, {}, {}, whole.get(
              'model_type', 'videochat_flash'), 'load_generator')


def _without(params, table, keys, path=''):
  """The parameters less those of some keys."""
  gone = {weight.path for weight in table if weight.key in keys}
  made = {}
  for name, value in params.items():
    place = f'{path}{name}'
    if isinstance(value, dict):
      if inner := _without(value, table, keys, f'{place}/'):
        made[name] = inner
    elif place not in gone:
      made[name] = value
  return made
