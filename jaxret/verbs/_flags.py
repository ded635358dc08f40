"""How a verb reads its flags, and says in one line what is wrong."""
import argparse
import sys
from collections.abc import Callable, Sequence

from jaxret import main as program


class Parser(argparse.ArgumentParser):
  """Of `jaxret VERB`; what is wrong is a ValueError. about: its --help."""

  def __init__(self, verb: str, about: str | None):
    super().__init__(
        f'jaxret {verb}', description=about, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter)

  def error(self, message):
    raise ValueError(f'{message}; see {self.prog} --help')


def run(work: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
  """Calls work(argv); the exit code: of what is wrong 1, with one line."""
  try:
    work(argv)
  except BrokenPipeError:  # whoever read has seen enough, see `cli`
    raise
  except (ValueError, OSError) as error:
    print(f'jaxret: {program.one_line(error)}', file=sys.stderr)
    return 1
  except SystemExit as asked:  # --help
    return asked.code
  except KeyboardInterrupt as stopped:
    print(f'jaxret: {stopped or "interrupted"}', file=sys.stderr)
    return 130
  return 0
