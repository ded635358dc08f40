"""Indexes a folder of images, videos and texts, or what is new in it.

  jaxret index FOLDER --model=MODEL --out=INDEX [flags]

Call it again, and files that are new or changed are added, and those that are
gone are forgotten; stopped at any moment, it goes on where it was. Long videos
are cut into windows. What cannot be used is in INDEX/skipped.jsonl, with its
reason. In place of FOLDER a list: .json or .jsonl of objects {"image" or
"video": FILE, "caption": TEXT} or {"text": TEXT}; .parquet of such columns;
.txt of a file on each line.
"""
import json
import shlex

from jaxret import process_settings
from jaxret.data import sources
from jaxret.verbs import _flags


def main(argv):
  return _flags.run(run, argv)


def run(argv):
  options = parse(argv)
  process_settings.keep_compiled_of_user()
  try:
    done = index(options)
  except KeyboardInterrupt:
    raise KeyboardInterrupt('interrupted; the blocks that were written are '
                            'kept: call it again to go on') from None
  if options.json:
    print(json.dumps({
        'rows': done.rows, 'added': done.added, 'changed': done.changed,
        'unchanged': done.unchanged, 'gone': done.gone,
        'embedded': done.embedded,
        'skipped': [{'path': one.path, 'reason': one.reason}
                    for one in done.skipped]}))
  else:
    report(done, options.out)


def parse(argv):
  parser = _flags.Parser('index', __doc__)
  parser.add_argument('source', metavar='FOLDER', help='or a list of files')
  parser.add_argument('--model', required=True,
                      help='a directory, hub name or workdir, see jaxret.load')
  parser.add_argument('--out', required=True, metavar='INDEX',
                      help='the directory of the index')
  parser.add_argument('--window', type=float, metavar='SECONDS', help='of a '
                      'video that are one row (as the index has it, else 10)')
  parser.add_argument('--stride', type=float, metavar='SECONDS', help='from '
                      'one window to the next (the window)')
  parser.add_argument('--precision', choices=('float32', 'float16'),
                      help='of the vectors (float32)')
  parser.add_argument('--batch_size', type=int, default=32,
                      help='rows that are embedded together (32)')
  parser.add_argument('--follow_links', action='store_true', default=None,
                      help='also links, and names in a list, that lead out of '
                      'the folder')
  parser.add_argument('--retry', action='store_true', help='also try what '
                      'could not be used before and has not changed')
  parser.add_argument('--ann', action='store_true', help='also build the '
                      'approximate index of LanceDB')
  parser.add_argument('--json', action='store_true',
                      help='print what was done as JSON')
  for flag, text in (('--dtype', 'float32 or bfloat16'),
                     ('--adapter', 'of a PEFT adapter to merge into it'),
                     ('--recipe', 'see jaxret.load')):
    parser.add_argument(flag, help=f'of the model: {text}')
  parser.add_argument('--max_tokens', type=int, help='of an item')
  parser.add_argument('--trim_text', action='store_true', default=None,
                      help='cut longer texts in place of leaving them out')
  return parser.parse_args(argv)


def index(options):
  """What jaxret.index gives for the flags."""
  import jaxret
  of_model = {name: getattr(options, name) for name in (
      'dtype', 'adapter', 'recipe', 'max_tokens', 'trim_text')}
  if options.batch_size < 1:
    raise ValueError(f'--batch_size is {options.batch_size}; want 1 at least')
  return jaxret.index(
      options.source, options.model, options.out, window=options.window,
      stride=options.stride, precision=options.precision,
      batch_size=options.batch_size, follow_links=options.follow_links,
      retry=options.retry, ann=options.ann,
      **{name: value for name, value in of_model.items() if value is not None})


def report(done, out):
  """Says on standard output what was done, and what to do next."""
  print(f'{out}: {done}')
  if done.skipped:
    first = done.skipped[0]
    print(f'skipped: {sources.one_line(first.path)}: {first.reason}' + (
        f' (and {len(done.skipped) - 1:,} more, in {out}/skipped.jsonl)'
        if len(done.skipped) > 1 else ''))
  out = shlex.quote(out)
  print(f"search it: jaxret search {out} 'a dog in the snow', or jaxret serve "
        f'{out}')
