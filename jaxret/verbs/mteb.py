"""Runs tasks of mteb on a model, and writes their results.

  jaxret mteb --model=MODEL --tasks=NAME[,NAME ...] [flags]

MODEL is what jaxret.load opens; with --score=likelihood a model that continues
prompts, with --score=rerank a reranker, whose pairs are scored. Results lie in
--out as mteb writes them; what is there already is not computed again.
"""
import argparse
import json
import pathlib

from jaxret.verbs import _flags

LACKING = ("mteb is not installed: pip install -e '.[ecosystem]', with "
           'PyTorch')


def main(argv):
  return _flags.run(run, argv)


def run(argv):
  options = parse(argv)
  results = evaluate(options)
  print(json.dumps(results) if options.json else '\n'.join(table(results)))


def parse(argv):
  parser = _flags.Parser('mteb', __doc__)
  parser.add_argument('--model', required=True)
  parser.add_argument('--tasks', required=True, help='names, commas between')
  parser.add_argument('--out', default='mteb-results', metavar='DIR',
                      help='of the results (mteb-results)')
  parser.add_argument('--score', choices=('embed', 'likelihood', 'rerank'),
                      default='embed', help='what is ranked by (embed)')
  parser.add_argument('--first', metavar='MODEL', help='of --score=rerank: an '
                      'embedder whose best are looked at')
  parser.add_argument('--topk', type=int, help='of --first: how many (100)')
  parser.add_argument('--prompts', type=_object, metavar='JSON',
                      help='{"query": TEXT, "NAME-document": TEXT}')
  parser.add_argument('--instructions', action='store_true',
                      help="a task's instruction is the prompt of its queries")
  parser.add_argument('--dtype', help='of the model: float32 or bfloat16')
  parser.add_argument('--recipe', help='of the model, see jaxret.load')
  parser.add_argument('--batch_size', type=int, default=32)
  parser.add_argument('--overwrite', action='store_true',
                      help='compute what is there, too')
  parser.add_argument('--json', action='store_true', help='print an object')
  return parser.parse_args(argv)


def _object(text):
  found = json.loads(text)
  if not isinstance(found, dict) or not all(
      isinstance(value, str) for value in found.values()):
    raise argparse.ArgumentTypeError('want a JSON object of texts')
  return found


def evaluate(options):
  """{task: {split: [scores of a subset]}} of mteb."""
  try:
    import mteb

    from jaxret.integrations import mteb as integration
  except ModuleNotFoundError as error:
    raise ValueError(f'{LACKING} ({error})') from error
  names = [name for name in options.tasks.split(',') if name]
  try:
    tasks = [mteb.get_task(name) for name in names]
  except KeyError as error:
    raise ValueError(f'mteb: {error.args[0]}') from error
  model = opened(integration, options)
  found = mteb.evaluate(
      model, tasks, encode_kwargs={'batch_size': options.batch_size},
      cache=mteb.ResultCache(pathlib.Path(options.out)),
      overwrite_strategy='always' if options.overwrite else 'only-missing')
  return {result.task_name: result.scores for result in found.task_results}


def opened(integration, options):
  """The model that is evaluated, as the flags say."""
  given = {name: getattr(options, name) for name in ('dtype', 'recipe')
           if getattr(options, name) is not None}
  if options.score != 'embed':
    for flag in ('prompts', 'instructions', 'recipe'):
      if getattr(options, flag):
        raise ValueError(f'--{flag} has no effect with --score='
                         f'{options.score}: leave it out')
  if options.score != 'rerank' and (options.first or options.topk):
    raise ValueError('--first and --topk have an effect with --score=rerank '
                     'alone: leave them out')
  if options.score == 'likelihood':
    import jaxret
    model = jaxret.load_generator(options.model, **given) if given else (
        options.model)
    return integration.likelihood(
        model, name=integration.last_part(options.model))
  if options.score == 'rerank':
    first = options.first and integration.Encoder(options.first)
    return integration.reranking(
        options.model, first=first, topk=options.topk or 100, **given)
  return integration.Encoder(
      options.model, prompts=options.prompts,
      instructions=options.instructions, **given)


def table(results):
  """The lines that are printed: of each task its main score, in percent."""
  width = max((len(name) for name in results), default=0)
  for name, splits in results.items():
    for split, subsets in splits.items():
      for one in subsets:
        subset = one.get('hf_subset', 'default')
        yield (f'{name.ljust(width)}  {split}  {subset}  '
               f'{100 * one["main_score"]:.2f}')
