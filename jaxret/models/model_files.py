"""What directories of published models share: config.json, names, weights."""
import pathlib

from jaxret import foreign_files, sharding
from jaxret.models import pretrained


def read_json(name, model_types=()):
  """(path, contents) of the config.json of a directory or hub model.

  Raises ValueError for none, for an adapter in its place, and for a kind that
  is not among `model_types` where there are any.
  """
  directory = pretrained.find_model(name)
  foreign_files.refuse_adapter(name, directory)
  path = directory / 'config.json'
  if not path.is_file():
    if directory != pathlib.Path(name).expanduser():
      raise ValueError(
          f'hub model {name}: holds no config.json; want a model as '
          'transformers saves it: GGUF and other formats are not read')
    inner = sorted(file.parent.name for file in directory.glob('*/config.json'))
    found = f', as {inner[-1]} in it is' if inner else ''
    raise ValueError(
        f'{path}: no such file; want the directory of a model{found}')
  whole = foreign_files.read_object(path)
  if model_types and whole.get('model_type') not in model_types:
    raise ValueError(f'{path}: got model_type {whole.get("model_type")!r}, '
                     f'want {" or ".join(model_types)}: use another model')
  return path, whole


def check_supported(path, part, table):
  """Raises ValueError for a value of config.json that is not implemented.

  table: of (key, the value that we implement, what it means).
  """
  for key, want, meaning in table:
    if part.get(key, want) != want:
      raise ValueError(f'{path}: got {key} = {part[key]!r} ({meaning}), want '
                       f'{want!r}, the only one implemented: use another model')


def load(name, table, abstract, mesh, tied=False, generates=False):
  """{'params': ...} as `abstract` wants them, of the tensors in `table`.

  Parts of the table under roots that `abstract` has not stay unread. tied,
  generates: as for pretrained.load, whose errors it raises.
  """
  params, _ = pretrained.load(
      pretrained.open_checkpoint(name), table, abstract['params'],
      sharding.shardings(mesh, abstract)['params'], tied, generates)
  return {'params': params}
