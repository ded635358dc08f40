"""What directories of published models share: config.json, names, weights."""
import pathlib

from jaxret import foreign_files, sharding
from jaxret.models import config_fields, pretrained

# Of transformers 4 and 5; the last holds the others as sections.
PIXEL_FILES = ('preprocessor_config.json', 'video_preprocessor_config.json',
               'processor_config.json')
PIXELS = {'do_convert_rgb': (True,), 'do_normalize': (True,),
          'do_rescale': (True,), 'do_resize': (True,),
          'rescale_factor': (1 / 255,), 'resample': (3,)}  # bicubic


def read_json(name, model_types=()):
  """(path, contents) of the config.json of a directory or hub model.

  Raises ValueError for none, for an adapter in its place, for a kind that is
  not among `model_types` where there are any, and for quantized weights.
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
  config_fields.check_not_quantized(path, whole)
  return path, whole


def check_pixels(directory, implemented):
  """Raises ValueError if images are to be made otherwise than we make them.

  Args:
    directory: of a model, whose files of its image processor are read, if any.
    implemented: {field: the values that we implement}, besides PIXELS. How
      large images are is an option of ours and no field of theirs.
  """
  for name in PIXEL_FILES:
    path = directory / name
    if path.is_file():
      whole = foreign_files.read_object(path)
      for part in (whole, *(x for x in whole.values() if isinstance(x, dict))):
        for field, values in {**PIXELS, **implemented}.items():
          if part.get(field) is not None:
            config_fields.check_value(f'{path}: ', field, part[field], values)


def load(name, table, abstract, mesh, tied=False, generates=False):
  """{'params': ...} as `abstract` wants them, of the tensors in `table`.

  Parts of the table under roots that `abstract` has not stay unread. tied,
  generates: as for pretrained.load, whose errors it raises.
  """
  params, _ = pretrained.load(
      pretrained.open_checkpoint(name), table, abstract['params'],
      sharding.shardings(mesh, abstract)['params'], tied, generates)
  return {'params': params}
