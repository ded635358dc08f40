"""The best k by a search against brute force over all pairs."""
from typing import NamedTuple

import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.scoring.likelihood import bounds, cpn, filling, search
from jaxret.scoring.likelihood import score as likelihood
from tests import tiny_likelihood, tiny_search

DIRECTIONS = search.DIRECTIONS
NEAR = {'rtol': 1e-5, 'atol': 1e-5}


def find(drawn, direction, weights, k, matrices=None, asked=None, alike=False,
         **kwargs):
  matrices = matrices or tiny_search.matrices(drawn)
  with tiny_search.filling(drawn, asked):
    return search.best(tiny_search.job(drawn, alike), matrices, direction,
                       weights, k, **kwargs)


def best_of(drawn, direction, weights, k):
  """The exhaustive best k as the project ranks them, float32."""
  known = tiny_search.known(drawn, direction)
  scores = bounds.upper(known, weights)
  np.testing.assert_allclose(
      scores, tiny_search.brute_force(drawn, direction, weights), atol=1e-5)
  index = np.argsort(-scores, 1, kind='stable')[:, :k]
  return index, np.take_along_axis(scores, index, 1)


@pytest.mark.parametrize('direction', DIRECTIONS)
def test_hundreds_of_random_draws_give_what_brute_force_gives(
    direction, monkeypatch):
  """125 draws each: ties, exact zeros, weights of 0 and 1, any k."""
  monkeypatch.setattr(bounds, 'BLOCK_CELLS', 60)
  rng = np.random.default_rng(len(direction))
  cheaper = 0
  for seed in range(125):
    drawn = tiny_search.draw(seed, *rng.integers(2, 20, 2))
    alpha, c = np.where(rng.random(2) < 0.3, rng.integers(0, 2, 2),
                        rng.random(2))
    weights, k = cpn.Weights(float(alpha), float(c)), int(rng.integers(1, 8))
    found = find(drawn, direction, weights, k)
    index, score = best_of(drawn, direction, weights, k)
    np.testing.assert_array_equal(found.index, index, str((seed, weights, k)))
    np.testing.assert_array_equal(found.score, score)
    assert found.certified.all()
    cheaper += found.whole < 0.5
  assert cheaper > 8


@pytest.mark.parametrize('direction', DIRECTIONS)
def test_nothing_without_weight_is_computed(direction):
  drawn, asked = tiny_search.draw(5), []
  find(drawn, direction, cpn.Weights(0.4, 1.0), 2, asked=asked)
  query = 'captions' if direction == 'text_to_video' else 'clips'
  assert {name for name, _, _ in asked} == {query}


def test_zero_shot_there_are_only_captions():
  drawn = tiny_search.draw(6)
  matrices = tiny_search.matrices(drawn, zero_shot=True)
  weights = cpn.Weights(0.8, 0.3)
  found = find(drawn, 'video_to_text', weights, 3, matrices)
  scores = tiny_search.text_given_video(drawn) - np.float32(
      0.8) * drawn.text_prior
  np.testing.assert_array_equal(
      found.index, np.argsort(-scores, 1, kind='stable')[:, :3])
  matrices = tiny_search.matrices(drawn, zero_shot=True)
  found = find(drawn, 'text_to_video', weights, 3, matrices)
  scores = tiny_search.text_given_video(drawn).T
  np.testing.assert_array_equal(
      found.index, np.argsort(-scores, 1, kind='stable')[:, :3])


def hopeful(seed=0):
  """40 x 40 with a first clip that says what belongs together."""
  drawn = tiny_search.draw(seed, 40, 40)
  clips = drawn.clips.copy()
  clips[..., 0] = np.where(np.eye(40), -1, clips[..., 0] - 12)
  return drawn._replace(clips=clips)


def test_few_pairs_are_computed_where_the_first_clip_says_enough():
  drawn, asked = hopeful(), []
  found = find(drawn, 'video_to_text', cpn.Weights(0.3, 0.6), 1, asked=asked)
  assert found.whole < 0.25 and found.certified.all()
  assert all(keep is not None for _, _, keep in asked)
  np.testing.assert_array_equal(found.index[:, 0], np.arange(40))
  # The seeds alone are three pairs of each query.
  assert 0 <= found.expected.least <= found.expected.expected
  assert 3 / 40 <= found.expected.expected < 0.2


def test_where_most_stays_open_all_is_computed_as_exhaustive_scoring_does():
  """Captions by their own likelihood: their first label bounds little."""
  drawn, asked = tiny_search.draw(1, 40, 40), []
  labels = drawn.labels.copy()
  labels[..., 0] = 0
  drawn = drawn._replace(labels=labels)
  found = find(drawn, 'text_to_video', cpn.Weights(0.0, 1.0), 2, asked=asked,
               alike=True)
  assert asked[-1][2] is None and found.tokens > found.all_tokens
  assert found.whole == 1 and found.expected.expected > 0.5


@pytest.mark.parametrize('direction', DIRECTIONS)
def test_a_budget_certifies_what_it_suffices_for(direction):
  drawn, weights = tiny_search.draw(7, 40, 40), cpn.Weights(0.0, 0.5)
  index, _ = best_of(drawn, direction, weights, 2)
  shares, budgets = [], (2, 4, 8, 16, 24, 32, 40)
  for budget in budgets:
    matrices = tiny_search.matrices(drawn)
    found = find(drawn, direction, weights, 2, matrices, budget=budget)
    computed = ~np.isnan(matrices.text_given_video)
    if direction == 'text_to_video':
      computed = computed.T
    assert computed.sum(1).max() <= budget
    sure = found.certified
    np.testing.assert_array_equal(found.index[sure], index[sure])
    assert (found.margin[sure] >= -1e-6).all()
    shares.append(sure.mean())
  assert shares == sorted(shares) and shares[-1] == 1 and shares[0] < 0.5
  assert any(0 < share < 1 for share in shares)


def test_margins_say_how_far_the_last_one_is_above_the_others():
  drawn, weights = hopeful(2), cpn.Weights(0.0, 0.5)
  found = find(drawn, 'video_to_text', weights, 3)
  scores = np.sort(tiny_search.brute_force(
      drawn, 'video_to_text', weights), 1)[:, ::-1]
  gap = scores[:, 2] - scores[:, 3]
  assert (found.margin <= gap + 1e-5).all() and (found.margin >= 0).all()
  assert (found.margin > 0.9 * gap - 1e-5).any()
  every = find(drawn, 'video_to_text', weights, 50)
  assert every.index.shape == (40, 40) and np.isinf(every.margin).all()


def test_what_is_known_is_not_computed_again():
  drawn, weights, asked = hopeful(3), cpn.Weights(0.1, 0.5), []
  matrices = tiny_search.matrices(drawn, filled=True)
  first = find(drawn, 'video_to_text', weights, 2, matrices, asked)
  assert not sum(cells for _, cells, _ in asked)
  again = tiny_search.matrices(drawn)
  find(drawn, 'video_to_text', weights, 2, again)
  asked = []
  second = find(drawn, 'video_to_text', weights, 2, again, asked)
  assert not sum(cells for _, cells, _ in asked)
  # What a search takes does not depend on what it found.
  assert first[4:] == second[4:] and second.whole < 0.3
  for found in (first, second):
    np.testing.assert_array_equal(
        found.index, best_of(drawn, 'video_to_text', weights, 2)[0])


@pytest.mark.parametrize('stop', range(4))
def test_a_search_that_is_stopped_asks_for_the_same_cells_again(stop):
  """Its tiles are those of `keep`: the same cells are the same bits."""
  drawn, weights = hopeful(4), cpn.Weights(0.3, 0.6)
  whole, asked = [], []
  find(drawn, 'video_to_text', weights, 1, asked=whole)
  matrices = tiny_search.matrices(drawn)
  with tiny_search.filling(drawn):
    for name, _, keep in whole[:stop]:
      if name == 'captions':
        likelihood.score_texts(matrices.text_given_video, keep)
      else:
        likelihood.score_videos(matrices.video_given_text, keep)
  find(drawn, 'video_to_text', weights, 1, matrices, asked)
  assert len(asked) == len(whole)
  for (name, cells, keep), (other, before, kept) in zip(asked, whole):
    assert name == other
    np.testing.assert_array_equal(keep, kept)
    assert cells <= before
  assert not sum(cells for _, cells, _ in asked[:stop])


@pytest.mark.parametrize('part, message', [
    ('text_given_video', r'video 3 and text 5: log P\(text \| video\) is 0.5 '
     'on average, but its first label alone allows -'),
    ('video_given_text', r'video 3 and text 5: log P\(video \| text\) is 0.5 '
     'on average, but its first clip alone allows -')])
@pytest.mark.parametrize('direction', DIRECTIONS)
def test_a_violated_bound_raises_and_names_the_pair(direction, part, message):
  drawn = tiny_search.draw(8)
  drawn.labels[3, 5, 0] = drawn.clips[5, 3, 0] = -1
  matrices = tiny_search.matrices(drawn)
  where = (3, 5) if part == 'text_given_video' else (5, 3)
  getattr(matrices, part)[where] = 0.5
  with pytest.raises(ValueError, match=message) as caught:
    find(drawn, direction, cpn.Weights(0.1, 0.5), 1, matrices)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('kwargs, message', [
    (dict(direction='both'), "direction is 'both': use one of text_to_video"),
    (dict(k=0), 'k is 0: want 1 at least'),
    (dict(weights=cpn.Weights(0.0, 1.2)), 'query likelihood is 1.2: a bound'),
    (dict(k=3, budget=2), 'budget is 2, fewer than k = 3'),
    (dict(slack=-1.0), 'slack is -1.0: below 0'),
    (dict(slack=float('nan')), 'slack is nan')])
def test_bad_input_is_one_line(kwargs, message):
  drawn = tiny_search.draw(0)
  with pytest.raises(ValueError, match=message):
    find(drawn, **{'direction': 'video_to_text', 'k': 1,
                   'weights': cpn.Weights(), **kwargs})


class Real(NamedTuple):
  """A tiny model's pairs, scored exhaustively, and a job to search them."""
  job: search.Job
  matrices: search.Matrices

  def emptied(self):
    """The matrices as a search begins with them."""
    return self.matrices._replace(**{
        name: np.full_like(getattr(self.matrices, name), np.nan)
        for name in ('text_given_video', 'video_given_text')})


def score_all(mesh):
  """Real of 24 videos and 21 texts."""
  tiny = tiny_likelihood
  rng = np.random.default_rng(4)
  features = np.tile(tiny.make_features(), (4, 1, 1, 1))
  features = features + rng.normal(size=features.shape).astype(np.float32)
  prompts = tiny.make_prompts()
  swapped = [rng.permutation(40)[label] for label in prompts.labels * 3]
  prompts = prompts._replace(
      labels=tuple(swapped), text_prefixes=prompts.text_prefixes * 3)
  params = tiny.make_params()['params']
  # Sharp: the first clip says which videos do not fit.
  head = {'kernel': 20 * params['visual_head']['kernel']}
  params = {'params': {**params, 'visual_head': head}}
  params = jax.device_put(params, sharding.shardings(mesh, params))
  job = search.Job(tiny.MODEL, params, mesh, prompts, features,
                   features.mean(2), likelihood.Options(4, 8, 9.0))
  by_video = np.full((24, 21), np.nan, np.float32)
  by_text, label, clip = by_video.T.copy(), by_video.copy(), by_video.T.copy()
  common, rest = job[:4], (features, job.vocabulary, job.options)
  likelihood.score_texts(*common, features, job.options, by_video)
  likelihood.score_videos(*common, *rest, by_text)
  likelihood.first_labels(*common, features, job.options, label)
  likelihood.first_clips(*common, *rest[1:], clip)
  prior, index, _ = likelihood.video_priors(*common, *rest)
  return Real(job, search.Matrices(
      by_video, by_text, label, clip,
      likelihood.text_priors(*common, job.options)[0], prior[index]))


@pytest.fixture(scope='module')
def real():
  return score_all(tiny_likelihood.one_device())


def same_best(real, matrices, direction, weights, k):
  """Searches, and compares with all scores."""
  found = search.best(real.job, matrices, direction, weights, k)
  scores = search.scores(real.job, real.matrices, direction, weights)
  np.testing.assert_allclose(
      found.score, np.sort(scores, 1)[:, ::-1][:, :k], **NEAR)
  np.testing.assert_array_equal(
      found.index, np.argsort(-scores, 1, kind='stable')[:, :k])
  assert found.certified.all()
  return found


@pytest.mark.slow
@pytest.mark.parametrize('direction', DIRECTIONS)
def test_a_model_gives_the_exhaustive_best(direction, real):
  for alpha, c, k in ((0.0, 0.5, 1), (0.9, 0.6, 3)):
    matrices = real.emptied()
    found = same_best(real, matrices, direction, cpn.Weights(alpha, c), k)
    done = ~np.isnan(matrices.text_given_video) & ~np.isnan(
        matrices.video_given_text.T)
    np.testing.assert_allclose(found.whole, done.mean())
    for name in ('text_given_video', 'video_given_text'):
      np.testing.assert_allclose(np.where(
          np.isnan(getattr(matrices, name)), getattr(real.matrices, name),
          getattr(matrices, name)), getattr(real.matrices, name), **NEAR)


@pytest.mark.slow
@pytest.mark.parametrize('direction', DIRECTIONS)
def test_eight_devices_find_the_same(direction, real):
  eight = score_all(sharding.make_mesh({'data': 4, 'fsdp': 2}))
  weights = cpn.Weights(0.5, 0.95 if direction == 'video_to_text' else 0.05)
  many = same_best(eight, eight.emptied(), direction, weights, 2)
  one = same_best(real, real.emptied(), direction, weights, 2)
  np.testing.assert_array_equal(many.index, one.index)
  np.testing.assert_allclose(many.score, one.score, **NEAR)
  assert many.whole == one.whole and one.whole < 1


@pytest.mark.slow
def test_a_search_killed_after_any_tile_ends_with_the_same_bits(
    real, monkeypatch):
  """And exhaustive scoring, or another search, goes on from it."""
  weights, k = cpn.Weights(0.3, 0.95), 1
  whole = real.emptied()
  same_best(real, whole, 'video_to_text', weights, k)
  killed, left = real.emptied(), [0]
  put = filling.Filling.put
  def die(self, *args):
    left[0] -= 1
    if left[0] < 0:
      raise KeyboardInterrupt
    put(self, *args)
  with monkeypatch.context() as patched:
    patched.setattr(filling.Filling, 'put', die)
    for tiles in (1, 2, 3, 5, 8):
      left[0] = tiles
      with pytest.raises(KeyboardInterrupt):
        search.best(real.job, killed, 'video_to_text', weights, k)
  half = np.isnan(killed.text_given_video).mean(), np.isnan(
      whole.text_given_video).mean()
  assert 1 > half[0] > half[1] > 0
  search.best(real.job, killed, 'video_to_text', weights, k)
  for one, other in zip(whole[:2], killed[:2]):
    assert one.tobytes() == other.tobytes()
  same_best(real, killed, 'video_to_text', cpn.Weights(0.0, 0.9), 4)
  likelihood.score_texts(*real.job[:5], real.job.options,
                         killed.text_given_video)
  np.testing.assert_allclose(
      killed.text_given_video, real.matrices.text_given_video, **NEAR)
