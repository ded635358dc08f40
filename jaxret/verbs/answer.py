"""Answers multiple-choice questions about images and videos, JSON lines.

  jaxret answer --model=DIR [FILE] [flags]

FILE, or standard input, has a JSON object on each line:

  {"question": "What does it do?", "choices": ["it runs", "it sleeps"],
   "video": "dog.mp4", "answer": "it runs", "id": "a"}      (on one line)

`image` or `video` is a path from FILE's folder, `text` stands before the
question; `choices` may be left out with --choices. Where all lines have an
`answer`, a choice or its number from 0, the accuracy is told on standard error.
For each line one comes out, in order, with its "id" if it has one: "answer",
"index", and, in the order of the choices, "scores", "likelihood" and, with an
alpha above 0, "prior".
"""
import json
import sys
from typing import Any, NamedTuple

from jaxret import json_lines
from jaxret.verbs import _flags

KEYS = ('question', 'choices', 'image', 'video', 'text', 'answer', 'id')
MEDIA = ('image', 'video')


class Line(NamedTuple):
  """One line of the input; place: where it stands, for messages."""
  place: str
  whole: dict[str, Any]
  item: dict[str, Any]
  choices: list[str]


def main(argv):
  return _flags.run(run, argv)


def run(argv):
  options = parse(argv)
  lines = read(options.file, options.choices)
  for line in answers(lines, options):
    print(json.dumps(line, ensure_ascii=False))


def parse(argv):
  parser = _flags.Parser('answer', __doc__)
  parser.add_argument('file', metavar='FILE', nargs='?', default='-',
                      help='JSON lines; - is standard input (-)')
  parser.add_argument('--model', required=True,
                      help='a directory or hub name, see jaxret.load_generator')
  parser.add_argument('--adapter', help='of a PEFT adapter to merge into it')
  parser.add_argument('--dtype', choices=('float32', 'bfloat16'),
                      default='float32', help='of the model (float32)')
  parser.add_argument('--max_tokens', type=int, default=4096,
                      help='of a question with its media (4096)')
  parser.add_argument('--alpha', type=float, help='share of the prior that is '
                      'subtracted, 0 to 1 (what the evaluation of a work '
                      'directory chose, else 0)')
  parser.add_argument('--choose_alpha', action='store_true', help='choose it '
                      'on these lines, which all need an answer, and tell it')
  parser.add_argument('--choices', help='of lines without, as yes,no')
  parser.add_argument('--sum', action='store_true', help='the sum over the '
                      'tokens of a choice in place of their mean')
  parser.add_argument('--no_end', action='store_true', help='do not score the '
                      'token that ends an answer')
  parser.add_argument('--on_error', choices=('raise', 'skip'), default='raise',
                      help='skip: what cannot be used is reported, and null')
  return parser.parse_args(argv)


def read(file, choices=None):
  """[Line] of a file, or '-'; ValueError that names the bad line."""
  return [_line(entry, choices) for entry in json_lines.read(file, KEYS)]


def _line(entry, choices):
  place, _, whole = entry
  own = whole.get('choices', [
      one.strip() for one in choices.split(',')] if choices else None)
  if not isinstance(own, list):
    raise ValueError(f'{place}: its choices are {own!r:.60}; want a list of '
                     'texts, here or with --choices')
  answer = whole.get('answer')  # what is wrong is said before hours of work
  if answer is not None and not (
      answer in own if isinstance(answer, str) else
      type(answer) is int and 0 <= answer < len(own)):
    raise ValueError(f"{place}: 'answer' is {answer!r:.60}; want one of its "
                     'choices, or the number of one from 0')
  item = {'id': place}
  for key in ('text', *MEDIA):
    if key in whole:
      if not isinstance(whole[key], str):
        raise ValueError(f'{place}: {key!r} is {whole[key]!r:.60}; want a '
                         'string')
      item[key] = whole[key] if key == 'text' else entry.located(whole[key])
  return Line(place, whole, item, own)


def answers(lines, options):
  """Yields what is printed of each line."""
  import jaxret
  from jaxret import answers as answers_lib
  from jaxret.scoring.likelihood import choices as choices_lib
  right = [line.whole.get('answer') for line in lines]
  if options.choose_alpha and None in right:
    raise ValueError(f'{lines[right.index(None)].place}: it has no answer; '
                     '--choose_alpha needs that of every line')
  alpha = options.alpha
  if options.choose_alpha:
    alpha = 1.0
  elif alpha is None:
    alpha = answers_lib.chosen_alpha(
        options.model, not options.sum, not options.no_end)
  choices_lib.check_alpha(alpha)  # before gigabytes are read
  found = jaxret.answer(
      [line.item for line in lines],
      [line.whole.get('question') for line in lines],
      [line.choices for line in lines],
      jaxret.load_generator(
          options.model, dtype=options.dtype, adapter=options.adapter,
          max_tokens=options.max_tokens), alpha=alpha,
      length_normalized=not options.sum, score_end=not options.no_end,
      on_error=options.on_error)
  if options.choose_alpha:
    found = found.at(found.choose_alpha(right))
    print(f'alpha {found.alpha:g}', file=sys.stderr)
  if None not in right and (found.index >= 0).all():
    print(f'accuracy {found.accuracy(right):.1f} % of {len(right)}',
          file=sys.stderr)
  yield from _printed(found, lines)


def _printed(found, lines):
  """Yields what is printed of each line."""
  parts = {'scores': found.scores, 'likelihood': found.likelihood}
  if found.prior is not None:
    parts['prior'] = found.prior
  for n, (line, index, text) in enumerate(zip(lines, found.index, found.texts)):
    named = {'id': line.whole['id']} if 'id' in line.whole else {}
    if index < 0:
      yield {**named, 'answer': None}
      continue
    yield {**named, 'answer': text, 'index': int(index), **{
        name: [round(float(x), 6) for x in matrix[n, :len(line.choices)]]
        for name, matrix in parts.items()}}
