"""From score matrices to directions, kept pairs and rows, by plain loops."""
import numpy as np
import pytest

from jaxret.data import types
from jaxret.methods.blim import evaluator
from jaxret.scoring import store
from jaxret.scoring.likelihood import score as likelihood
from tests import tiny_likelihood as tiny

TEXT_VIDEO = np.array([0, 1, 2, 3, 4, 5, 0], np.int32)


def split():
  return types.Split(
      'tiny', 'test', tuple(types.Item(f'v{i}') for i in range(tiny.VIDEOS)),
      tuple(types.Item(f't{i}', text='a') for i in range(tiny.TEXTS)),
      TEXT_VIDEO)


def make_inputs(**fields):
  features = tiny.make_features()
  return evaluator.LikelihoodInputs(
      split(), features, tiny.make_prompts(), features.mean(2), **fields)


def first_stage(seed=0):
  random = np.random.default_rng(seed)
  return {'text_to_video': random.normal(size=(tiny.TEXTS, tiny.VIDEOS)),
          'video_to_text': random.normal(size=(tiny.VIDEOS, tiny.TEXTS))}


@pytest.mark.parametrize('topk', [1, 2, 6])
def test_either_direction_keeps_a_pair(topk):
  stage = first_stage()
  inputs = make_inputs(first_stage=stage, topk=topk)
  either = evaluator.either_kept(inputs)
  assert either.shape == (tiny.VIDEOS, tiny.TEXTS)
  for video, text in np.ndindex(either.shape):
    by_text = stage['text_to_video'][text]
    by_video = stage['video_to_text'][video]
    kept = [sum(other > row[own] for other in row) < topk
            for row, own in ((by_text, video), (by_video, text))]
    assert either[video, text] == any(kept)
    for name, place, wanted in zip(
        evaluator.DIRECTIONS, ((text, video), (video, text)), kept):
      assert evaluator.kept_pairs(inputs)[name][place] == wanted


def test_all_pairs_are_kept_without_topk():
  assert evaluator.either_kept(make_inputs(first_stage=first_stage())) is None
  with pytest.raises(ValueError, match='eval.topk is 3, but there is no first'):
    evaluator.kept_pairs(make_inputs(topk=3))


def test_a_direction_asks_for_its_candidates():
  """Candidate: of what is looked for; query: of what is asked with."""
  random = np.random.default_rng(1)
  shape = tiny.VIDEOS, tiny.TEXTS
  scores = evaluator.Likelihoods(
      random.normal(size=shape), random.normal(size=tiny.TEXTS),
      random.normal(size=shape[::-1]), random.normal(size=shape[::-1]))
  found = evaluator.directions(scores)
  for video, text in np.ndindex(shape):
    to_video = [scores.video_given_text[text, video],
                scores.text_given_video[video, text],
                scores.video_prior[text, video]]
    to_text = [scores.text_given_video[video, text],
               scores.video_given_text[text, video], scores.text_prior[text]]
    for direction, place, wanted in (
        (found['text_to_video'], (text, video), to_video),
        (found['video_to_text'], (video, text), to_text)):
      got = [np.broadcast_to(matrix, direction.candidate.shape)[place]
             for matrix in direction[:3]]
      assert got == wanted
  zero_shot = evaluator.directions(
      scores._replace(video_given_text=None, video_prior=None))
  assert zero_shot['text_to_video'].candidate is None
  assert zero_shot['video_to_text'].query is None


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['shared', 'reference'])
def test_scores_are_kept_for_the_same_inputs_alone(tmp_path, mode):
  params, options = tiny.make_params(), likelihood.Options(
      rows=6, columns=7, max_padding=9.0, nonzero_denominator=False, mode=mode)
  def score(inputs, options=options):
    return evaluator.score(tiny.MODEL, params, tiny.one_device(), inputs,
                           options, tmp_path)
  inputs = make_inputs()
  first = [np.array(matrix) for matrix in score(inputs)]
  wanted = tiny.full_passes(params, inputs.features, inputs.prompts)
  np.testing.assert_allclose(
      first[0], wanted.text_given_video, atol=tiny.ATOL)
  np.testing.assert_allclose(
      np.broadcast_to(first[1], first[0].shape)[0], wanted.text_prior,
      atol=tiny.ATOL)
  np.testing.assert_allclose(
      first[2], wanted.video_given_text, atol=tiny.ATOL)
  np.testing.assert_allclose(first[3], wanted.video_prior, atol=tiny.ATOL)
  assert len([path for path in tmp_path.glob('*.npy')
              if not path.stem.endswith('.crc32')]) == 4
  for kept, again in zip(first, score(inputs)):
    np.testing.assert_array_equal(kept, again)
  other = inputs._replace(vocabulary=inputs.vocabulary + 1)
  with pytest.raises(ValueError, match='scores of other inputs: features'):
    score(other)
  with pytest.raises(ValueError, match='other inputs: nonzero_denominator'):
    score(inputs, options._replace(nonzero_denominator=True))
  with pytest.raises(ValueError, match='other inputs: invariant'):
    score(inputs, options._replace(invariant=True))


def test_a_matrix_that_is_not_whole_is_not_given_out(tmp_path):
  """Another run has opened cells meanwhile, or a prior is NaN."""
  scores, values = store.Store(tmp_path, {}), np.zeros((2, 3), np.float32)
  values[1, 2] = np.nan
  with pytest.raises(ValueError, match='x has pairs without a score after'):
    evaluator.filled(scores, 'x', (2, 3), lambda m: evaluator._copy(m, values))
  found = evaluator.filled(scores, 'y', (2, 3), lambda m: evaluator._copy(
      m, values), ~np.isnan(values))
  np.testing.assert_array_equal(found, values)  # of a cascade it is whole


def test_what_cannot_be_scored_is_named():
  inputs = make_inputs()
  inputs.vocabulary[[2, 4], 1] = np.inf
  with pytest.raises(ValueError, match=r"features of 'v2' .*1 other videos\)"):
    evaluator.check(inputs)
  twice = split()
  twice = types.Split('tiny', 'test', twice.videos[:5] + twice.videos[:1],
                      twice.texts, TEXT_VIDEO)
  with pytest.raises(ValueError, match='two videos have the same id'):
    evaluator.check(make_inputs()._replace(split=twice))
