"""Runs one task of one config.

  python -m jaxret.main --config=configs/M.py[:variant] [--workdir=DIR]
      [--config.train.batch_size=64 ...]

`config.task` says what is done. A rerun with the same workdir goes on where
the last one stopped. Bad input is answered by one line and exit code 1.
"""
import contextlib
import difflib
import importlib.util
import os
import pathlib
import re
import sys

from absl import flags, logging
from ml_collections import config_flags

from jaxret import methods


def main(argv=None):
  """Runs the command line `argv` (default sys.argv); returns an exit code."""
  argv = list(sys.argv if argv is None else argv)
  debug = '--debug' in argv
  flags.FLAGS.mark_as_parsed()  # ours are in `options`; absl asks these
  logging.use_absl_handler()
  logging.set_verbosity(logging.INFO)
  logging.get_absl_handler().addFilter(_is_ours_or_a_warning)
  try:
    config, options = parse(argv)
    if config is None:
      print(f'{__doc__}\nFlags:\n{options.get_help()}')
      return 0
    task = find_task(config)
    start_jax(options)
    workdir = options.workdir or default_workdir(options['config'])
    task(config, workdir)
    return 0
  except KeyboardInterrupt as error:
    code, message = 130, str(error) or 'interrupted'
  except (ValueError, OSError) as error:
    if debug:
      raise
    code, message = 1, str(error)
  print(f'jaxret: {one_line(message)}', file=sys.stderr, flush=True)
  return code


def _is_ours_or_a_warning(record):
  """Libraries log every step of theirs; ours alone tell the story of a run."""
  ours = pathlib.Path(__file__).parent in pathlib.Path(record.pathname).parents
  return ours or record.levelno >= logging.converter.STANDARD_WARNING


def parse(argv):
  """(config, flags) of a command line, or (None, flags) for --help.

  Raises ValueError for a missing config file, an unknown variant, an unknown
  flag or config key, or a value of the wrong type.
  """
  options = flags.FlagValues()
  config_flags.DEFINE_config_file(
      'config', help_string='Config file, with :variant if wanted.',
      flag_values=options, sys_argv=argv)
  for name, text in (
      ('workdir', 'Where results go; default workdirs/<config>[-variant].'),
      ('coordinator', 'host:port of process 0, for several processes.')):
    flags.DEFINE_string(name, None, text, flag_values=options)
  for name in ('num_processes', 'process_id'):
    flags.DEFINE_integer(name, None, 'For several processes.',
                         flag_values=options)
  flags.DEFINE_bool('distributed', False, 'Several processes on a cluster that '
                    'JAX can ask for them (Slurm, TPU pods).',
                    flag_values=options)
  flags.DEFINE_bool('debug', False, 'Tracebacks for all errors.',
                    flag_values=options)
  if {'--help', '-h', '-help', '--helpfull'} & set(argv):
    return None, options
  spec = _check_keys(argv)
  try:
    with _importable(spec):
      rest = options(argv)
      config = options.config
  except (flags.Error, AttributeError, KeyError, TypeError) as error:
    raise ValueError(str(error.args[0]).partition('. Currently')[0]) from error
  if rest[1:]:
    raise ValueError(f'unexpected argument {rest[1]!r}: flags start with --')
  _check_tuples(options)
  return config, options


def load_config(spec):
  """get_config() of 'file.py' or get_config(variant) of 'file.py:variant'."""
  path, _, variant = spec.partition(':')
  path = pathlib.Path(path)
  if not path.is_file():
    folder = path.parent if path.parent.is_dir() else pathlib.Path('configs')
    others = [str(other) for other in sorted(folder.glob('*.py'))]
    raise ValueError(f'no config file {str(path)!r}' + suggest(
        str(path), others, others))
  module_spec = importlib.util.spec_from_file_location('config', path)
  module = importlib.util.module_from_spec(module_spec)
  try:
    with _importable(spec):
      module_spec.loader.exec_module(module)
      return module.get_config(*([variant] if variant else []))
  except (ImportError, SyntaxError, TypeError, LookupError,
          AttributeError) as error:
    raise ValueError(f'config {spec!r} fails with {type(error).__name__}: '
                     f'{error}') from error


@contextlib.contextmanager
def _importable(spec):
  """Lets REPOSITORY/configs/x.py import `configs`, wherever we are started."""
  root = str(pathlib.Path(spec.partition(':')[0]).resolve().parents[1])
  sys.path.insert(0, root)
  try:
    yield
  finally:
    sys.path.remove(root)


def _check_keys(argv):
  """The --config given; ValueError when a --config.key is not in it."""
  given = re.compile(r'--?(?:no)?config(?:\.([^=]+))?(?:=(.*))?$')
  matches = [(i, given.match(argument)) for i, argument in enumerate(argv)]
  matches = [(i, match) for i, match in matches if match]
  specs = [match[2] if match[2] is not None else ''.join(argv[i + 1:i + 2])
           for i, match in matches if match[1] is None]
  if not specs or not specs[-1]:
    raise ValueError('no config given: use --config=configs/NAME.py[:variant]')
  known = _keys(load_config(specs[-1]))
  for _, match in matches:
    if match[1] is not None and match[1] not in known:
      raise ValueError(f'config has no key {match[1]!r}'
                       + suggest(match[1], known))
  return specs[-1]


def _keys(config, prefix=''):
  """All dotted keys of a ConfigDict, those of sections too."""
  keys = []
  for name in config:
    keys.append(prefix + name)
    if hasattr(config[name], 'keys'):
      keys += _keys(config[name], f'{prefix}{name}.')
  return keys


def _check_tuples(options):
  """Raises ValueError when a tuple was given elements of another type."""
  for name in options:
    default, value = options[name].default, options[name].value
    if not name.startswith('config.') or not isinstance(default, list):
      continue
    wanted = {type(element) for element in default}
    if float in wanted:
      wanted.add(int)
    if wanted and not {type(element) for element in value} <= wanted:
      raise ValueError(f'--{name} got {tuple(value)!r}, wanted a tuple like '
                       f'{tuple(default)!r}')


def suggest(name, known, otherwise=()):
  """'; did you mean ...?', or what there is, or nothing."""
  by_end = {key.rpartition('.')[2]: key for key in known}
  close = difflib.get_close_matches(name, known, 1) or [
      by_end[end] for end in difflib.get_close_matches(
          name.rpartition('.')[2], by_end, 1)]
  if close:
    return f'; did you mean {close[0]!r}?'
  return f'; there is {", ".join(otherwise)}' if otherwise else ''


def find_task(config):
  """The function of `config.task`; its module is imported by the call."""
  name = config.get('task', 'train_and_evaluate')
  tasks = tuple(methods.package(config.method).TASKS)
  if name not in tasks:
    raise ValueError(f'unknown task {name!r}{suggest(name, tasks, tasks)}')
  def task(config, workdir):
    return methods.task(config.method, name)(config, workdir)
  return task


def start_jax(options):
  """Joins the other processes, before anything touches a device."""
  from jaxret import process_settings, sharding
  process_settings.keep_freed_memory()
  sharding.start(options.coordinator, options.num_processes,
                 options.process_id, options.distributed)


def default_workdir(config_flag):
  """'configs/blim.py:folder' -> 'workdirs/blim-folder'."""
  path, _, variant = config_flag.config_filename.partition(':')
  name = pathlib.Path(path).stem
  return os.path.join('workdirs', f'{name}-{variant}' if variant else name)


def one_line(message):
  """A message of many lines as one; of a traceback, what it ends with."""
  return ' '.join(str(message).split())


def _exit(code):
  """Ends the process; a failure must not wait for the other processes."""
  if code and 'jax' in sys.modules:
    import jax
    if jax.distributed.is_initialized():
      sys.stdout.flush()
      sys.stderr.flush()
      os._exit(code)
  sys.exit(code)


if __name__ == '__main__':
  _exit(main())
