"""`python -m jaxret` is `jaxret`."""
import sys

from jaxret import cli

if __name__ == '__main__':
  sys.exit(cli.main())
