"""PEFT's adapter_config.json: what it says of each module of a model.

Every field is read, known to be harmless, or refused by name where its value
asks for something; so is a field that we have never heard of.
"""
import math
import re
from typing import Any, NamedTuple

from jaxret import foreign_files

FILE = foreign_files.ADAPTER
READ = frozenset((
    'peft_type', 'r', 'lora_alpha', 'use_rslora', 'rank_pattern',
    'alpha_pattern', 'target_modules', 'exclude_modules', 'layers_to_transform',
    'layers_pattern', 'modules_to_save', 'trainable_token_indices', 'bias',
    'use_dora', 'lora_bias', 'init_lora_weights'))
# (field, why no value of it changes what a trained adapter computes)
HARMLESS = (
    ('auto_mapping', 'names classes'),
    ('base_model_name_or_path', 'a name; the shapes are compared'),
    ('corda_config', 'of the initial values alone, see INITIAL'),
    ('ensure_weight_tying', 'ties the output head, which no embedder reads'),
    ('eva_config', 'of the initial values alone'),
    ('fan_in_fan_out', 'PEFT takes it back for layers such as ours'),
    ('inference_mode', 'of gradients'),
    ('loftq_config', 'of the initial values alone, see INITIAL'),
    ('lora_dropout', 'of training'),
    ('lora_ga_config', 'of the initial values alone, see INITIAL'),
    ('megatron_core', 'counts with megatron_config, which is refused'),
    ('peft_version', 'who wrote it'),
    ('qalora_group_size', 'counts with use_qalora, which is refused'),
    ('revision', 'a name'),
    ('runtime_config', 'of memory'),
    ('task_type', 'of the class around the model'),
)
# Values of init_lora_weights that leave the base as it is. The others (PiSSA,
# OLoRA, CorDA, LoftQ, LoRA-GA) change it, and the file does not say by what.
INITIAL = (True, False, 'gaussian', 'eva', 'orthogonal', 'mica')
BIASES = ('none', 'all', 'lora_only')
ELSE = 'merge this adapter into its model with PEFT first'
RANK, ALPHA = 8, 8  # PEFT's defaults


class AdapterConfig(NamedTuple):
  """path: of the file, for messages; fields: what it holds, as it is."""
  path: str
  fields: dict[str, Any]


def read(path):
  """The AdapterConfig of a file.

  Raises:
    ValueError: for a file that is missing or no JSON, and for a field whose
      value is not implemented.
  """
  if not path.exists():
    raise ValueError(f'{path}: no such file; want a directory that PEFT wrote')
  config = AdapterConfig(str(path), foreign_files.read_object(path))
  _check(config)
  return config


def scale(config, module, rank):
  """What multiplies the factors of a module: alpha / rank, or / sqrt(rank).

  module: its name as the file has it; rank: of its factors. Raises ValueError
  for a rank that the config does not say.
  """
  fields = config.fields
  want = _of_pattern(fields.get('rank_pattern'), module, fields.get('r', RANK))
  if rank != want:
    raise ValueError(f'{config.path} says rank {want} of {module}, its factors '
                     f'have {rank}: the two files are not of one adapter')
  alpha = _of_pattern(fields.get('alpha_pattern'), module,
                      fields.get('lora_alpha', ALPHA))
  return alpha / (math.sqrt(rank) if fields.get('use_rslora') else rank)


def targets(config, module, linear=True):
  """Whether the config asks for factors of a module; None = it does not say.

  linear: whether it is a linear layer, which 'all-linear' asks.
  """
  fields = config.fields
  wanted, excluded = fields.get('target_modules'), fields.get('exclude_modules')
  if wanted is None:
    return None
  if excluded and _names(excluded, module):
    return False
  if any(re.match(rf'(^|.*\.){name}($|\..*)', module)
         for name in fields.get('modules_to_save') or ()):
    return False
  if isinstance(wanted, str) and wanted.lower() == 'all-linear':
    return linear
  if isinstance(wanted, str) or module in wanted:
    return _names(wanted, module)
  return _names(wanted, module) and _in_layers(fields, module)


def saves(config, module):
  """Those of modules_to_save that a module is, or is a part of."""
  return [name for name in config.fields.get('modules_to_save') or ()
          if re.fullmatch(rf'.*{re.escape(name)}(\..*)?', module)]


def token_indices(config, module):
  """The trainable_token_indices of an embedding, a list; None without."""
  indices = config.fields.get('trainable_token_indices')
  if isinstance(indices, dict):
    return next((rows for name, rows in indices.items()
                 if module == name or module.endswith(f'.{name}')), None)
  return indices


def _check(config):
  path, fields = config
  _check_value(config, 'peft_type', ('LORA',))
  harmless = {field for field, _ in HARMLESS}
  for field, value in fields.items():
    if field not in READ and field not in harmless and value:
      raise ValueError(f'{path}: got {field} = {value!r}, which is not '
                       f'implemented: {ELSE}')
  _check_value(config, 'bias', BIASES)
  _check_value(
      config, 'init_lora_weights', INITIAL, '; it changes the base model, so '
      'that these factors are not of the published one: save it from PEFT with '
      'path_initial_model_for_weight_conversion, or merge it there')
  for field, default in (('r', RANK), ('lora_alpha', ALPHA)):
    patterns = fields.get('rank_pattern' if field == 'r' else 'alpha_pattern')
    for name, number in {'': fields.get(field, default),
                         **(patterns or {})}.items():
      _check_number(path, f'{field} of {name}' if name else field, number,
                    whole=field == 'r')


def _check_value(config, field, known, otherwise=f': {ELSE}'):
  got = config.fields.get(field, known[0])
  # By type as well: 1 is not True here.
  if not any(got == want and type(got) is type(want) for want in known):
    raise ValueError(
        f'{config.path}: got {field} = {got!r}, want '
        f'{" or ".join(map(repr, known))}, the only ones implemented'
        f'{otherwise}')


def _check_number(path, name, number, whole):
  kinds = int if whole else (int, float)
  if isinstance(number, bool) or not isinstance(number, kinds) or not (
      math.isfinite(number) and number > 0):
    raise ValueError(f'{path}: got {name} = {number!r}, want a '
                     f'{"whole " if whole else "finite "}number above 0')


def _of_pattern(patterns, module, default):
  """The value of the first pattern that names a module."""
  return next((value for name, value in (patterns or {}).items()
               if re.match(rf'(.*\.)?({name})$', module)), default)


def _names(pattern, module):
  """Whether a regex, or one of a list of endings, names a module."""
  if isinstance(pattern, str):
    return bool(re.fullmatch(pattern, module))
  return any(module == name or module.endswith(f'.{name}') for name in pattern)


def _in_layers(fields, module):
  """Whether a module is in one of layers_to_transform, if there are any."""
  wanted, patterns = (fields.get(name) for name in (
      'layers_to_transform', 'layers_pattern'))
  if wanted is None or wanted == []:
    return True
  patterns = [patterns] if isinstance(patterns, str) else patterns
  starts = ([rf'(?:^|.*?\.){pattern}' for pattern in patterns] if patterns
            else [r'.*?\.[^.]*'])
  found = [re.match(rf'{start}\.(\d+)\.', module) for start in starts]
  layers = [int(match[1]) for match in found if match][:1]
  return bool(layers) and layers[0] in (
      [wanted] if isinstance(wanted, int) else wanted)
