"""The gallery: which queries are shown, with which answers, and their tiles."""
import dataclasses

import numpy as np
import pytest

from jaxret import metrics, report
from jaxret.report import gallery


def test_each_tile_is_stored_once(workdir, inputs):
  source = (workdir / 'report.html').read_text()
  shown = {s.id for q in inputs['gallery']
           for s in (q.query, q.truth, *(t for r in q.rows.values()
                                         for t in r.top))
           if s.frames is not None}
  assert source.count('data:image/jpeg') == len(shown)


def test_chosen_queries_are_misses_then_what_the_main_row_adds():
  ranks = {'candidate_likelihood': np.array([1, 1, 9, 2, 3, 1]),
           'blim': np.array([1, 4, 1, 30, 2, 1])}
  assert report.choose_queries(ranks, 2, 2) == [4, 3, 2, 0]
  all_found = {'blim': np.ones(3, int)}
  assert report.choose_queries(all_found, 2, 2) == [0, 1]


@pytest.mark.parametrize('n_frames', [1, 2, 3, 9])
def test_any_number_of_frames_makes_a_tile(n_frames):
  frames = np.zeros((n_frames, 20, 50, 3), np.uint8)
  mosaic = gallery.mosaic(frames)
  assert max(mosaic.size) <= report.TILE_PX + 2


def query_of(index):
  return report.Shown(f'q{index}', f'query {index}')


def candidate_of(index):
  return report.Shown(f'c{index}', f'candidate {index}')


def by_hand(scores, relevant, query):
  """Ranked of one row by loops over Python lists."""
  order = sorted(range(scores.shape[1]), key=lambda c: (
      -scores[query, c], c in relevant[query]))
  rank = 1 + min(order.index(c) for c in relevant[query])
  return report.Ranked(rank, tuple(candidate_of(c) for c in order[:5]),
                       tuple(c in relevant[query] for c in order[:5]),
                       tuple(float(scores[query, c]) for c in order[:5]))


def test_answers_are_those_of_a_loop():
  """With ties and several relevant candidates; the rank is that of metrics."""
  generator = np.random.default_rng(0)
  scores = {row: generator.integers(0, 6, (30, 9)).astype(np.float32)
            for row in ('first', 'second', 'main')}
  relevant = [np.flatnonzero(row) for row in generator.random((30, 9)) < 0.3]
  relevant = [r if len(r) else np.array([3]) for r in relevant]
  queries = report.gallery_queries('a_to_b', query_of, {
      row: report.Row.of_scores(values, relevant, candidate_of)
      for row, values in scores.items()}, 4, 3)
  assert [q.missed for q in queries] == [True] * 4 + [False] * 3
  assert len({q.query.id for q in queries}) == 7
  for shown in queries:
    q = int(shown.query.id[1:])
    assert shown == report.GalleryQuery(
        'a_to_b', query_of(q), candidate_of(int(relevant[q][0])),
        {row: by_hand(values, relevant, q) for row, values in scores.items()})
    for row, values in scores.items():
      assert shown.rows[row].rank == metrics.ranks(
          values[q:q + 1], [relevant[q]])[0]


def test_rows_may_number_their_candidates_by_themselves():
  """The same candidates, but one row has left out the first."""
  scores = np.array([[5., 4, 3], [1, 2, 3], [2, 9, 1]])
  relevant = [np.array([1]), np.array([2]), np.array([1])]
  rows = {
      'less': report.Row.of_scores(
          scores[:, 1:], [r - 1 for r in relevant],
          lambda index: candidate_of(index + 1)),
      'whole': report.Row.of_scores(scores, relevant, candidate_of)}
  missed, *found = report.gallery_queries('task', query_of, rows)
  assert missed.query.id == 'q0' and missed.truth.id == 'c1'
  assert [c.id for c in missed.rows['whole'].top] == ['c0', 'c1', 'c2']
  assert missed.rows['whole'].hits == (False, True, False)
  assert [c.id for c in missed.rows['less'].top] == ['c1', 'c2']
  assert missed.rows['less'].hits == (True, False)
  assert [q.query.id for q in found] == ['q1', 'q2']


def test_five_are_shown_and_no_query_without_an_answer():
  row = report.Row(np.array([9, 1, 7]), [[], [4], [2, 3]], lambda q: range(8),
                   candidate_of)
  queries = report.gallery_queries('task', query_of, {'row': row})
  assert [q.query.id for q in queries] == ['q2', 'q1']
  assert [len(q.rows['row'].top) for q in queries] == [5, 5]
  assert queries[0].rows['row'].hits == (False, False, True, True, False)
  assert queries[0].truth.id == 'c2' and queries[0].rows['row'].rank == 7


def test_groups_are_in_the_order_of_the_directions(inputs):
  directions = ['video_to_text', 'nothing', 'text_to_video']
  groups = gallery.grouped(inputs['gallery'], directions)
  assert [direction for direction, _ in groups] == [directions[0],
                                                    directions[2]]
  shown = [q for _, halves in groups for _, queries in halves for q in queries]
  assert len(shown) == len(inputs['gallery'])
  for _, halves in groups:
    for heading, queries in halves:
      assert {q.missed for q in queries} == {heading == 'Missed'}
  first = shown[0]
  only = dataclasses.replace(first, rows={
      name: dataclasses.replace(ranked, rank=1)
      for name, ranked in first.rows.items()})
  assert [heading for heading, _ in gallery.grouped(
      [only], directions)[0][1]] == ['Found']


@pytest.mark.parametrize('path, said', [
    ('a.jpg', 'text to image'), ('a.mp4', 'text to video'),
    (None, 'text to video')])
def test_images_are_not_called_videos(path, said, inputs, tmp_path):
  shown = report.Shown('a', frames=np.zeros((1, 8, 8, 3), np.uint8), path=path)
  query = report.GalleryQuery('text_to_video', report.Shown('t', 'a dog'),
                              shown, {'blim': report.Ranked(1, (), ())})
  page = report.write(tmp_path, inputs['results'], gallery=[query],
                      sweeps=inputs['sweeps'], hubness=inputs['hubness'])
  page = page.read_text()
  other = {'text to image': 'text to video'}.get(said, 'text to image')
  assert f'<h3>{said}</h3>' in page and other not in page
