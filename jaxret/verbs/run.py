"""Runs one task of one config, exactly as `python -m jaxret.main` does."""
from jaxret import main as program


def main(argv):
  return program.leave(program.main(['jaxret run', *argv]))
