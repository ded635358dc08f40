"""Runs one task of one config.

  python -m jaxret.main --config=configs/M.py[:variant] [--workdir=DIR]
      [--config.train.batch_size=64 ...]

`config.task` says what is done. A rerun with the same workdir goes on where
the last one stopped. Bad input is answered by one line and exit code 1.
`--config=configs/M.py[:variant] --help` says what its fields mean.
"""
import contextlib
import copy
import logging as py_logging
import os
import pathlib
import re
import signal
import sys
import threading

from absl import flags, logging
from ml_collections import config_flags

from jaxret import config_files, methods
from jaxret.config_files import suggest

load_config = config_files.load


def main(argv=None):
  """Runs the command line `argv` (default sys.argv); returns an exit code."""
  argv = list(sys.argv if argv is None else argv)
  debug = '--debug' in argv
  log_plainly()
  try:
    if {'--help', '-h', '-help', '--helpfull'} & set(argv):
      print(help_text(argv))
      return 0
    config, options = parse(argv)
    task = find_task(config)
    start_jax(options)
    workdir = options.workdir or default_workdir(options['config'])
    from jaxret import provenance, workdir_lock
    with (workdir_lock.held(workdir), terminated_as_interrupted(),
          provenance.timed(workdir)):
      task(config, workdir)
    return 0
  except KeyboardInterrupt as error:
    code, message = 130, str(error) or (
        'interrupted; what was finished is kept: rerun with the same workdir '
        'to go on')
  except (ValueError, OSError) as error:
    if debug:
      raise
    code, message = 1, str(error)
  print(f'jaxret: {one_line(message)}', file=sys.stderr, flush=True)
  return code


def log_plainly():
  """The story of a run on standard error, without that of libraries."""
  flags.FLAGS.mark_as_parsed()  # ours are in `options`; absl asks these
  logging.use_absl_handler()
  logging.set_verbosity(logging.INFO)
  logging.get_absl_handler().addFilter(_is_ours_or_a_warning)
  logging.get_absl_handler().setFormatter(_Plain('%(asctime)s %(message)s',
                                                 '%H:%M:%S'))


@contextlib.contextmanager
def terminated_as_interrupted():
  """SIGTERM, where nothing else answers it, ends a run as Ctrl-C does.

  With several processes JAX's preemption service listens to it.
  """
  import jax
  if (jax.process_count() > 1
      or threading.current_thread() is not threading.main_thread()):
    yield
    return
  old = signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, old)


class _Plain(py_logging.Formatter):
  """The time and the message; of a warning or an error that it is one."""

  def format(self, record):
    if record.levelno >= py_logging.WARNING:
      record = copy.copy(record)
      record.msg = f'{record.levelname.lower()}: {record.msg}'
    return super().format(record)


def _is_ours_or_a_warning(record):
  """Libraries log every step of theirs; ours alone tell the story of a run."""
  ours = pathlib.Path(__file__).parent in pathlib.Path(record.pathname).parents
  return ours or record.levelno >= logging.converter.STANDARD_WARNING


def help_text(argv):
  """What there is to say of the flags, or of the fields of a config given."""
  specs = [spec for _, spec in _configs(argv)]
  if specs and specs[-1]:
    return config_files.describe(
        config_files.find(specs[-1].partition(':')[0]), load_config(specs[-1]))
  return f'{__doc__}\nFlags:\n{define_flags(argv).get_help()}'


def parse(argv):
  """(config, flags) of a command line.

  Raises ValueError for a missing config file, an unknown variant, an unknown
  flag or config key, or a value of the wrong type.
  """
  path = _check_keys(argv)
  argv = _with_paths(argv)
  options = define_flags(argv)
  try:
    with config_files.importable(path):
      rest = options(argv)
      config = options.config
  except (flags.Error, AttributeError, KeyError, TypeError) as error:
    raise ValueError(str(error.args[0]).partition('. Currently')[0]) from error
  if rest[1:]:
    raise ValueError(f'unexpected argument {rest[1]!r}: flags start with --')
  _check_tuples(options)
  return config, options


def define_flags(argv):
  """The FlagValues of a command line, not yet parsed."""
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
  return options


def _configs(argv):
  """[(index in argv, 'FILE[:variant]')] of each --config."""
  found = []
  for i, argument in enumerate(argv):
    match = re.match(r'--?config(?:=(.*))?$', argument)
    if match:
      found.append((i, match[1]) if match[1] is not None else (
          i + 1, ''.join(argv[i + 1:i + 2])))
  return found


def _with_paths(argv):
  """The command line with the path of each config file in place of its name."""
  argv = list(argv)
  for i, spec in _configs(argv):
    name, *variant = spec.split(':', 1)
    found = ':'.join([str(config_files.find(name)), *variant])
    argv[i] = argv[i].removesuffix(spec) + found
  return argv


def _check_keys(argv):
  """The path of the config; ValueError when a --config.key is not in it."""
  specs = [spec for _, spec in _configs(argv)]
  if not specs or not specs[-1]:
    raise ValueError('no config given: use --config=configs/NAME.py[:variant]')
  known = _keys(load_config(specs[-1]))
  for argument in argv:
    match = re.match(r'--?(?:no)?config\.([^=]+)', argument)
    if match and match[1] not in known:
      raise ValueError(f'config has no key {match[1]!r}'
                       + suggest(match[1], known))
  return config_files.find(specs[-1].partition(':')[0])


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


def find_task(config):
  """The function of `config.task`; its module is imported by the call."""
  name = config.get('task', 'train_and_evaluate')
  tasks = tasks_of(config)
  if name not in tasks:
    raise ValueError(f'unknown task {name!r}{suggest(name, tasks, tasks)}')
  def task(config, workdir):
    return methods.task(config.method, name)(config, workdir)
  return task


def tasks_of(config):
  """The names of the tasks of the method that a config names."""
  return tuple(methods.tasks(config.method))


def start_jax(options):
  """Joins the other processes, before anything touches a device."""
  from jaxret import sharding
  sharding.start(options.coordinator, options.num_processes,
                 options.process_id, options.distributed)
  set_process()


def set_process():
  """The settings of a process that runs tasks; see process_settings."""
  from jaxret import process_settings
  process_settings.keep_freed_memory()
  process_settings.keep_compiled_of_user()
  process_settings.without_cache_where_it_stops()
  process_settings.exact_float32()


def default_workdir(config_flag):
  """'configs/blim.py:folder' -> 'workdirs/blim-folder'."""
  path, _, variant = config_flag.config_filename.partition(':')
  name = pathlib.Path(path).stem
  return os.path.join('workdirs', f'{name}-{variant}' if variant else name)


def one_line(message):
  """A message of many lines as one; of a traceback, what it ends with."""
  return ' '.join(str(message).split())


def leave(code):
  """Ends the process at once if others would be waited for after a failure."""
  if code and 'jax' in sys.modules:
    import jax
    if jax.distributed.is_initialized():
      sys.stdout.flush()
      sys.stderr.flush()
      os._exit(code)
  return code


if __name__ == '__main__':
  sys.exit(leave(main()))
