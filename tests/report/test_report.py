"""The report: what it says, and that it stands alone."""
import html.parser
import json
import re

import numpy as np
import pytest

from jaxret import metrics, report

N = 40
ROWS = ('candidate_likelihood', 'query_likelihood', 'cpn', 'bidirectional',
        'blim', 'blim_paper', 'blim_oracle')


def video(index):
  frames = np.full((4, 24, 32, 3), 30, np.uint8)
  for f in range(4):
    frames[f, 4:14, 4 + 5 * f:14 + 5 * f] = (
        40 * index % 256, 90 * index % 256, 200)
  return report.Shown(f'clip_{index:03d}.mp4', frames=frames)


def text(index):
  return report.Shown(f't{index}', text=f'caption <{index}> & "quotes"')


def scores_of(direction, strength):
  seed = report.DIRECTIONS.index(direction) * 100 + ROWS.index(strength)
  generator = np.random.default_rng(seed)
  hubs = generator.gamma(1, 1.5, N) / (1 + ROWS.index(strength))
  return generator.normal(size=(N, N)) + hubs + 3 * np.eye(N)


@pytest.fixture(scope='module')
def inputs():
  """Arguments of report.write on synthetic scores of N videos and texts."""
  truth = np.arange(N)[:, None]
  results = {'dataset': 'shapes', 'split': 'test',
             'sizes': {'videos': N, 'texts': N}, 'weights': {}}
  gallery, hubness, sweeps = [], [], []
  for direction in report.DIRECTIONS:
    scores = {row: scores_of(direction, row) for row in ROWS}
    ranks = {row: metrics.ranks(s, truth) for row, s in scores.items()}
    results[direction] = {row: metrics.summary(r) for row, r in ranks.items()}
    results['weights'][direction] = {
        'cpn': {'chosen_on': 'validation', 'alpha': 0.3},
        'blim': {'chosen_on': 'validation', 'alpha': 0.3, 'query_weight': 0.6},
        'blim_paper': {'chosen_on': 'paper', 'alpha': 0.9},
        'blim_oracle': {'chosen_on': 'test', 'alpha': 0.5}}
    ask, answer = (text, video) if direction == 'text_to_video' else (
        video, text)
    for q in report.choose_queries(ranks, 2, 2):
      rows = {}
      for row in ROWS[:5]:
        top = metrics.top(scores[row][q], [q], 5)
        rows[row] = report.Ranked(int(ranks[row][q]),
                                  tuple(answer(int(c)) for c in top),
                                  tuple(int(c) == q for c in top))
      gallery.append(report.GalleryQuery(direction, ask(q), answer(q), rows))
    hubness.append(report.Hubness(direction, {
        row: metrics.first_counts(scores[row])
        for row in ('candidate_likelihood', 'cpn')}))
    alphas = np.linspace(0, 1, 11)
    sweeps.append(report.Sweep(
        direction, alphas, 60 - 40 * (alphas - 0.3) ** 2, 0.3,
        test=58 - 40 * (alphas - 0.4) ** 2, paper=0.9))
  return dict(results=results, run={'seconds': 312, 'device': 'cpu'},
              sweeps=sweeps, hubness=hubness, gallery=gallery)


@pytest.fixture(scope='module')
def workdir(inputs, tmp_path_factory):
  folder = tmp_path_factory.mktemp('workdir')
  steps = [{'step': s, 'loss': 5 / (1 + s / 40), 'vtg_loss': 3 / (1 + s / 40),
            'tvg_loss': 2 / (1 + s / 40), 'learning_rate': 1e-3 * s / 300,
            'examples_per_s': 100.} for s in range(0, 300, 10)]
  (folder / 'metrics.jsonl').write_text(
      ''.join(json.dumps(s) + '\n' for s in steps))
  (folder / 'skipped.jsonl').write_text(json.dumps(
      {'id': 'corrupted.mp4', 'reason': 'no <video> stream'}) + '\n')
  (folder / 'config.json').write_text('{"seed": 0}')
  assert report.write(folder, **inputs) == folder / 'report.html'
  return folder


class Page(html.parser.HTMLParser):
  """Collects tags and checks that they nest."""
  VOID = {'meta', 'br'}

  def __init__(self, source):
    super().__init__()
    self.open, self.attributes = [], []
    self.feed(source)
    assert not self.open

  def handle_starttag(self, tag, attrs):
    self.attributes.append((tag, dict(attrs)))
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_startendtag(self, tag, attrs):
    self.attributes.append((tag, dict(attrs)))


def test_results_json_is_what_was_given(workdir, inputs):
  stored = json.loads((workdir / 'results.json').read_text())
  assert stored == json.loads(json.dumps(inputs['results']))
  assert sorted(p.name for p in workdir.iterdir()) == [
      'config.json', 'metrics.jsonl', 'report.html', 'results.json',
      'skipped.jsonl']


def test_page_stands_alone_and_nests(workdir):
  source = (workdir / 'report.html').read_text()
  tags = Page(source).attributes
  for tag, attributes in tags:
    assert tag not in ('script', 'link', 'img', 'iframe')
    for name in ('src', 'href', 'xlink:href'):
      assert attributes.get(name, '#').startswith('#'), (tag, attributes)
  urls = re.findall(r'url\(([^)]{0,30})', source)
  assert urls and all(u.startswith(('data:image/jpeg', '#')) for u in urls)
  assert len(source) < 3e6


def test_every_picture_has_a_text(workdir):
  tags = Page((workdir / 'report.html').read_text()).attributes
  pictures = [a for tag, a in tags if tag == 'svg' or a.get('role') == 'img']
  assert len(pictures) > 20
  assert all(a.get('role') == 'img' and a.get('aria-label') for a in pictures)


def test_captions_are_escaped(workdir):
  source = (workdir / 'report.html').read_text()
  assert 'caption &lt;' in source and 'caption <' not in source
  assert 'no &lt;video&gt; stream' in source


def test_page_shows_ranks_hits_and_skipped(workdir, inputs):
  source = (workdir / 'report.html').read_text()
  n_hits = sum(sum(r.hits) for q in inputs['gallery'] for r in q.rows.values())
  assert source.count('class="answer hit"') == n_hits > 0
  assert 'corrupted.mp4' in source
  assert source.index('to video: missed') < source.index('to video: found')
  assert 'test (not used to choose)' in source
  counts = inputs['hubness'][0].counts['candidate_likelihood']
  assert f'{counts.max()} of {N} queries' in source
  assert f'{metrics.skewness(counts):.2f}' in source


def test_each_tile_is_stored_once(workdir, inputs):
  source = (workdir / 'report.html').read_text()
  shown = {s.id for q in inputs['gallery']
           for s in (q.query, q.truth, *(t for r in q.rows.values()
                                         for t in r.top))
           if s.frames is not None}
  assert source.count('data:image/jpeg') == len(shown)


def test_text_table_is_aligned_and_marks_weights(inputs):
  results = inputs['results']
  table = report.format_table(results)
  assert 'chance R@1 2.5 %' in table
  columns = {line.index('R@1') for line in table.splitlines()
             if line.startswith(report.DIRECTIONS)}
  assert len(columns) == 1
  for direction in report.DIRECTIONS:
    lines = table[table.index(f'{direction} '):].splitlines()
    for name, line in zip(ROWS, lines[2:]):
      assert line.split()[0] == name
      value = f'{results[direction][name]["recall_at_1"]:.1f}'
      assert line.split()[1] == value
      assert line.index(value) + len(value) == lines[0].index('R@1') + 3
  assert 'validation: alpha 0.3, query weight 0.6' in table
  assert 'test, not a result: alpha 0.5' in table
  assert 'paper: alpha 0.9' in table


def test_chosen_queries_are_misses_then_what_the_main_row_adds():
  ranks = {'candidate_likelihood': np.array([1, 1, 9, 2, 3, 1]),
           'blim': np.array([1, 4, 1, 30, 2, 1])}
  assert report.choose_queries(ranks, 2, 2) == [4, 3, 2, 0]
  all_found = {'blim': np.ones(3, int)}
  assert report.choose_queries(all_found, 2, 2) == [0, 1]


def test_bare_results_make_a_page(inputs, tmp_path):
  results = {k: v for k, v in inputs['results'].items() if k != 'weights'}
  Page(report.write(tmp_path, results).read_text())


@pytest.mark.parametrize('n_frames', [1, 2, 3, 9])
def test_any_number_of_frames_makes_a_tile(n_frames):
  frames = np.zeros((n_frames, 20, 50, 3), np.uint8)
  mosaic = report._mosaic(frames)
  assert max(mosaic.size) <= report.TILE_PX + 2
