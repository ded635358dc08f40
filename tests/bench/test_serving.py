"""Requests are counted, and what is refused is no figure."""
import http.server
import json
import os
import threading

import pytest

from jaxret.bench import serving


class Answers(http.server.BaseHTTPRequestHandler):
  protocol_version, status, seen = 'HTTP/1.1', 200, []

  def do_GET(self):
    self.seen.append(self.path)
    self.send_response(self.status)
    self.send_header('Content-Length', '2')
    self.end_headers()
    self.wfile.write(b'{}')

  def log_message(self, *_):
    pass


@pytest.fixture
def url(monkeypatch):
  monkeypatch.setattr(Answers, 'seen', [])
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Answers) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


def test_requests_are_counted(url, capsys):
  pytest.importorskip('psutil')
  serving.main([f'--url={url}', '--clients=1,3', '--seconds=0.3',
                f'--pid={os.getpid()}'])
  rows = json.loads(capsys.readouterr().out)['rows']
  assert [row['clients'] for row in rows] == [1, 3]
  for row in rows:
    assert 0 < row['median_s'] <= row['percentile_95_s'] < 5
    assert row['server_cpu_s'] >= 0 and row['requests_per_s'] > 1
  assert sum(row['requests_per_s'] for row in rows) * 0.2 < len(Answers.seen)
  assert all('text=' in path for path in Answers.seen)


def test_what_is_refused_is_no_figure(url, monkeypatch):
  monkeypatch.setattr(Answers, 'status', 503)
  with pytest.raises(ValueError, match='the server said 503'):
    serving.main([f'--url={url}', '--clients=1', '--seconds=0.1'])
