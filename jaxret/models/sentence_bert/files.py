"""sentence-transformers' directories of BERT models: what says how they embed.

modules.json lists what a text goes through: the transformer beside it, pooling,
and perhaps a norm, which an embedding of ours always has.
"""
import json

import jax

from jaxret import foreign_files
from jaxret.models import bert, config_fields, encoder_names, model_files
from jaxret.models.sentence_bert import model as model_lib

TRANSFORMER, POOLING, NORMALIZE = 'Transformer', 'Pooling', 'Normalize'
# The switches of the Pooling module that are implemented. Divided by the root
# of the length a sum has the direction of the mean.
MODES = {'mean_tokens': 'mean', 'mean_sqrt_len_tokens': 'mean',
         'cls_token': 'first', 'lasttoken': 'last', 'max_tokens': 'max'}
NAMES = {'mean': 'mean', 'mean_sqrt_len_tokens': 'mean', 'cls': 'first',
         'lasttoken': 'last', 'max': 'max'}  # of newer files
POOL = config_fields.Fields(
    sizes={'word_embedding_dimension': None, 'embedding_dimension': None,
           'pooling_mode': None,
           **{f'pooling_mode_{mode}': False for mode in MODES}},
    only={'include_prompt': (True,),
          'pooling_mode_weightedmean_tokens': (False,)})
READ = config_fields.Fields(
    sizes={'max_seq_length': None, 'do_lower_case': False},
    only={'transformer_task': ('feature-extraction', None),
          'module_output_name': ('token_embeddings', None),
          'unpad_inputs': (None, False)},
    harmless=('modality_config', 'processing_kwargs', 'method_output_name'))


def read_config(name, **numerics):
  """The SentenceBertConfig of a directory or hub model.

  numerics: fields of EncoderConfig. Raises ValueError, naming the file, for
  what a text does not go through here.
  """
  path, _ = model_files.read_json(name, bert.MODEL_TYPES)
  _, sizes = bert.open_bert(name, **numerics)
  directory = path.parent
  pooling_file = directory / _modules(directory)[POOLING] / 'config.json'
  pooling = _pooling(pooling_file, sizes.encoder.width)
  read = _optional(directory / 'sentence_bert_config.json', READ)
  most = read['max_seq_length']
  if most is not None and (type(most) is not int or not (
      2 < most <= sizes.max_tokens)):
    raise ValueError(
        f'{directory / "sentence_bert_config.json"}: got max_seq_length = '
        f'{most!r}, want 3 to {sizes.max_tokens}, which the model has '
        'positions for: correct the file')
  return model_lib.SentenceBertConfig(
      sizes, pooling, most or sizes.max_tokens, read['do_lower_case'],
      _prompt(directory))


def _optional(path, fields):
  part = foreign_files.read_object(path) if path.is_file() else {}
  return config_fields.read(path, part, fields)


def _modules(directory):
  """{kind: directory} of modules.json: a transformer, pooling, maybe a norm."""
  path = directory / 'modules.json'
  if not path.is_file():
    raise ValueError(
        f'{path}: no such file, which says how a text encoder is pooled; want '
        'a model as sentence-transformers saves it')
  try:
    found = json.loads(path.read_bytes())
  except (ValueError, RecursionError) as error:
    raise foreign_files.refusal(path, f'not JSON ({error})') from error
  if not isinstance(found, list) or not all(
      isinstance(one, dict) and isinstance(one.get('type'), str)
      and isinstance(one.get('path'), str) for one in found):
    raise ValueError(f'{path}: want a list of modules with type and path: '
                     'correct the file')
  kinds = [one['type'].rpartition('.')[2] for one in found]
  wanted = [TRANSFORMER, POOLING]
  if kinds not in (wanted, [*wanted, NORMALIZE]) or found[0]['path']:
    raise ValueError(
        f'{path}: got {", ".join(kinds)}; want {", ".join(wanted)} and perhaps '
        f'{NORMALIZE}, the first in the directory itself: use another model')
  return {kind: one['path'] for kind, one in zip(kinds, found)}


def _pooling(path, width):
  """One of model.POOLINGS, of the file of the Pooling module."""
  part = foreign_files.read_object(path)
  fields = config_fields.read(path, part, POOL)
  modes = [kind for mode, kind in MODES.items()
           if fields[f'pooling_mode_{mode}']]
  if fields['pooling_mode'] is not None:
    modes.append(NAMES.get(fields['pooling_mode'], ''))
  if len(modes) != 1 or not modes[0]:
    said = {key: value for key, value in part.items()
            if key.startswith('pooling_mode') and value}
    raise ValueError(f'{path}: got {said}, want one of mean, cls, max and '
                     'lasttoken: use another model')
  for field in ('word_embedding_dimension', 'embedding_dimension'):
    if fields[field] not in (None, width):
      raise ValueError(f'{path}: got {field} = {fields[field]}, want '
                       f'that of the model, {width}: correct the file')
  return modes[0]


def _prompt(directory):
  """What stands before a text by default."""
  path = directory / 'config_sentence_transformers.json'
  whole = foreign_files.read_object(path) if path.is_file() else {}
  name = whole.get('default_prompt_name')
  if name is None:
    return ''
  prompt = config_fields.section(path, whole, 'prompts').get(name)
  if not isinstance(prompt, str):
    raise ValueError(f'{path}: got default_prompt_name = {name!r}, want one of '
                     'its prompts: correct the file')
  return prompt


def load(name, config, mesh):
  """The weights of a directory or hub model, on the mesh: {'params': ...}.

  Raises ValueError for tensors that are left over, missing, of another shape,
  or not finite.
  """
  abstract = jax.eval_shape(
      lambda key: model_lib.init(config, key), jax.random.key(0))
  return model_files.load(name, encoder_names.BERT, abstract, mesh)
