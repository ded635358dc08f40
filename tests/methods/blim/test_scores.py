"""What a call of score_matrix gives: rankings by the weights of a run."""
import dataclasses
import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxret.methods.blim import scores as scores_lib
from jaxret.scoring import trec
from jaxret.scoring.likelihood import cpn

VIDEOS, TEXTS = ('cat.mp4', 'dog.mp4', 'fox.mp4'), ('a cat', 'a dog')
WEIGHTS = {'text_to_video': cpn.Weights(0.5, 0.8),
           'video_to_text': cpn.Weights(0.25, 0.1)}


def make(zero_shot=False, dropped=()):
  """Scores of 3 videos and 2 texts; `dropped` pairs (video, text) are NaN."""
  random = np.random.default_rng(0)
  def draw(*shape):
    return random.normal(size=shape).astype(np.float32)
  text_given_video, text_prior = draw(3, 2), draw(2)
  video_given_text, video_prior = draw(2, 3), draw(2, 3)
  for video, text in dropped:
    text_given_video[video, text] = video_given_text[text, video] = np.nan
  if zero_shot:
    video_given_text = video_prior = None
  return scores_lib.Scores(
      text_given_video, text_prior, video_given_text, video_prior, VIDEOS,
      TEXTS, scores_lib.Chosen(WEIGHTS, 'validation'))


def test_rankings_are_blims_with_the_chosen_weights():
  scores = make()
  to_video, to_text = scores.text_to_video(), scores.video_to_text()
  assert (to_video.shape, to_text.shape) == ((2, 3), (3, 2))
  for text, video in np.ndindex(2, 3):
    np.testing.assert_allclose(
        to_video[text, video], 0.8 * scores.text_given_video[video, text]
        + 0.2 * (scores.video_given_text[text, video]
                 - 0.5 * scores.video_prior[text, video]), rtol=1e-5)
    np.testing.assert_allclose(
        to_text[video, text], 0.1 * scores.video_given_text[text, video]
        + 0.9 * (scores.text_given_video[video, text]
                 - 0.25 * scores.text_prior[text]), rtol=1e-5)


def test_weights_can_be_given():
  scores = make()
  np.testing.assert_array_equal(
      scores.text_to_video(query_weight=1.0), scores.text_given_video.T)
  np.testing.assert_array_equal(
      scores.text_to_video(alpha=0.0, query_weight=0.0),
      scores.video_given_text)
  one = scores.video_to_text(alpha=1.0)  # the other one stays as chosen
  np.testing.assert_allclose(
      scores.video_to_text() - one,
      np.broadcast_to(0.9 * 0.75 * scores.text_prior, (3, 2)), rtol=1e-4)


def test_zero_shot_ranks_by_what_there_is():
  scores = make(zero_shot=True)
  np.testing.assert_array_equal(
      scores.text_to_video(), scores.text_given_video.T)
  np.testing.assert_allclose(
      scores.video_to_text(),
      scores.text_given_video - 0.25 * scores.text_prior, rtol=1e-6)
  assert 'query_likelihood' not in scores.to_pandas('video_to_text')
  for call in (lambda: scores.text_to_video(alpha=0.1),
               lambda: scores.video_to_text(query_weight=0.1)):
    with pytest.raises(ValueError, match='has no effect on these scores'):
      call()


def test_scores_may_see_all_queries():
  """By a loop over the queries; the temperature is the chosen one, or given."""
  scores = make()
  chosen = scores.chosen._replace(temperatures={
      'text_to_video': {'dual_softmax': 0.5}, 'video_to_text': {}})
  scores = dataclasses.replace(scores, chosen=chosen)
  for name, rank, given, used in (
      ('text_to_video', scores.text_to_video, {}, 0.5),
      ('text_to_video', scores.text_to_video, {'temperature': 2.0}, 2.0),
      ('video_to_text', scores.video_to_text, {'temperature': 0.7}, 0.7)):
    plain = np.exp(rank(alpha=0.3).astype(np.float64) / used)
    found = rank(alpha=0.3, normalize='dual_softmax', **given)
    for q, c in np.ndindex(plain.shape):
      assert found[q, c] == pytest.approx(np.log(
          plain[q, c] ** 2 / sum(plain[q]) / sum(row[c] for row in plain)),
          rel=1e-4), name
  with pytest.raises(ValueError, match='video_to_text: no temperature was cho'):
    scores.video_to_text(normalize='dual_softmax')
  with pytest.raises(ValueError, match="for 'qb_norm': give one"):
    scores.text_to_video(normalize='qb_norm')
  with pytest.raises(ValueError, match='has a pair without a score'):
    make(dropped=[(0, 0)]).text_to_video(normalize='qb_norm', temperature=1.0)


def test_the_best_come_first_and_pairs_left_out_never():
  scores = make(dropped=[(0, 0), (1, 0)])
  top = scores.top(2)
  assert list(top) == list(TEXTS)
  assert [name for name, _ in top['a cat']] == ['fox.mp4']  # the one there is
  matrix = scores.text_to_video()
  best = np.argsort(-matrix[1])[:2]
  assert top['a dog'] == [(VIDEOS[v], float(matrix[1, v])) for v in best]
  assert np.isneginf(matrix[0, :2]).all() and matrix[0].argmax() == 2
  assert len(scores.top(99, 'video_to_text')['fox.mp4']) == 2


def test_tables_have_a_row_per_pair():
  pytest.importorskip('pandas')
  scores = make(dropped=[(2, 1)])
  table = scores.to_pandas()
  assert len(table) == 5
  matrix = scores.text_to_video()
  for row in table.itertuples():
    text, video = TEXTS.index(row.query), VIDEOS.index(row.candidate)
    assert row.score == matrix[text, video]
    assert row.candidate_likelihood == scores.video_given_text[text, video]
    assert row.query_likelihood == scores.text_given_video[video, text]
    assert row.prior == scores.video_prior[text, video]
    assert row.rank == 1 + (matrix[text] > row.score).sum()
  best = scores.to_pandas('video_to_text', k=1)
  assert list(best['query']) == list(VIDEOS) and set(best['rank']) == {1}
  np.testing.assert_array_equal(
      best['prior'], [scores.text_prior[TEXTS.index(t)]
                      for t in best['candidate']])


def test_files_hold_what_the_tables_do(tmp_path):
  """Ids survive; a pair that was left out is in neither."""
  pandas = pytest.importorskip('pandas')
  scores = dataclasses.replace(
      make(dropped=[(2, 1)]), text_ids=('t ü', ''))
  scores.to_parquet(tmp_path / 'pairs.parquet')
  pandas.testing.assert_frame_equal(
      pandas.read_parquet(tmp_path / 'pairs.parquet'), scores.to_pandas(),
      check_dtype=False)
  scores.to_trec(tmp_path / 'run.txt')
  assert trec.read_run(tmp_path / 'run.txt') == {
      name: dict(hits) for name, hits in scores.top(9).items()}
  scores.to_trec(tmp_path / 'run.txt', 'video_to_text', k=1, tag='best')
  assert trec.read_run(tmp_path / 'run.txt') == {
      name: dict(hits) for name, hits in scores.top(
          1, 'video_to_text').items()}


@pytest.mark.parametrize('call, message', [
    (lambda s: s.text_to_video(alpha=1.5), 'alpha is 1.5, want 0 to 1'),
    (lambda s: s.video_to_text(query_weight=float('nan')), 'query_weight is'),
    (lambda s: s.text_to_video(temperature=0.1), 'no effect without normalize'),
    (lambda s: s.text_to_video(normalize='softmax'), "normalize is 'softmax'"),
    (lambda s: s.text_to_video(normalize='qb_norm', temperature=0),
     'temperature is 0: want a number above 0'),
    (lambda s: s.top(0), 'k = 0'),
    (lambda s: s.to_pandas(k=-1), 'k = -1'),
    (lambda s: s.top(1, 'sideways'), "direction 'sideways': want one of"),
    (lambda s: s.to_pandas('sideways'), "direction 'sideways'")])
def test_what_makes_no_sense_is_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call(make())


def config(**fields):
  return ConfigDict({'eval': {
      'zero_shot': False, 'alpha': (0.1, 0.2), 'c': (0.3, 0.4, 1.0, 1.0),
      'zero_shot_alpha': (0.5, 0.6), 'zero_shot_c': (0.7, 0.8, 1.0, 1.0),
      **fields}})


def test_weights_come_from_the_evaluation(tmp_path):
  """From the paper's where there was none."""
  paper = scores_lib.chosen(config(), str(tmp_path))
  assert paper.on == 'paper'
  assert paper.weights['text_to_video'][:2] == (0.1, 0.3)
  zero_shot = scores_lib.chosen(config(zero_shot=True), None)
  assert zero_shot.weights['video_to_text'][:2] == (0.6, 0.8)
  row = {'chosen_on': 'validation', 'alpha': 0.9, 'query_weight': 0.4}
  (tmp_path / 'results.json').write_text(json.dumps({'weights': {
      'text_to_video': {'blim': row}, 'video_to_text': {'blim': {
          **row, 'alpha': 0.2}, 'blim_qb_norm': {**row, 'temperature': 0.2}}}}))
  found = scores_lib.chosen(config(), str(tmp_path))
  assert found.on == 'validation'
  assert found.weights == {'text_to_video': cpn.Weights(0.9, 0.4),
                           'video_to_text': cpn.Weights(0.2, 0.4)}
  assert found.temperatures == {'text_to_video': {},
                                'video_to_text': {'qb_norm': 0.2}}


@pytest.mark.parametrize('text', [
    '{', '[]', '{"weights": {}}',
    '{"weights": {"text_to_video": {"blim": 1}}}'])
def test_damaged_results_are_named(tmp_path, text):
  (tmp_path / 'results.json').write_text(text)
  with pytest.raises(ValueError, match='results.json: holds no weights of'):
    scores_lib.chosen(config(), str(tmp_path))
