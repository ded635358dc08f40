"""BLiM's score matrices, priors, compositions and recall, all pairs scored."""
import json
from typing import NamedTuple

import jax
import numpy as np
import pytest

from jaxret import metrics, sharding
from jaxret.data import types
from jaxret.methods.blim import evaluator
from jaxret.methods.blim import likelihood as blim_likelihood
from jaxret.scoring.likelihood import cpn, kernels
from jaxret.scoring.likelihood import score as likelihood
from tests.parity import blim_reference as reference

ATOL = 2e-5  # the golden data vouch for 2e-4; largest difference seen: 4e-6
MODELS = {'merged': reference.merged_model, 'lora': reference.lora_model}
DIRECTIONS = {'t2v': 'text_to_video', 'v2t': 'video_to_text'}


class Setup(NamedTuple):
  """A model on a mesh, and the order in which videos and texts are scored."""
  model: kernels.LikelihoodModel
  params: dict
  mesh: jax.sharding.Mesh
  options: likelihood.Options
  videos: np.ndarray
  texts: np.ndarray


def setup(folder, weights, n_devices, options, shuffled):
  mesh = sharding.make_mesh(devices=jax.devices()[:n_devices])
  model = MODELS[weights](folder)
  arrays = reference.read(folder, 'test_inputs.npz')
  orders = [np.arange(len(arrays[name]))
            for name in ('video_features', 'vtg_ids')]
  if shuffled:
    orders = [np.random.default_rng(0).permutation(order) for order in orders]
  return Setup(
      blim_likelihood.likelihood_model(model.vlm),
      jax.device_put(model.params, sharding.shardings(mesh, model.params)),
      mesh, options, *orders)


def inputs(folder, s, first_stage=None, **fields):
  """LikelihoodInputs in the order of a Setup."""
  arrays = reference.read(folder, 'test_inputs.npz')
  prompts = reference.prompts(folder)
  prompts = prompts._replace(
      labels=tuple(prompts.labels[t] for t in s.texts),
      text_prefixes=tuple(prompts.text_prefixes[t] for t in s.texts))
  place = {video: i for i, video in enumerate(s.videos)}
  split = types.Split(
      'golden', 'test', tuple(types.Item(f'video{v}') for v in s.videos),
      tuple(types.Item(f'text{t}') for t in s.texts),
      np.array([place[t] for t in s.texts], np.int32))
  vocabulary = arrays['video_vocab'][arrays['vocab_index']][s.videos]
  if first_stage is not None:
    first_stage = {
        'text_to_video': first_stage['t2v_internvideo2'][
            np.ix_(s.texts, s.videos)],
        'video_to_text': first_stage['v2t_internvideo2'][
            np.ix_(s.videos, s.texts)]}
  return evaluator.LikelihoodInputs(
      split, arrays['video_features'][s.videos], prompts, vocabulary,
      first_stage, **fields)


def directions(folder, s, given, directory):
  """{'t2v': cpn.Direction, ...} with the authors' order restored."""
  found = evaluator.evaluate(
      s.model, s.params, s.mesh, given, s.options, directory)
  order = {'t2v': np.ix_(np.argsort(s.texts), np.argsort(s.videos)),
           'v2t': np.ix_(np.argsort(s.videos), np.argsort(s.texts))}
  def restored(short, matrix):
    if matrix is None:
      return None
    shape = given.vocabulary.shape[0], len(s.texts)
    shape = shape[::-1] if short == 't2v' else shape
    return np.broadcast_to(matrix, shape)[order[short]]
  return {short: cpn.Direction(*(restored(short, matrix)
                                 for matrix in found[name]))
          for short, name in DIRECTIONS.items()}


def check(got, golden, name, direction=None):
  """A matrix against the stored one; pairs left out hold the fill value."""
  keep = None if direction is None else direction.keep
  np.testing.assert_allclose(
      cpn.masked(got, keep), golden, atol=ATOL, err_msg=name)


SETUPS = {
    'lora-8-devices': ('lora', 8, likelihood.Options(8, 4), False),
    'merged-1-device-shuffled': (
        'merged', 1, likelihood.Options(3, 2, max_padding=0.5), True),
}


@pytest.fixture(scope='module', params=[
    'lora-8-devices',
    pytest.param('merged-1-device-shuffled', marks=pytest.mark.slow)])
def full(request, blim_golden, tmp_path_factory):
  """The directions of the exhaustive evaluation, computed by us."""
  s = setup(blim_golden, *SETUPS[request.param])
  first = reference.read(blim_golden, 'eval_full.npz')
  return directions(blim_golden, s, inputs(blim_golden, s, first),
                    tmp_path_factory.mktemp('full'))


def weights(folder, prefix=''):
  """{'t2v': the fixed weights of every row, ...} of the authors' settings."""
  settings = reference.settings(folder)
  alpha, c = settings[f'{prefix}alpha'], settings[f'{prefix}c']
  return {'t2v': cpn.fixed(alpha[0], c[0], c[2]),
          'v2t': cpn.fixed(alpha[1], c[1], c[3])}


def test_blim_score_matrices_and_priors(blim_golden, full):
  golden = reference.read(blim_golden, 'eval_full.npz')
  for short, direction in full.items():
    check(direction.candidate, golden[f'{short}_candidate_likelihood'], short)
    check(direction.query, golden[f'{short}_query_likelihood'], short)
    check(direction.prior, golden[f'{short}_candidate_prior'], short)


@pytest.mark.slow
def test_blim_all_pairs_in_one_tile(blim_golden):
  golden = reference.read(blim_golden, 'eval_full.npz')
  options = likelihood.Options(1000, 1000, max_padding=10.0)
  s = setup(blim_golden, 'merged', 1, options, True)
  given = inputs(blim_golden, s)
  common = s.model, s.params, s.mesh, given.prompts, given.features
  shape = len(s.videos), len(s.texts)
  by_video = np.full(shape, np.nan, np.float32)
  likelihood.score_texts(*common, options, by_video)
  check(by_video, golden['v2t_candidate_likelihood'][
      np.ix_(s.videos, s.texts)], 'text given video')
  by_text = np.full(shape[::-1], np.nan, np.float32)
  likelihood.score_videos(*common, given.vocabulary, options, by_text)
  check(by_text, golden['t2v_candidate_likelihood'][
      np.ix_(s.texts, s.videos)], 'video given text')


def test_blim_composed_scores_of_computed_matrices(blim_golden, full):
  golden = reference.read(blim_golden, 'eval_full.npz')
  for short, chosen in weights(blim_golden).items():
    rows = cpn.rows(full[short], chosen)
    check(rows['cpn'], golden[f'{short}_cpn'], short)
    # What they call BLiM holds InternVideo2's scores as well.
    check(rows['ensemble'], golden[f'{short}_blim'], short)


def released_recall(scores):
  """{'r1': percent, ...} of a square matrix, text i describing video i."""
  relevant = [np.array([i]) for i in range(len(scores))]
  return dict(zip(('r1', 'r5', 'r10'),
                  metrics.released_recall(scores, relevant).values()))


def check_recall(rows, golden, short, names):
  for ours, theirs in names.items():
    for name, value in released_recall(rows[ours]).items():
      assert value == pytest.approx(
          golden[theirs][f'{short}_{name}'], abs=0.00501), (short, theirs)


def test_blim_recall_of_computed_matrices(blim_golden, full):
  golden = json.loads((blim_golden / 'metrics.json').read_text())['eval']
  for short, chosen in weights(blim_golden).items():
    rows = cpn.rows(full[short], chosen)
    check_recall(rows, golden['full'], short, {
        'first_stage': 'internvideo2',
        'candidate_likelihood': 'candidate_likelihood',
        'query_likelihood': 'query_likelihood',
        'cpn': 'cpn_candidate_likelihood', 'ensemble': 'blim'})
    full_weights = chosen['ensemble']
    no_prior = cpn.fixed(0.0, full_weights.c, full_weights.d)
    check_recall(cpn.rows(full[short], no_prior), golden['nocpn'], short,
                 {'ensemble': 'blim'})


@pytest.mark.slow
def test_blim_topk_scores_only_what_internvideo2_keeps(blim_golden, tmp_path):
  golden = reference.read(blim_golden, 'eval_topk.npz')
  topk = reference.settings(blim_golden)['topk_small']
  s = setup(blim_golden, 'merged', 8, likelihood.Options(8, 4), False)
  found = directions(blim_golden, s, inputs(
      blim_golden, s, golden, topk=topk), tmp_path)
  for short, direction in found.items():
    assert (direction.keep.sum(1) == topk).all()
    for name in ('candidate_likelihood', 'query_likelihood'):
      np.testing.assert_array_equal(
          direction.keep, golden[f'{short}_{name}'] != reference.FILL)
    check(direction.candidate, golden[f'{short}_candidate_likelihood'], short,
          direction)
    check(direction.query, golden[f'{short}_query_likelihood'], short,
          direction)
    check(direction.prior, golden[f'{short}_candidate_prior'], short,
          direction)
  either = found['t2v'].keep | found['v2t'].keep.T
  np.testing.assert_array_equal(np.isnan(found['t2v'].candidate), ~either)


@pytest.mark.slow
def test_blim_zeroshot_scores_and_recall(blim_golden, tmp_path):
  """Text given video only; the rows are those that the authors compute."""
  golden = reference.read(blim_golden, 'eval_zeroshot.npz')
  recall = json.loads((blim_golden / 'metrics.json').read_text())['eval']
  s = setup(blim_golden, 'merged', 8, likelihood.Options(8, 4), False)
  found = directions(blim_golden, s, inputs(
      blim_golden, s, golden, zero_shot=True), tmp_path)
  assert found['t2v'].candidate is None and found['v2t'].query is None
  check(found['t2v'].query, golden['t2v_query_likelihood'], 't2v')
  check(found['v2t'].candidate, golden['v2t_candidate_likelihood'], 'v2t')
  check(found['v2t'].prior, golden['v2t_candidate_prior'], 'v2t')

  chosen = weights(blim_golden, 'zeroshot_')
  # They multiply the query likelihood by its weight, 1 in every recipe.
  query = found['t2v'].query * np.float32(chosen['t2v']['blim'].c)
  found['t2v'] = found['t2v']._replace(query=query)
  for short, names in (
      ('t2v', {'ensemble': 'blim', 'first_stage': 'internvideo2'}),
      ('v2t', {'ensemble': 'blim', 'cpn': 'cpn_candidate_likelihood',
               'candidate_likelihood': 'candidate_likelihood'})):
    check_recall(cpn.rows(found[short], chosen[short]), recall['zeroshot'],
                 short, names)


def test_blim_priors_depend_on_what_the_authors_say(blim_golden, full):
  """P(text) not on the video; P(video) on the text through its length."""
  lengths = np.array([
      len(prefix) for prefix in reference.prompts(blim_golden).text_prefixes])
  prior = full['t2v'].prior
  for length in np.unique(lengths):
    same = prior[lengths == length]
    np.testing.assert_array_equal(same, np.broadcast_to(same[:1], same.shape))
  assert np.ptp(full['v2t'].prior, 0).max() == 0
  golden = reference.read(blim_golden, 'eval_variants.npz')
  # With flash attention, masked rows would see nothing: another prior of the
  # video, the same of the text. We follow eager attention, the default there.
  assert np.abs(prior - golden['t2v_candidate_prior_flash']).max() > ATOL
  check(full['v2t'].prior, golden['v2t_candidate_prior_flash'], 'v2t')
