"""Flags of the bench of 8 bits; a whole one is in tests/methods/blim."""
import pytest

from jaxret.bench import quantized


def test_flags(capsys):
  options = quantized.parse(['--workdir=w', '--kind=fp8', '--k=5'])
  assert (options.kind, options.k, options.weights) == ('fp8', 5, 'paper')
  for flag in ('--kind=int4', '--k=0'):
    with pytest.raises(SystemExit):
      quantized.parse(['--workdir=w', flag])
    assert flag.split('=')[0] in capsys.readouterr().err
