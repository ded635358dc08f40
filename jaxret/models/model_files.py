"""What directories of published models share: config.json, names, weights."""
import json

from jaxret import sharding
from jaxret.models import config_fields, pretrained


def read_json(name, model_types=()):
  """(path, contents) of the config.json of a directory or hub model.

  Raises ValueError for none, for a kind that is not among `model_types` where
  there are any, and for a model whose weights are quantized.
  """
  path = pretrained.find_model(name) / 'config.json'
  if not path.exists():
    raise ValueError(f'{path}: no such file; want the directory of a model')
  whole = read_file(path)
  if model_types and whole.get('model_type') not in model_types:
    raise ValueError(f'{path}: got model_type {whole.get("model_type")!r}, '
                     f'want {" or ".join(model_types)}: use another model')
  config_fields.check_not_quantized(path, whole)
  return path, whole


def read_file(path):
  """The object that a JSON file holds; a ValueError names the file."""
  try:
    whole = json.loads(path.read_text(encoding='utf-8-sig'))
  except ValueError as error:  # of its bytes, too
    raise ValueError(f'{path} is not valid JSON ({error}): download it again'
                     ) from None
  if not isinstance(whole, dict):
    raise ValueError(f'{path}: got a {type(whole).__name__}, want an object: '
                     'name the directory of a model')
  return whole


def load(name, table, plain, abstract, mesh):
  """{'params': ...} as `abstract` wants them, of the tensors in `table`.

  Parts of the table under roots that `abstract` has not stay unread. plain:
  (a tensor's name, old or new) -> the name in the table. Raises ValueError as
  pretrained.load does, and for a tensor that is there by both names.
  """
  checkpoint = pretrained.open_checkpoint(name)
  tensors = {plain(key): tensor for key, tensor in checkpoint.tensors.items()}
  if len(tensors) != len(checkpoint.tensors):
    raise ValueError(f'{checkpoint.source}: some tensors are there twice, by '
                     'the older and the newer name; want one of each')
  params, _ = pretrained.load(
      checkpoint._replace(tensors=tensors), table, abstract['params'],
      sharding.shardings(mesh, abstract)['params'])
  return {'params': params}
