"""Config files: where they are found, how one is read, what its fields mean.

A config file is Python with `get_config()` or `get_config(variant)`, which
gives an ml_collections.ConfigDict; `VARIANTS`, {variant: a line about it}, says
which there are. The files of this package are found wherever it is installed;
a local file of the same name comes first.
"""
import ast
import contextlib
import difflib
import importlib.util
import io
import pathlib
import re
import sys
import tokenize
import types


def shipped():
  """The folder of the configs that come with the package."""
  package = pathlib.Path(__file__).parent
  inside = package / 'configs'  # in a wheel; in a clone it lies beside it
  return inside if inside.is_dir() else package.parent / 'configs'


def find(name):
  """The path of a config file: as given, or of ours where it is not there."""
  path = pathlib.Path(name)
  if not path.is_file() and path.parent == pathlib.Path('configs'):
    ours = shipped() / path.name
    return ours if ours.is_file() else path
  return path


def listed(folder='configs'):
  """{name as --config takes it: path} of all config files of a folder.

  Of `configs` those that come with the package, too.
  """
  folder = pathlib.Path(folder)
  folders = [folder] + [shipped()] * (folder == pathlib.Path('configs'))
  found = {}
  for place in folders:
    for path in sorted(place.glob('*.py')):
      if is_config(path):
        found.setdefault(str(folder / path.name), path)
  return dict(sorted(found.items()))


def is_config(path):
  """Whether a file has a get_config; those that configs share have none."""
  return re.search(r'^(def get_config\b|get_config *=|from .* import .*'
                   r'\bget_config\b)', path.read_text('utf-8-sig'), re.M
                   ) is not None


def variants(path):
  """{variant: a line about it} of a config file, None where it says none."""
  with importable(path):
    return getattr(_module(path), 'VARIANTS', None)


def load(spec):
  """get_config() of 'file.py' or get_config(variant) of 'file.py:variant'.

  Raises ValueError for a file that is not there, and one line for what fails
  in it.
  """
  name, _, variant = spec.partition(':')
  path = find(name)
  if not path.is_file():
    folder = pathlib.Path(name).parent
    others = list(listed(folder if folder.is_dir() else 'configs'))
    raise ValueError(f'no config file {name!r}' + suggest(
        name, others, others))
  if not is_config(path):
    raise ValueError(f'{name} has no get_config(): it is no config file')
  try:
    with importable(path):
      return _module(path).get_config(*([variant] if variant else []))
  except (ImportError, SyntaxError, TypeError, LookupError, NameError,
          AttributeError) as error:
    raise ValueError(f'config {spec!r} fails with {type(error).__name__}: '
                     f'{error}') from error


def _module(path):
  spec = importlib.util.spec_from_file_location('config', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@contextlib.contextmanager
def importable(path):
  """Lets a config file import its neighbours and ours, wherever we start.

  REPOSITORY/configs/x.py says `from configs import common`: that is a file
  beside it, or ours, whatever else is installed by the name of `configs`.
  """
  root, before = pathlib.Path(path).resolve().parents[1], _imported()
  for name in before:
    del sys.modules[name]
  if not (root / 'configs' / '__init__.py').is_file():
    package = sys.modules['configs'] = types.ModuleType('configs')
    package.__path__ = [str(folder) for folder in (
        root / 'configs', pathlib.Path('configs').absolute(), shipped())]
  # In a wheel that is jaxret itself, whose modules are nobody's neighbours.
  roots = [str(root)] if root != pathlib.Path(__file__).resolve().parent else []
  sys.path[:0] = roots
  try:
    yield
  finally:
    for one in roots:
      sys.path.remove(one)
    for name in _imported():
      del sys.modules[name]
    sys.modules.update(before)


def _imported():
  """{name: module} of `configs` and what was imported from it."""
  return {name: module for name, module in sys.modules.items()
          if name.split('.')[0] == 'configs'}


def suggest(name, known, otherwise=()):
  """'; did you mean ...?', or what there is, or nothing."""
  by_end = {key.rpartition('.')[2]: key for key in known}
  close = difflib.get_close_matches(name, known, 1) or [
      by_end[end] for end in difflib.get_close_matches(
          name.rpartition('.')[2], by_end, 1)]
  if close:
    return f'; did you mean {close[0]!r}?'
  return f'; there is {", ".join(otherwise)}' if otherwise else ''


def fields(config, prefix=''):
  """{dotted key: value} of a ConfigDict; a section without fields is one."""
  found = {}
  for name in config:
    value = config[name]
    if hasattr(value, 'keys') and len(value):
      found |= fields(value, f'{prefix}{name}.')
    else:
      found[prefix + name] = value
  return found


def describe(path, config):
  """The fields of a config file's config, one paragraph each, as text."""
  said, lines = Comments(path), []
  for key, value in fields(config).items():
    comment = said.of(key)
    lines.append(f'{key} ({type(value).__name__}, {value!r})\n'
                 + (f'    {comment}\n' if comment else ''))
  return ''.join(lines)


class Comments:
  """What the source of a config file and of its imports says of fields.

  A field is a key of a dict, or an attribute that is assigned; its comment is
  beside it or above it. Which section a dict is, is told by the function it
  stands in: see configs/common.py.

  said: {dotted key: comment} of keys; assigned: the same of attributes, which
  may say why a value changes and not what it means.
  """

  def __init__(self, path):
    self.said, self.assigned = {}, {}
    self._sections = {}  # a section -> the functions that give one
    for source in _sources(path):
      self._read(source)

  def of(self, key):
    """The comment on a dotted key, '' where there is none.

    Sections that change others, like the stages of a run, have the comments of
    the fields that they change.
    """
    parts = key.split('.')
    for start in range(len(parts)):
      own = parts[start:]
      if start and len(own) == 1 and self._has(parts[0]):
        return ''  # a bare name is of the config, not of any section
      for said in (self.said, self.assigned):
        for path in self.paths(own):
          if path in said:
            return said[path]
    return ''

  def _has(self, section):
    return any(path.startswith(f'{section}.') for path in self.said)

  def paths(self, parts):
    """The key, and what it is where a function gives one of its sections."""
    yield '.'.join(parts)
    for end in range(len(parts) - 1, 0, -1):
      for section in self._sections.get('.'.join(parts[:end]), ()):
        yield '.'.join((section, *parts[end:]))

  def _read(self, source):
    with tokenize.open(source) as file:
      text = file.read()
    comments = _comments(text)
    for node in ast.parse(text).body:
      if isinstance(node, ast.FunctionDef):
        whole = node.name.startswith('base') or any(
            one.arg == 'config' for one in node.args.args)
        for inner in ast.walk(node):
          self._statement(inner, [] if whole else [node.name], comments)
      elif isinstance(node, ast.Assign) and isinstance(
          node.targets[0], ast.Name) and isinstance(node.value, ast.Dict):
        self._dict(node.value, [node.targets[0].id.lower()], comments)

  def _statement(self, node, prefix, comments):
    if isinstance(node, ast.Return):
      self._value(node.value, prefix, comments)
    elif isinstance(node, ast.Assign) and len(node.targets) == 1:
      path = _path(node.targets[0], prefix)
      if path != prefix:
        self._say(self.assigned, path, comments(node, node.value))
      self._value(node.value, path, comments)
    elif (isinstance(node, ast.Call) and node.args
          and isinstance(node.func, ast.Attribute)
          and node.func.attr == 'update'):
      self._value(node.args[0], _path(node.func.value, prefix), comments)

  def _value(self, node, path, comments):
    """A dict, ConfigDict of one, or the name of what is one elsewhere."""
    if isinstance(node, ast.Dict):
      self._dict(node, path, comments)
    elif isinstance(node, ast.Call):
      name = ast.unparse(node.func).rpartition('.')[2]
      if name == 'ConfigDict' and node.args:
        self._value(node.args[0], path, comments)
      elif path not in ([], [name]):
        self._sections.setdefault('.'.join(path), []).append(name)
    elif isinstance(node, ast.Name) and path:
      self._sections.setdefault('.'.join(path), []).append(node.id.lower())

  def _dict(self, node, path, comments):
    for key, value in zip(node.keys, node.values):
      if key is None:  # **function()
        self._value(value, path, comments)
      elif isinstance(key, ast.Constant):
        self._say(self.said, [*path, key.value], comments(key, value))
        self._value(value, [*path, key.value], comments)

  def _say(self, said, path, comment):
    if comment:
      said.setdefault('.'.join(path), comment)


def _sources(path):
  """The file and those of `configs` that it imports in turn, itself first."""
  found, todo = [], [pathlib.Path(path)]
  while todo:
    source = todo.pop(0)
    if not source.is_file() or source in found:
      continue
    found.append(source)
    for node in ast.parse(source.read_bytes()).body:
      if isinstance(node, ast.ImportFrom) and node.module == 'configs':
        for alias in node.names:
          beside = source.with_name(f'{alias.name}.py')
          todo.append(beside if beside.is_file() else shipped() / beside.name)
  return found


def _path(node, prefix):
  """['data', 'sizes'] of config.data.sizes; a bare name is the prefix."""
  names = []
  while isinstance(node, ast.Attribute):
    names.insert(0, node.attr)
    node = node.value
  return [*prefix, *names]


def _comments(text):
  """(key, value) -> the comment beside them, or in the lines above, or ''."""
  # Split at newlines alone, and in bytes: so Python numbers lines and columns.
  lines = text.encode().split(b'\n')
  beside = {}
  for token in tokenize.generate_tokens(io.StringIO(text).readline):
    if token.type == tokenize.COMMENT:
      beside[token.start[0]] = token.string.lstrip('# ')

  def alone(number):
    return number in beside and lines[number - 1].lstrip().startswith(b'#')

  def comment(key, value):
    number, end = key.lineno, value.end_lineno
    after = lines[end - 1][value.end_col_offset:].partition(b'#')[0]
    if lines[number - 1][:key.col_offset].strip() or after.strip(b' \r,)}]'):
      return ''  # on a line with other keys: it may be theirs
    for place in (number, *[end] * (not isinstance(value, ast.Dict))):
      if place in beside:
        return beside[place]
    above = []
    while alone(number := number - 1):
      above.insert(0, beside[number])
    return ' '.join(above)

  return comment
