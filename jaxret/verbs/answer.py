"""Answers multiple-choice questions about images and videos by likelihood.

  jaxret answer MODEL [FILE] [flags]

MODEL: a directory, a hub model, or the work directory of a run. FILE: JSON
lines, standard input by default, an object each with

  question   the text of the question
  choices    a list of texts, of any length; without it those of --choices
  image, video, text   what is asked about: paths, and a text before the
             question
  answer     the right choice, its number from 0 or its text; where all lines
             have one, the accuracy is told on standard error
  id         a name, for messages and the output

Prints a line for each, in order: {"id", "answer", "index", "scores",
"likelihood", "prior"}, lists in the order of the choices. A line that cannot be
used has {"id", "error"} instead, and the exit code is 1.

  --alpha=A        share of the prior that is subtracted, 0 to 1 (default: what
                   the evaluation of a work directory chose, else 0)
  --choose-alpha   choose alpha on these questions, which all need an answer,
                   and tell it on standard error
  --choices=A,B    of questions that name none, as --choices=yes,no
  --sum            sum over the tokens of a choice, not their mean
  --no-end         do not score the token that ends an answer
  --dtype=D        float32 (default) or bfloat16; not of a work directory
"""
import json
import sys

from jaxret import config_files
from jaxret import main as program

FLAGS = {'alpha': float, 'choices': str, 'dtype': str}
SWITCHES = ('choose-alpha', 'sum', 'no-end')


def main(argv):
  if {'--help', '-h'} & set(argv):
    print(__doc__)
    return 0
  try:
    places, options = parse(argv)
    return run(places, options)
  except (ValueError, OSError) as error:
    print(f'jaxret: {program.one_line(error)}', file=sys.stderr)
    return 1


def parse(argv):
  """([MODEL, FILE], {flag: value}) of the arguments; ValueError for others."""
  places, options = [], {}
  for argument in argv:
    if not argument.startswith('--'):
      places.append(argument)
      continue
    name, given, value = argument[2:].partition('=')
    if name not in (*FLAGS, *SWITCHES):
      raise ValueError(f'unknown flag {argument!r}' + config_files.suggest(
          argument.partition('=')[0], [f'--{n}' for n in (*FLAGS, *SWITCHES)]))
    if bool(given) != (name in FLAGS):
      raise ValueError(f'{argument}: --{name} takes '
                       + ('a value, as --alpha=0.5' if name in FLAGS
                          else 'no value'))
    options[name] = FLAGS[name](value) if given else True
  if not 1 <= len(places) <= 2:
    raise ValueError(f'got {len(places)} arguments, want MODEL and perhaps '
                     'FILE: see jaxret answer --help')
  return places, options


def run(places, options):
  """Reads, answers and prints; returns an exit code."""
  from jaxret import answers, loading
  model, *file = places
  questions = read(file[0] if file else None, options.get('choices'))
  alpha = options.get('alpha')
  if alpha is None:
    alpha = answers.chosen_alpha(model)
  if 'choose-alpha' in options and any('answer' not in q for q in questions):
    raise ValueError('--choose-alpha needs the right `answer` of every '
                     'question')
  opened = loading.load_generator(
      model, **{k: v for k, v in options.items() if k == 'dtype'})
  wrong = {}
  def failed(error):
    wrong[str(error).partition(': ')[0]] = str(error)
  found = answers.answer(
      [{'id': q['id'], **{k: q[k] for k in ('text', 'image', 'video')
                          if k in q}} for q in questions],
      [q['question'] for q in questions], [q['choices'] for q in questions],
      opened, alpha=1.0 if 'choose-alpha' in options else alpha,
      length_normalized='sum' not in options,
      score_end='no-end' not in options, on_error=failed)
  right = [q.get('answer') for q in questions]
  if 'choose-alpha' in options:
    found = found.at(found.choose_alpha(right))
    print(f'alpha {found.alpha:g}', file=sys.stderr)
  for line in lines(found, questions, wrong):
    print(json.dumps(line))
  if not wrong and None not in right:
    print(f'accuracy {found.accuracy(right):.1f} % of {len(right)}',
          file=sys.stderr)
  return int(bool(wrong))


def read(file, choices):
  """The questions of JSON lines, each with an id and choices of its own."""
  from jaxret.data import entries
  name = file or 'standard input'
  rows = list(entries.json_lines(file) if file else _of_stdin(entries))
  if not rows:
    raise ValueError(f'{name} holds no question: give a line for each')
  found, seen = [], set()
  for line, row in rows:
    row = {'id': f'line {line}', **row}
    row['id'] = str(row['id'])
    if row['id'] in seen:
      raise ValueError(f'{name}, line {line}: the id {row["id"]!r} is there '
                       'twice; give each once')
    seen.add(row['id'])
    row.setdefault('choices', choices.split(',') if choices else [])
    for field, kind in (('question', str), ('choices', list)):
      if not isinstance(row.get(field), kind):
        raise entries.wrong_line(name, line, entries.kind(row.get(field)),
                                 f'{field!r}, a {kind.__name__}')
    found.append(row)
  return found


def _of_stdin(entries):
  for line, text in enumerate(sys.stdin, 1):
    if text.strip():
      try:
        row = json.loads(text)
      except ValueError as error:
        raise ValueError(f'standard input, line {line}: {error}') from None
      if not isinstance(row, dict):
        raise entries.wrong_line(
            'standard input', line, entries.kind(row), 'an object')
      yield line, row


def lines(found, questions, wrong):
  """What is printed of each question."""
  scores = found.scores
  for n, question in enumerate(questions):
    if question['id'] in wrong:
      yield {'id': question['id'], 'error': wrong[question['id']]}
      continue
    count = len(question['choices'])
    def listed(matrix, n=n, count=count):
      return [round(float(x), 6) for x in matrix[n, :count]]
    line = {'id': question['id'], 'answer': found.texts[n],
            'index': int(found.index[n]), 'scores': listed(scores),
            'likelihood': listed(found.likelihood)}
    if found.prior is not None:
      line['prior'] = listed(found.prior)
    yield line
