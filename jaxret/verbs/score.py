"""Scores texts behind prompts of texts, images and videos, JSON lines.

  jaxret score --model=DIR [FILE] [flags]

FILE, or standard input, has a JSON object on each line:

  {"prefix": "The dog", "suffix": " barks"}
  {"prefix": {"image": "a.jpg", "text": "A photo of a"},
   "suffix": [" dog", " cat"], "id": "a"}          (on one line)

A prefix is a text, or an object of `text`, `image`, `video`; a medium is a path
from FILE's folder, or a list of them. For each line one comes out, in order,
with its "id" if it has one, "log_likelihood" in nats, the sum over the tokens
of the suffix, and their number, "tokens"; lists where "suffix" is one.
"""
import json
import math
from typing import Any, NamedTuple

from jaxret import json_lines
from jaxret.verbs import _flags

KEYS = ('prefix', 'suffix', 'id')
MEDIA = ('image', 'video')


class Line(NamedTuple):
  """One line of the input; place: where it stands, for messages."""
  place: str
  id: Any
  prefix: dict[str, Any]
  suffixes: list[str]
  is_list: bool


def main(argv):
  return _flags.run(run, argv)


def run(argv):
  options = parse(argv)
  for line in answers(read(options.file), options):
    print(json.dumps(line, ensure_ascii=False))


def parse(argv):
  parser = _flags.Parser('score', __doc__)
  parser.add_argument('file', metavar='FILE', nargs='?', default='-',
                      help='JSON lines; - is standard input (-)')
  parser.add_argument('--model', required=True,
                      help='a directory or hub name, see jaxret.load_generator')
  parser.add_argument('--adapter', help='of a PEFT adapter to merge into it')
  parser.add_argument('--dtype', choices=('float32', 'bfloat16'),
                      default='float32', help='of the model (float32)')
  parser.add_argument('--max_tokens', type=int, default=4096,
                      help='of a prefix (4096)')
  parser.add_argument('--chat', action='store_true', help='the prefix is what '
                      "a user says, in the model's own template")
  parser.add_argument('--mask_media', action='store_true', help='hide the keys '
                      'of images and videos: the prior of CPN')
  parser.add_argument('--mean', action='store_true', help='the mean over the '
                      'tokens of a suffix in place of their sum')
  parser.add_argument('--per_token', action='store_true',
                      help='adds "pieces" and "token_log_likelihood"')
  parser.add_argument('--rows', type=int, default=8,
                      help='prefixes of a tile (8)')
  parser.add_argument('--columns', type=int, default=64,
                      help='suffixes of a tile (64)')
  parser.add_argument('--on_error', choices=('raise', 'skip'), default='raise',
                      help='skip: what cannot be used is reported, and null')
  return parser.parse_args(argv)


def read(file):
  """[Line] of a file, or '-'; ValueError that names the bad line."""
  return [_line(entry) for entry in json_lines.read(file, KEYS)]


def _line(entry):
  place, _, whole = entry
  missing = [key for key in KEYS[:2] if key not in whole]
  if missing:
    raise ValueError(f'{place}: no {missing[0]!r}; want {", ".join(KEYS)}')
  suffix = whole['suffix']
  suffixes = suffix if isinstance(suffix, list) else [suffix]
  if not suffixes or not all(isinstance(one, str) for one in suffixes):
    raise ValueError(f"{place}: got 'suffix' {json.dumps(suffix)[:40]}, want a "
                     'text or a list of texts')
  return Line(place, whole.get('id'), _prefix(entry, whole['prefix']),
              suffixes, isinstance(suffix, list))


def _prefix(entry, given):
  """The fields of a types.Item."""
  if isinstance(given, str):
    return {'text': given}
  if not isinstance(given, dict) or not given or (
      set(given) - {'text', *MEDIA}):
    raise ValueError(f"{entry.place}: got 'prefix' {json.dumps(given)[:40]}, "
                     'want a text or an object of text, image, video')
  def located(medium):
    if isinstance(medium, list):
      return tuple(map(located, medium))
    if not isinstance(medium, str):
      raise ValueError(f'{entry.place}: got {json.dumps(medium)[:40]} for a '
                       'medium, want a path or a list of paths')
    return entry.located(medium)
  return {key: located(value) if key in MEDIA else value
          for key, value in given.items()}


def answers(lines, options):
  """Yields the objects that are printed, one for each Line."""
  import numpy as np

  import jaxret
  from jaxret.data import types
  model = jaxret.load_generator(
      options.model, dtype=options.dtype, adapter=options.adapter,
      max_tokens=options.max_tokens)
  prefixes = [types.Item(line.place, order=tuple(line.prefix), **line.prefix)
              for line in lines]
  alike = all(line.suffixes == lines[0].suffixes for line in lines)
  texts = [types.Item(line.place, text) for line in (
      lines[:1] if alike else lines) for text in line.suffixes]
  pairs = None if alike else np.stack([
      np.repeat(np.arange(len(lines)), [len(x.suffixes) for x in lines]),
      np.arange(len(texts))], 1)
  found = jaxret.score_sequences(
      prefixes, texts, model, pairs=pairs, per_token=True, chat=options.chat,
      mask_media=options.mask_media, rows=options.rows,
      columns=options.columns, on_error=options.on_error,
      reduction='mean' if options.mean else 'sum')
  values = iter(found.log_likelihood.ravel())
  tokens = iter(found.token_log_likelihood.ravel())
  first = 0
  for line in lines:
    pieces = found.tokens[first:first + len(line.suffixes)]
    first += 0 if alike else len(line.suffixes)
    yield _answer(line, options, [
        (next(values), next(tokens), its) for its in pieces])


def _answer(line, options, scored):
  """scored: (number, of each token, its text) for each suffix."""
  columns = {
      'log_likelihood': [_number(value) for value, _, _ in scored],
      'tokens': [len(pieces) for _, _, pieces in scored]}
  if options.per_token:
    columns['pieces'] = [list(pieces) for _, _, pieces in scored]
    columns['token_log_likelihood'] = [
        [_number(x) for x in values] for _, values, _ in scored]
  named = {} if line.id is None else {'id': line.id}
  return named | (columns if line.is_list else {
      name: column[0] for name, column in columns.items()})


def _number(value):
  """Of float32 the shortest number that is the same; None for NaN."""
  return None if math.isnan(value) else float(str(value))
