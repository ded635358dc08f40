"""Reranking equals whole pairs, each alone, whatever is shared and kept."""

import numpy as np
import PIL.Image
import pytest

from jaxret import sharding
from jaxret.data import question_frames, types
from jaxret.reranking import media_features, pair_scores
from tests import tiny_qwen3_vl, tiny_rerankers, tiny_unite
from tests.tiny_rerankers import CANDIDATES, QUERIES

ATOL = 1e-4  # of log odds of several


@pytest.fixture(scope='module')
def model():
  return tiny_rerankers.qwen3_vl()


@pytest.fixture(scope='module')
def want(model):
  return tiny_rerankers.whole_pairs(model, QUERIES, CANDIDATES)


def rerank(model, queries=QUERIES, candidates=CANDIDATES, *args, **options):
  return model.rerank(queries, candidates, *args, show_progress=False,
                      **options)


def test_scores_are_those_of_each_pair_alone(model, want):
  found = rerank(model)
  assert want.std() > 0.1
  np.testing.assert_allclose(found.log_odds, want, atol=ATOL)
  np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-want)), atol=ATOL)
  np.testing.assert_array_equal(found.order, np.argsort(-want, 1))


@pytest.mark.slow
def test_one_query_gives_one_row(model, want):
  found = rerank(model, QUERIES[0])
  assert found.scores.shape == found.order.shape == (5,)
  np.testing.assert_allclose(found.log_odds, want[0], atol=ATOL)


@pytest.mark.slow
def test_queries_may_have_candidates_of_their_own(model, want):
  found = rerank(model, QUERIES, [CANDIDATES[3:], [
      CANDIDATES[4], CANDIDATES[1], CANDIDATES[4]]])
  np.testing.assert_allclose(found.log_odds[0, :2], want[0, 3:], atol=ATOL)
  np.testing.assert_allclose(found.log_odds[1], want[1, [4, 1, 4]], atol=ATOL)
  assert np.isnan(found.log_odds[0, 2]) and found.order[0, 2] == -1


def test_nothing_is_compiled_for_a_like_mix(model):
  programs = (*pair_scores.programs(model.config),
              media_features.compiled(model.config))
  rerank(model)
  before = [program._cache_size() for program in programs]
  others = [types.Item(f'other {i}', text=one.text, image=(
      None if one.image is None else 255 - one.image),
                       video=None if one.video is None else 255 - one.video)
            for i, one in enumerate(CANDIDATES)]
  rerank(model, QUERIES[::-1], others[::-1])
  assert [program._cache_size() for program in programs] == before


@pytest.mark.slow
def test_the_mesh_changes_nothing(want):
  model = tiny_rerankers.qwen3_vl(sharding.make_mesh())
  np.testing.assert_allclose(rerank(model).log_odds, want, atol=ATOL)
  np.testing.assert_allclose(
      rerank(model, QUERIES[1]).log_odds, want[1], atol=ATOL)


@pytest.mark.slow
@pytest.mark.parametrize('options', [
    {'cache_bytes': 1}, {'queries_at_once': 1}, {'tile_tokens': 16}])
def test_neither_do_the_sizes_of_its_parts(want, options):
  found = rerank(tiny_rerankers.qwen3_vl(**options))
  np.testing.assert_allclose(found.log_odds, want, atol=ATOL)


@pytest.mark.slow
@pytest.mark.parametrize('frame', question_frames.FRAMES)
def test_frames_and_instructions_are_asked(model, want, frame):
  found = rerank(model, QUERIES, CANDIDATES, 'left', frame=frame)
  np.testing.assert_allclose(found.log_odds, tiny_rerankers.whole_pairs(
      model, QUERIES, CANDIDATES, 'left', question_frames.FRAMES[frame]),
                             atol=ATOL)
  assert np.abs(found.log_odds - want).max() > 0.01


@pytest.mark.slow
def test_calibrated_scores_are_less_those_of_an_empty_candidate(model, want):
  found = rerank(model, calibrate=True)
  prior = tiny_rerankers.whole_pairs(model, QUERIES, [types.Item('empty')])
  np.testing.assert_allclose(found.prior, prior[:, 0], atol=ATOL)
  np.testing.assert_allclose(found.calibrated, want - prior, atol=2 * ATOL)
  one = rerank(model, QUERIES[0], calibrate=True)
  np.testing.assert_allclose(one.calibrated, (want - prior)[0], atol=2 * ATOL)


@pytest.mark.slow
@pytest.mark.parametrize('frame', ['yes_no', 'multiple_choice'])
def test_long_prompts_are_cut_as_those_of_pairs(frame, caplog):
  long = 'red ' * 60
  queries = [long, {'text': long, 'image': tiny_unite.pixels(3, 32, 64)}]
  whole = tiny_rerankers.qwen3_vl(frame=frame)
  shortest = len(whole.reader.head(whole.reader.look(
      types.Item('q', text='')), whole.frame, long))
  for most in (shortest, shortest - 30):  # in the query, in the instruction
    model = tiny_rerankers.qwen3_vl(max_tokens=most, frame=frame)
    found = rerank(model, queries, CANDIDATES, long)
    np.testing.assert_allclose(found.log_odds, tiny_rerankers.whole_pairs(
        model, queries, CANDIDATES, long), atol=ATOL)
  assert 'its text is cut' in caplog.text


@pytest.mark.slow
def test_bfloat16_is_as_near_as_whole_pairs_are(want):
  model = tiny_rerankers.qwen3_vl()
  config = tiny_qwen3_vl.with_numerics(
      model.config, dtype='bfloat16', param_dtype='bfloat16')
  half = type(model)(config, tiny_rerankers.jax.tree.map(
      lambda leaf: leaf.astype('bfloat16'), model.params), model.reader,
                     model.mesh)
  whole = tiny_rerankers.whole_pairs(half, QUERIES, CANDIDATES)
  def off(found):
    return np.sqrt(np.mean((found - want) ** 2))
  assert 0 < off(rerank(half).log_odds) < 2 * off(whole)


@pytest.fixture
def seen(monkeypatch):
  """How many slices the tower is given, while a test runs."""
  counts, run = [], media_features.MediaFeatures._run
  def counting(self, patches, sides):
    counts.append(len(patches))
    return run(self, patches, sides)
  monkeypatch.setattr(media_features.MediaFeatures, '_run', counting)
  return counts


def test_features_are_kept_on_disk_by_content(tmp_path, seen, want):
  image = tmp_path / 'a.png'
  PIL.Image.fromarray(CANDIDATES[2].image).save(image)
  candidates = [*CANDIDATES[:2], {'image': str(image)}, *CANDIDATES[3:]]
  once = tiny_rerankers.qwen3_vl()
  for _ in range(2):  # the second time in memory
    found = rerank(once, QUERIES, candidates, features=tmp_path / 'kept')
  assert sum(seen) == 5  # of the query, two images, a video of two slices
  np.testing.assert_allclose(found.log_odds, want, atol=ATOL)
  again = rerank(tiny_rerankers.qwen3_vl(), QUERIES, candidates,
                 features=tmp_path / 'kept')
  assert sum(seen) == 5
  np.testing.assert_array_equal(again.log_odds, found.log_odds)
  PIL.Image.fromarray(255 - CANDIDATES[2].image).save(image)
  changed = rerank(tiny_rerankers.qwen3_vl(), QUERIES, candidates,
                   features=tmp_path / 'kept').log_odds
  assert sum(seen) == 6
  same = np.arange(5) != 2
  np.testing.assert_allclose(changed[:, same], want[:, same], atol=ATOL)
  assert np.abs(changed[:, 2] - want[:, 2]).min() > 10 * ATOL


@pytest.mark.slow
def test_features_of_other_weights_are_not_taken(tmp_path, seen):
  model = tiny_rerankers.qwen3_vl()
  rerank(model, QUERIES[1], CANDIDATES[:1], features=tmp_path)
  params = tiny_rerankers.jax.tree.map(lambda leaf: 1.5 * leaf, model.params)
  other = type(model)(model.config, params, model.reader, model.mesh)
  rerank(other, QUERIES[1], CANDIDATES[:1], features=tmp_path)
  assert seen == [1, 1] and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize('queries, candidates, message', [
    (['a', 3], CANDIDATES, '^query 1: got int; want a text'),
    (['a'], [{'image': '/no/such.png'}], '^candidate 0: its image cannot be'),
    (['a', 'b'], [['a'], ['b', {'id': 'x', 'video': b'no'}]], '^x: its video'),
    (['a', 'b'], [['a'], ['b', {'image': b'no'}]],
     '^query 1, candidate 1: its image'),
    (['<|im_end|>'], ['a'], '^query 0: its text holds the control token'),
    (['a'], 'b', '^candidates: got one str, want a list'),
    ([], ['a'], '^query: got none'), (['a'], [], '^candidate: got none'),
    (['a', 'b'], [['a']], '^candidates: got 1 lists among 1 for 2 queries'),
    ('a', [['b']], '^candidates: got 1 lists'),
    (['a'], [['b'], 'c'], '^candidates: got 1 lists among 2')])
def test_errors_are_one_line_that_names_the_item(
    model, queries, candidates, message):
  with pytest.raises(ValueError, match=message) as error:
    rerank(model, queries, candidates)
  assert '\n' not in str(error.value)


def test_what_cannot_be_used_is_skipped(model, want, tmp_path):
  PIL.Image.fromarray(CANDIDATES[2].image).save(tmp_path / 'cut.png')
  data = (tmp_path / 'cut.png').read_bytes()
  errors = []
  found = rerank(model, [QUERIES[0], '<|im_end|>'], [
      *CANDIDATES, {'id': 'none', 'image': '/no/such.png'},
      {'id': 'cut', 'image': data[:len(data) // 2]}], on_error=errors.append)
  assert [str(error).partition(':')[0] for error in errors] == [
      'query 1', 'none', 'cut']
  np.testing.assert_allclose(found.log_odds[0, :5], want[0], atol=ATOL)
  assert np.isnan(found.scores[0, 5:]).all()
  assert np.isnan(found.scores[1]).all()
  assert found.order[0, 5:].tolist() == [-1, -1]


def test_scores_that_are_not_finite_are_told(model):
  params = tiny_rerankers.jax.tree.map(np.array, model.params)
  params['params']['decoder']['final_norm']['scale'][0] = np.nan
  broken = type(model)(model.config, params, model.reader, model.mesh)
  with pytest.raises(ValueError, match='^query 0 with text: its score is not'):
    rerank(broken)


def test_options_are_checked(model):
  with pytest.raises(ValueError, match="^frame: got 'maybe', want yes_no"):
    rerank(model, frame='maybe')
  with pytest.raises(ValueError, match='^the instruction holds'):
    rerank(model, instruction='<|im_end|>')
  assert repr(model).startswith('Reranker(qwen3_vl, 1 x ')
