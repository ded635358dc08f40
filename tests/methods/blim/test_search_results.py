"""What a run says of a search: nothing about ranks that it does not know."""
import numpy as np

from jaxret import metrics, report
from jaxret.methods.blim import search_results
from jaxret.scoring.likelihood import bounds, search

RANKS = np.array([1, 1, 3, 4, 4, 2])  # 4: beyond k = 3


def test_a_row_has_recall_up_to_k_and_no_number_that_needs_later_ranks():
  row = search_results.summary(RANKS, 3)
  assert set(row) == {'recall_at_1', 'recall_at_3', 'recall_at_1_ci95'}
  whole = metrics.summary(RANKS)
  assert row['recall_at_1'] == whole['recall_at_1']
  np.testing.assert_allclose(row['recall_at_1'], 100 / 3)
  np.testing.assert_allclose(row['recall_at_3'], 400 / 6)
  assert set(search_results.summary(RANKS, 10)) == {
      'recall_at_1', 'recall_at_5', 'recall_at_10', 'recall_at_1_ci95'}


def found(margin):
  return search.Found(
      np.zeros((1000, 1), int), np.zeros((1000, 1)), np.ones(1000, bool),
      np.full(1000, margin), 0.025, bounds.Share(0.06, 0.02), 12, 100)


def test_the_certificate_in_words():
  certificate = search_results._certificate(found(0.0012))
  assert search_results.sentence('video_to_text', certificate) == (
      'video to text: 1,000 of 1,000 videos certified; pairs scored whole '
      '2.5 %; tokens 12 %; expected tokens 6 %; smallest margin 0.0012 nats')
  assert search_results._certificate(found(np.inf))['smallest_margin'] is None


def test_tables_show_what_there_is(tmp_path):
  certificates = {'video_to_text': search_results._certificate(found(0.5))}
  results = {
      'dataset': 'd', 'split': 'test', 'sizes': {'videos': 6, 'texts': 6},
      'left_out': 0, 'video_to_text': {'blim': search_results.summary(
          RANKS, 3)},
      'weights': {'video_to_text': {'blim': {
          'chosen_on': 'paper', 'alpha': 0.9, 'query_weight': 0.6}}},
      'certificates': certificates,
      'tables': [search_results._table(certificates, 3)]}
  text = report.format_table(results)
  assert 'R@3' in text and 'R@5' not in text and 'MRR' not in text
  assert '1,000 of 1,000' in text
  page = report.write(tmp_path, results).read_text()
  assert '1,000 of 1,000' in page and '>median</th>' not in page
