"""Hits sorted anew are those of jaxret.rerank and jaxret.score_matrix."""
import dataclasses

import numpy as np
import pytest

import jaxret
from jaxret.data import clips
from jaxret.indexing import second_look
from tests import numbered_videos, tiny_index, tiny_prompted, tiny_rerankers

tiny_index.lancedb()


@pytest.fixture(scope='module')
def opened(tmp_path_factory):
  path = tmp_path_factory.mktemp('second')
  for number, size in enumerate(((64, 64), (64, 96), (96, 64))):
    tiny_index.picture(path / 'm' / f'{number}.png', number, *size)
  (path / 'm' / 'clip.mp4').write_bytes(numbered_videos.video(100))
  for number, text in enumerate(('red', 'a blue square', 'moves left')):
    (path / 'm' / f'{number}.txt').write_text(text)
  model = tiny_index.model()
  jaxret.index(path / 'm', model, path / 'i', window=3, show_progress=False)
  return jaxret.open_index(path / 'i', model)


def test_reranked_hits(opened):
  model = tiny_rerankers.qwen3_vl()
  first = opened.search('red square', k=6)
  hits = opened.search('red square', k=3, rerank=model, candidates=6)
  want = jaxret.rerank('red square', [opened.item(hit) for hit in first],
                       model, show_progress=False)
  assert [hit.row for hit in hits] == [first[i].row for i in want.order[:3]]
  np.testing.assert_array_equal([hit.rerank for hit in hits],
                                want.scores[want.order[:3]])
  assert [dataclasses.replace(hit, rerank=None) for hit in hits] == [
      first[i] for i in want.order[:3]]


@pytest.mark.slow
def test_a_text_ranks_what_is_seen_by_likelihood(opened):
  model = tiny_prompted.qwen3_vl()
  first = opened.search('red', k=5, kind='video')
  assert len(first) == 2
  hits = opened.search('red', k=5, kind='video', likelihood=model)
  file = f'{opened.made.root}/clip.mp4'
  scores = jaxret.score_matrix(
      [clips.Clip(file, hit.start_s, hit.end_s) for hit in first], ['red'],
      model)
  want = scores.text_to_video()[0]
  order = np.argsort(-want, kind='stable')
  assert [hit.row for hit in hits] == [first[i].row for i in order]
  np.testing.assert_allclose([hit.likelihood for hit in hits], want[order],
                             atol=1e-6)


@pytest.mark.slow
def test_an_image_ranks_texts_by_likelihood_with_cpn(opened):
  model, file = tiny_prompted.qwen3_vl(), f'{opened.made.root}/1.png'
  hits = opened.search({'image': file}, kind='text', likelihood=model)
  scores = jaxret.score_matrix([file], [hit.text for hit in hits], model)
  weights = scores.chosen.weights['video_to_text']
  assert weights.alpha > 0  # the prior counts
  want = scores.video_to_text()[0]
  np.testing.assert_allclose([hit.likelihood for hit in hits], want, atol=1e-5)
  assert (np.diff(want) <= 0).all() and len(hits) == 3


def test_what_cannot_be_looked_at_again(opened):
  model = tiny_prompted.qwen3_vl()
  for query, options, said in (
      ('red', {'likelihood': model}, 'ranks image or video, got the text'),
      ({'image': f'{opened.made.root}/1.png'}, {'likelihood': model},
       'a query of image ranks text, got the'),
      ('red', {'likelihood': model, 'rerank': model}, 'give one'),
      ('red', {'rerank': model, 'candidates': 0}, 'candidates is 0'),
      (np.ones(10, np.float32), {'rerank': model}, 'got a vector')):
    with pytest.raises(ValueError, match=said) as error:
      opened.search(query, k=7, **options)
    assert '\n' not in str(error.value)


def test_without_one():
  assert second_look.chosen(None, None, 5, 5) is None
