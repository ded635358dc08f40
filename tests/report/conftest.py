"""A report on synthetic scores, which every test of the report looks at."""
import json

import numpy as np
import pytest

from jaxret import comparisons, metrics, report

N = 40
DIRECTIONS = ('text_to_video', 'video_to_text')
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
  seed = DIRECTIONS.index(direction) * 100 + ROWS.index(strength)
  generator = np.random.default_rng(seed)
  hubs = generator.gamma(1, 1.5, N) / (1 + ROWS.index(strength))
  return generator.normal(size=(N, N)) + hubs + 3 * np.eye(N)


@pytest.fixture(scope='session')
def inputs():
  """Arguments of report.write on synthetic scores of N videos and texts."""
  truth = np.arange(N)[:, None]
  results = {'dataset': 'shapes', 'split': 'test',
             'sizes': {'videos': N, 'texts': N}, 'weights': {},
             'differences': {}, 'hubness': {}}
  gallery, hubness, panels = [], [], []
  for direction in DIRECTIONS:
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
    for q in report.choose_queries({r: ranks[r] for r in ROWS[:5]}, 2, 2):
      rows = {}
      for row in ROWS[:5]:
        top = metrics.top(scores[row][q], [q], 5)
        rows[row] = report.Ranked(int(ranks[row][q]),
                                  tuple(answer(int(c)) for c in top),
                                  tuple(int(c) == q for c in top))
      gallery.append(report.GalleryQuery(direction, ask(q), answer(q), rows))
    results['differences'][direction] = comparisons.compare(
        ranks, [('cpn', 'candidate_likelihood'), ('blim', 'cpn')],
        n_resamples=500)
    results['hubness'][direction] = {
        row: metrics.hubness(scores[row]) for row in ROWS[:3]}
    hubness.append(report.Hubness(direction, {
        row: metrics.first_counts(scores[row])
        for row in ('candidate_likelihood', 'cpn')}, np.linspace(-3, -1, N)))
    alphas = np.linspace(0, 1, 11)
    panels.append(report.Sweep(
        direction, alphas, 60 - 40 * (alphas - 0.3) ** 2, 0.3,
        test=58 - 40 * (alphas - 0.4) ** 2, paper=0.9))
  return dict(results=results, run={'seconds': 312, 'device': 'cpu'},
              rows=report.Rows(main='blim'),
              sweeps=report.Sweeps('beta', 'beta, a share', 'How much of it',
                                   'Beta < 1 is chosen.', tuple(panels)),
              hubness=hubness, gallery=gallery)


@pytest.fixture(scope='session')
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
