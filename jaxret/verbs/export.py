"""Writes a trained model as transformers and the Hub have it.

  jaxret export WORKDIR --out=DIR [flags]

WORKDIR is that of a run of UNITE, MM-Embed or LECCR (whose text tower is what
is written: WORKDIR/<language>/leccr). DIR gets merged weights, config,
tokenizer and a model card with the results of the run. `jaxret.load(DIR)`
embeds as the run does.
"""
import json

from jaxret.verbs import _flags


def main(argv):
  return _flags.run(run, argv)


def run(argv):
  options = parse(argv)
  done = export(options)
  if options.json:
    print(json.dumps(done))
  else:
    print(f'{done["out"]}: written' + (
        f', and pushed: {done["pushed"]}' if done['pushed'] else ''))


def parse(argv):
  parser = _flags.Parser('export', __doc__)
  parser.add_argument('workdir', metavar='WORKDIR')
  parser.add_argument('--out', required=True, metavar='DIR',
                      help='what is made; not there yet, or empty')
  parser.add_argument('--format', help='transformers, sentence-transformers or '
                      'peft, the factors of LoRA alone (what the model has)')
  parser.add_argument('--dtype', help='float32 or bfloat16 (that of the run)')
  parser.add_argument('--license', help="for the card (that of the base's)")
  parser.add_argument('--push', metavar='OWNER/NAME',
                      help='also upload it to this repository of the Hub')
  parser.add_argument('--private', action='store_true',
                      help='of --push: make the repository private')
  parser.add_argument('--json', action='store_true', help='print an object')
  return parser.parse_args(argv)


def export(options):
  """Exports and pushes: {'out', 'pushed'}."""
  from jaxret.exporting import export as exporting
  from jaxret.exporting import hub
  if options.private and not options.push:
    raise ValueError('--private has no effect without --push: leave it out')
  if options.push:  # before gigabytes are written
    hub.check_name(options.push)
  out = exporting.export(options.workdir, options.out, options.format,
                         options.dtype, options.license)
  return {'out': str(out), 'pushed': hub.push(
      out, options.push, options.private) if options.push else None}
