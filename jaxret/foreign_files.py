"""What stands where a file of a model should: said in one line.

A clone without git-lfs, a page of a web site that was saved, a download that
ended early, weights of other formats, an adapter in a model's place.
"""
import json
import os
import pathlib
from typing import Any, NoReturn

ADAPTER = 'adapter_config.json'
CONVERT = ('convert them with transformers: '
           '`AutoModel.from_pretrained(DIR).save_pretrained(NEW)`')
ZERO = 'run `python zero_to_fp32.py DIR NEW --safe_serialization` there'
# (pattern of files, whose they are, what to do): weights that are not read.
FORMATS = (
    ('pytorch_model*.bin', "PyTorch's pickles", CONVERT),
    ('*.gguf', 'GGUF', CONVERT),
    ('zero_to_fp32.py', "DeepSpeed's parts", ZERO),
    ('*/*.distcp', "FSDP's parts",
     'join them with `accelerate merge-weights DIR NEW`'),
    ('*.pth', "PyTorch's pickles", CONVERT),
    ('*.pt', "PyTorch's pickles", CONVERT),
    ('tf_model*.h5', "TensorFlow's weights", CONVERT),
    ('flax_model*.msgpack', "Flax's weights", CONVERT),
    ('*.onnx', 'ONNX', 'take the model that it was made from'))


def read_object(path: str | os.PathLike) -> dict[str, Any]:
  """The JSON object in a file.

  Raises ValueError naming the file for what is no JSON object.
  """
  path = pathlib.Path(path)
  if path.exists() and not path.is_file():  # a pipe would be waited for
    raise refusal(path, 'not a file')
  content = path.read_bytes()
  try:
    found = json.loads(content)
  except (ValueError, RecursionError) as error:
    raise refusal(path, f'not JSON ({error})') from error
  if not isinstance(found, dict):
    raise ValueError(f'{path}: got a JSON {type(found).__name__}, want an '
                     'object {...}: download it again')
  return found


def refusal(path: pathlib.Path, reason: str) -> ValueError:
  """The error for a file that cannot be read, in one line.

  reason: what is said where nothing known stands in its place.
  """
  if not path.is_file():
    return ValueError(f'{path}: {"not a file" if path.exists() else "missing"}'
                      '; download it again')
  with path.open('rb') as file:
    start = file.read(512).lstrip(b'\xef\xbb\xbf \t\r\n').lower()
  if start.startswith(b'version https://git-lfs'):
    return ValueError(f'{path}: a git-lfs pointer, not the file itself; run '
                      '`git lfs pull` in its directory')
  if start.startswith((b'<!doctype', b'<html', b'<?xml', b'<head')):
    reason = 'a web page (HTML), not the file itself'
  elif not start:
    reason = 'an empty file'
  return ValueError(f'{path}: {reason}; download it again')


def refuse_without_weights(
    name: str | os.PathLike, path: pathlib.Path, stem: str) -> NoReturn:
  """Raises ValueError for a directory without safetensors of a stem."""
  want = (f'{path}: got no {stem}.safetensors and no '
          f'{stem}.safetensors.index.json')
  for pattern, what, advice in FORMATS:
    found = sorted(file.name for file in path.glob(pattern))
    if found:
      more = f' and {len(found) - 1} more' if len(found) > 1 else ''
      raise ValueError(f'{want}, but {found[0]}{more} ({what}), which is not '
                       f'read; {advice}')
  others = sorted(file.name for file in path.glob('*.safetensors'))
  if others:
    raise ValueError(f'{want}, but {others[0]}; give it that name if it holds '
                     'the weights')
  if path != pathlib.Path(name).expanduser():
    raise ValueError(f'{want}: hub model {name} holds no safetensors, and '
                     f'other formats are not read; {CONVERT}')
  raise ValueError(f'{want}; want safetensors: convert other formats first')


def refuse_adapter(name: str | os.PathLike, path: pathlib.Path) -> None:
  """Raises ValueError for a directory with an adapter in a model's place.

  Next to weights as well: transformers loads such a directory as the adapter
  on its base, whatever else is there.
  """
  file = path / ADAPTER
  if not file.is_file():
    return
  adapter = read_object(file)
  base = adapter.get('base_model_name_or_path')
  kind = adapter.get('peft_type') or 'PEFT'
  use = f"jaxret.load({base or 'BASE'!r}, adapter={str(name)!r})"
  beside = sorted(file.name for file in path.glob('*.safetensors')
                  if not file.name.startswith('adapter'))
  if beside:
    raise ValueError(
        f'{name}: holds {ADAPTER} beside {beside[0]}, and which of the two is '
        f'meant is not to be seen: {use} for the adapter on its base, '
        'or the weights alone in a directory of their own')
  raise ValueError(
      f'{name}: an adapter ({kind}) of {base or "an unnamed base"}, no model: '
      f'load its base and give this as adapter: {use}')
