"""How many searches a second `jaxret serve` answers.

  jaxret serve INDEX &
  python -m jaxret.bench.serving [--url=http://127.0.0.1:8000]
      [--clients=1,8,64] [--seconds=6] [--pid=PID]

So many clients ask by texts of four random words, each one after the other,
first for a sixth of the time, which does not count. The last thing on standard
output is one JSON object: of each number of clients requests a second, the
median and the 95th percentile of their time, and with --pid, of the server on
this machine, its CPU time of a request, which says more where others use the
machine too.
"""
import argparse
import concurrent.futures
import http.client
import json
import random
import time
import urllib.parse

import numpy as np

WORDS = 'a two red dog cat man snow car house runs jumps on in with'.split()


def asked(address, seed, end):
  """The seconds of each request of a client until `end`."""
  connection, draw, took = http.client.HTTPConnection(
      address), random.Random(seed), []
  while time.monotonic() < end:
    start = time.monotonic()
    connection.request('GET', '/api/search?k=20&text=' + urllib.parse.quote(
        ' '.join(draw.choices(WORDS, k=4))))
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != 200:
      raise ValueError(f'the server said {answer.status}: {said[:200]!r}')
    took.append(time.monotonic() - start)
  return took


def measure(address, n_clients, seconds, process=None):
  """What is printed of a number of clients. process: psutil's, or None."""
  def at_once(seconds):
    end = time.monotonic() + seconds
    with concurrent.futures.ThreadPoolExecutor(n_clients) as pool:
      return [one for found in pool.map(
          lambda seed: asked(address, seed, end), range(n_clients))
              for one in found]
  def cpu():
    return sum(process.cpu_times()[:2]) if process else 0.0
  at_once(seconds / 6)
  before, start = cpu(), time.monotonic()
  took = at_once(seconds)
  whole = time.monotonic() - start
  found = {'clients': n_clients, 'requests_per_s': round(len(took) / whole, 1),
           'median_s': round(float(np.median(took)), 4),
           'percentile_95_s': round(float(np.percentile(took, 95)), 4)}
  return found | ({'server_cpu_s': round((cpu() - before) / len(took), 5)}
                  if process else {})


def main(argv=None):
  parser = argparse.ArgumentParser('jaxret.bench.serving')
  parser.add_argument('--url', default='http://127.0.0.1:8000')
  parser.add_argument('--clients', default='1,8,64')
  parser.add_argument('--seconds', type=float, default=6)
  parser.add_argument('--pid', type=int)
  options = parser.parse_args(argv)
  process = None
  if options.pid:
    import psutil
    process = psutil.Process(options.pid)
  address = urllib.parse.urlsplit(options.url).netloc
  try:
    rows = [measure(address, int(n), options.seconds, process)
            for n in options.clients.split(',')]
  except OSError as error:
    parser.error(f'{options.url} does not answer ({error}); start jaxret serve')
  print(json.dumps({'url': options.url, 'rows': rows}))


if __name__ == '__main__':
  main()
