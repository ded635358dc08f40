"""Searches an index in words, by an image or by a video.

  jaxret search INDEX "a dog in the snow" [flags]

Prints a hit on each line, the best one first: its score, of a video the moment,
and the file, below the folder that was indexed. --rerank and --likelihood look
at the best again with a larger model, and sort by what that says.
"""
import json

from jaxret import process_settings
from jaxret.data import sources
from jaxret.verbs import _flags

FILTERS = ('kind', 'folder', 'min_duration_s', 'max_duration_s')


def main(argv):
  return _flags.run(run, argv)


def run(argv):
  options = parse(argv)
  query = asked(options)
  process_settings.keep_compiled_of_user()
  search(query, options)


def parse(argv):
  parser = _flags.Parser('search', __doc__)
  parser.add_argument('index', metavar='INDEX', help='of jaxret index')
  parser.add_argument('words', metavar='TEXT', nargs='?', help='what to find')
  parser.add_argument('--text', help='the same, where it starts with a dash')
  parser.add_argument('--image', metavar='FILE', help='what is like it; with '
                      'a text both, of a model that embeds them together')
  parser.add_argument('--video', metavar='FILE', help='what is like it')
  parser.add_argument('-k', type=int, default=20, help='how many (20)')
  parser.add_argument('--kind', choices=('image', 'video', 'text'),
                      help='find these alone')
  parser.add_argument('--folder', help='find what is below it')
  parser.add_argument('--min_duration_s', type=float, help='of a video')
  parser.add_argument('--max_duration_s', type=float, help='of a video')
  parser.add_argument('--rerank', metavar='MODEL', help='look at the best '
                      'again, see jaxret.load_reranker')
  parser.add_argument('--likelihood', metavar='MODEL', help='rank the best by '
                      'likelihood with CPN, see jaxret.score_matrix')
  parser.add_argument('--candidates', type=int, default=50, help='how many are '
                      'looked at again (50)')
  parser.add_argument('--prompt', help='of the query, see Embedder.encode')
  parser.add_argument('--model', help='where the model of the index now is')
  parser.add_argument('--ann', action='store_true', default=None, help='by '
                      'the approximate index; as it is beyond some millions')
  parser.add_argument('--html', metavar='FILE', help='also write a page')
  parser.add_argument('--json', action='store_true', help='print an object')
  return parser.parse_args(argv)


def asked(options):
  """The query, as Embedder.encode takes it; ValueError where there is none."""
  if options.words is not None and options.text is not None:
    raise ValueError('got two texts; give one, as it is or with --text')
  text = options.words if options.text is None else options.text
  query = {'text': text, 'image': options.image, 'video': options.video}
  query = {name: value for name, value in query.items() if value is not None}
  if not query:
    raise ValueError('got no query; give a text, --image or --video')
  if text is not None and not text.strip():
    raise ValueError('the text is empty; give a word')
  return query


def search(query, options):
  """Prints what is found, and writes the page."""
  import jaxret
  index = jaxret.open_index(options.index, options.model)
  hits = index.search(
      query, options.k, ann=options.ann, rerank=options.rerank,
      likelihood=options.likelihood, candidates=options.candidates,
      prompt=options.prompt,
      **{name: getattr(options, name) for name in FILTERS})
  if options.html:
    from jaxret import files
    from jaxret.indexing import page
    try:
      files.write_atomically(options.html, page.render(
          query, hits, index.file_of, str(index.path)))
    except OSError as error:
      raise ValueError(f'{options.html}: it cannot be written '
                       f'({error.strerror})') from error
  if options.json:
    print(json.dumps({'query': query, 'hits': [
        hit.to_json() for hit in hits]}, ensure_ascii=False))
  else:
    print('\n'.join(table(hits)))


def table(hits):
  """The lines that are printed, columns one below the other."""
  rows = [[f'{number}', *(f'{score:.4f}' for score in (
      hit.score, hit.rerank, hit.likelihood) if score is not None),
      moment(hit), sources.one_line(hit.path)] for number, hit in enumerate(
          hits, 1)]
  widths = [max(map(len, column)) for column in zip(*rows)][:-1]
  for hit, (*cells, path) in zip(hits, rows):
    said = hit.caption or hit.text
    said = '' if said is None else '  ' + _short(said)
    yield '  '.join([*(cell.rjust(width) for cell, width in zip(
        cells, widths)), path]) + said


def moment(hit):
  """'1:02-1:12' of what lies in a video, '' of others."""
  if hit.start_s is None:
    return ''
  return '-'.join(f'{int(t // 60)}:{t % 60:04.1f}' for t in (
      hit.start_s, hit.end_s))


def _short(text, most=60):
  text = sources.one_line(' '.join(text.split()))
  return text if len(text) <= most else text[:most - 3] + '...'
