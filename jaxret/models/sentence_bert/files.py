"""sentence-transformers' directories of BERT models: what says how they embed.

modules.json lists what a text goes through: the transformer beside it, pooling,
perhaps a linear layer, and perhaps a norm, which an embedding of ours always
has.
"""
import json

import jax

from jaxret import foreign_files
from jaxret.models import bert, config_fields, encoder_names, model_files
from jaxret.models.names import Weight
from jaxret.models.sentence_bert import model as model_lib

TRANSFORMER, POOLING, NORMALIZE = 'Transformer', 'Pooling', 'Normalize'
DENSE = 'Dense'
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

LINEAR = config_fields.Fields(
    sizes={'in_features': 0, 'out_features': 0, 'bias': True,
           'activation_function': 'torch.nn.modules.activation.Tanh'},
    only={'use_residual': (False,),
          'module_input_name': ('sentence_embedding',),
          'module_output_name': ('sentence_embedding', None)})
ACTIVATIONS = {'torch.nn.modules.linear.Identity': 'identity',
               'torch.nn.modules.activation.Tanh': 'tanh'}
# Of the linear layer's own file.
DENSE_NAMES = (Weight('text_head/kernel', 'linear.weight', 'transpose'),
               Weight('text_head/bias', 'linear.bias'))


def read_config(name, **numerics):
  """The SentenceBertConfig of a directory or hub model.

  numerics: fields of EncoderConfig. Raises ValueError, naming the file, for
  what a text does not go through here.
  """
  path, _ = model_files.read_json(name, bert.MODEL_TYPES)
  _, sizes = bert.open_bert(name, **numerics)
  directory, modules = path.parent, _modules(path.parent)
  pooling_file = directory / modules[POOLING] / 'config.json'
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
      _prompt(directory),
      _dense(directory / modules[DENSE] / 'config.json', sizes.encoder.width)
      if DENSE in modules else None)


def _optional(path, fields):
  part = foreign_files.read_object(path) if path.is_file() else {}
  return config_fields.read(path, part, fields)


def _modules(directory):
  """{kind: directory} of modules.json: a transformer, pooling, maybe more."""
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
  more = kinds[2:]
  if kinds[:2] != wanted or found[0]['path'] or more not in (
      [], [NORMALIZE], [DENSE], [DENSE, NORMALIZE]):
    raise ValueError(
        f'{path}: got {", ".join(kinds)}; want {", ".join(wanted)} and perhaps '
        f'{DENSE} and {NORMALIZE}, the first in the directory itself: use '
        'another model')
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


def _dense(path, width):
  """The model.Dense of the file of a Dense module."""
  fields = config_fields.read(path, foreign_files.read_object(path), LINEAR)
  activation = fields['activation_function']
  if fields['in_features'] != width or fields['out_features'] < 1:
    raise ValueError(
        f'{path}: got in_features = {fields["in_features"]} and out_features = '
        f'{fields["out_features"]}, want {width}, the width of the model, and '
        'one at least: correct the file')
  if activation not in ACTIVATIONS:
    raise ValueError(f'{path}: got activation_function = {activation!r}, want '
                     f'one of {", ".join(ACTIVATIONS)}: use another model')
  return model_lib.Dense(
      fields['out_features'], fields['bias'], ACTIVATIONS[activation])


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
  params = abstract['params']
  encoder = {root: tree for root, tree in params.items() if root != 'text_head'}
  loaded = model_files.load(
      name, encoder_names.BERT, {'params': encoder}, mesh)
  if config.dense:
    directory = model_files.read_json(name, bert.MODEL_TYPES)[0].parent
    loaded['params'] |= model_files.load(
        directory / _modules(directory)[DENSE], DENSE_NAMES,
        {'params': {'text_head': params['text_head']}}, mesh)['params']
  return loaded
