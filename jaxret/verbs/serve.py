"""Serves a page to search an index with, in words, by an image or by a video.

  jaxret serve INDEX [flags]

Open the address that it prints in a browser. What jaxret index adds meanwhile
is found, too. It is bound to this machine unless --host says otherwise: there
is no password, and who reaches it sees the files of the index. /openapi.json
describes the API.
"""
import socket
import sys
import threading

from jaxret import process_settings
from jaxret.verbs import _flags


def main(argv):
  return _flags.run(run, argv)


def run(argv):
  options = parse(argv)
  process_settings.keep_compiled_of_user()
  serve(options)


def parse(argv):
  parser = _flags.Parser('serve', __doc__)
  parser.add_argument('index', metavar='INDEX', help='of jaxret index')
  parser.add_argument('--host', default='127.0.0.1', help='the address that it '
                      'is bound to (127.0.0.1, this machine alone)')
  parser.add_argument('--port', type=int, default=8000,
                      help='0 = any that is free (8000)')
  parser.add_argument('--open', action='store_true',
                      help='open the page in the browser of this machine')
  parser.add_argument('--rerank', metavar='MODEL', help='offers to look at the '
                      'best again, see jaxret.load_reranker')
  parser.add_argument('--likelihood', metavar='MODEL', help='offers to rank '
                      'the best by likelihood, see jaxret.score_matrix')
  parser.add_argument('--candidates', type=int, default=50, help='how many are '
                      'looked at again (50)')
  parser.add_argument('--prompt', help='of queries, see Embedder.encode')
  parser.add_argument('--model', help='where the model of the index now is')
  parser.add_argument('--max_upload_mb', type=float, default=64,
                      help='of an image or video to search by (64)')
  options = parser.parse_args(argv)
  if not 0 <= options.port < 65536:
    raise ValueError(f'--port is {options.port}; want 0 to 65535')
  if options.candidates < 1:
    raise ValueError(f'--candidates is {options.candidates}; want 1 at least')
  if not 0 < options.max_upload_mb <= 1e6:
    raise ValueError(f'--max_upload_mb is {options.max_upload_mb:g}; want more '
                     'than 0')
  return options


def serve(options):
  """Opens index and models, says the address, and serves until Ctrl-C."""
  try:
    import starlette  # noqa: F401
    import uvicorn
  except ImportError:
    raise ValueError("serving needs Starlette and uvicorn: pip install "
                     "-e '.[serve]'") from None
  import jaxret
  from jaxret.methods.blim import opened
  from jaxret.serving import app, guard
  listening = bound(options.host, options.port)
  with listening:
    index = jaxret.open_index(options.index, options.model)
    rerank = options.rerank and jaxret.load_reranker(options.rerank)
    likelihood = options.likelihood and opened.open_likelihood(
        options.likelihood)
    made = app.create(
        index, options.host, rerank, options.candidates, options.prompt,
        int(options.max_upload_mb * 2 ** 20), likelihood)
    n_rows = len(index)
    index.model.encode('a', options.prompt, show_progress=False)  # compiles it
    listening.listen(128)
    print(f'{n_rows:,} rows of {options.index}: open {address(listening)} '
          '(Ctrl-C ends it)', flush=True)
    if options.open:  # a connection waits until it is served
      import webbrowser
      threading.Thread(target=webbrowser.open, args=[address(listening)],
                       daemon=True).start()
    if not guard.is_loopback(options.host):
      print(f'jaxret: --host={options.host}: whoever reaches this machine sees '
            'the files of the index; there is no password', file=sys.stderr)
    uvicorn.Server(uvicorn.Config(
        made, http='h11', ws='none', lifespan='off', log_level='warning',
        access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=3)).run(sockets=[listening])


def bound(host, port):
  """A socket; ValueError where the address cannot be had."""
  try:
    kind, _, _, _, where = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM)[0]
    made = socket.socket(kind, socket.SOCK_STREAM)
    try:
      made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
      made.bind(where)
    except OSError:
      made.close()
      raise
  except OSError as error:
    raise ValueError(f'{host} port {port} cannot be bound '
                     f'({error.strerror}); give another, or --port=0'
                     ) from error
  return made


def address(listening):
  """The URL of what is bound."""
  host, port = listening.getsockname()[:2]
  return f'http://{f"[{host}]" if ":" in host else host}:{port}'
