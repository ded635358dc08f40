"""LECCR's two evaluation protocols and its metrics."""
import json

import numpy as np
import pytest

from jaxret import metrics
from jaxret.scoring.embeddings import double_similarity
from tests.parity import leccr_reference as reference
from tests.parity.leccr_reference import ATOL, apply, check


def embedded(folder, branch):
  """(texts [T, E], visuals [V, E], slots [V, n, E]) of the golden inputs."""
  arrays = reference.read(folder, f'{branch}_eval.npz')
  module, params, _ = reference.model(folder, branch)
  mask = arrays.get('frame_mask')
  if mask is None:
    visual = arrays['image_tokens']
  else:
    visual = apply(module, 'visual_tokens', params, arrays['frames'], mask)
  found = apply(module, 'interact', params, visual, mask,
                arrays['caption_hidden'], reference.masks(arrays))
  return [np.asarray(array) for array in (
      apply(module, 'project_text', params, arrays['text_hidden']),
      apply(module, 'project_visual', params, found.visual, mask),
      apply(module, 'project_slots', params, found.slots))]


def test_leccr_image_scores(leccr_golden):
  wanted = reference.read(leccr_golden, 'image_eval.npz')
  texts, visuals, _ = embedded(leccr_golden, 'image')
  scores = double_similarity.cosine(texts, visuals)
  check(scores, wanted['score_t2i'], ATOL)
  check(scores.T, wanted['score_i2t'], ATOL)


@pytest.fixture(scope='module')
def video_scores(leccr_golden):
  """(golden arrays, cosine, slot scores), rows texts."""
  texts, visuals, slots = embedded(leccr_golden, 'video')
  return (reference.read(leccr_golden, 'video_eval.npz'),
          double_similarity.cosine(texts, visuals),
          double_similarity.best_slot(texts, slots))


def test_leccr_video_scores(video_scores):
  wanted, cosine, slots = video_scores
  names = [name for name in wanted if name.startswith('score_t2i_alpha_')]
  assert names
  for name in names:
    weight = float(name.removeprefix('score_t2i_alpha_').replace('_', '.'))
    scores = double_similarity.fuse(cosine, slots, weight)
    check(scores, wanted[name], ATOL, name)
    check(scores.T, wanted[name.replace('t2i', 'i2t')], ATOL, name)
  check(double_similarity.fuse(cosine, slots, 1.0).T,
        wanted['score_i2t_visual_only'], ATOL)
  check(double_similarity.fuse(cosine, slots, 0.0).T,
        wanted['score_i2t_slots_only'], ATOL)


def test_leccr_score_normalization(leccr_golden):
  arrays = reference.read(leccr_golden, 'video_eval.npz')
  check(double_similarity.normalize(arrays['norm_score_in']),
        arrays['norm_score_out'], ATOL)


def recalls(text_to_visual, visual_to_text, text_visual):
  """All that the authors' itm_eval reports, by its names."""
  relevant = [np.array([visual]) for visual in text_visual]
  captions = [np.flatnonzero(text_visual == visual)
              for visual in range(len(visual_to_text))]
  ranks = {'img': metrics.ranks(text_to_visual, relevant),
           'txt': metrics.ranks(visual_to_text, captions)}
  found = {f'{side}_r{k}': metrics.recall_at_k(ranks[side], k)
           for side in ranks for k in metrics.RECALL_AT}
  for side in ranks:
    values = [found[f'{side}_r{k}'] for k in metrics.RECALL_AT]
    found[f'{side}_r_mean'] = np.mean(values)
    found['txt_sum_r' if side == 'txt' else 'img_sumr'] = sum(values)
  total = metrics.sum_of_recalls(*ranks.values())
  return {**found, 'r_mean': total / 6, 'sumr_avg': round(total / 6, 2),
          'sumr_sum': total}


def check_recalls(got, wanted):
  assert got.keys() == wanted.keys()
  for name, value in wanted.items():
    # Only the average is rounded, to two digits.
    tolerance = 0.0051 if name == 'sumr_avg' else 1e-6
    assert got[name] == pytest.approx(value, abs=tolerance), name


def test_leccr_metrics(leccr_golden):
  arrays = reference.read(leccr_golden, 'metrics.npz')
  wanted = json.loads((leccr_golden / 'metrics.json').read_text())
  cases = sorted({name.split('/')[0] for name in arrays})
  assert cases
  for case in cases:
    check_recalls(
        recalls(arrays[f'{case}/scores_t2i'], arrays[f'{case}/scores_i2t'],
                arrays[f'{case}/txt2img']), wanted[case])
  left = set(wanted) - set(cases)
  assert all(name.startswith('video_eval_alpha_') for name in left)


def test_leccr_metrics_of_the_fused_scores(leccr_golden, video_scores):
  arrays, cosine, slots = video_scores
  wanted = json.loads((leccr_golden / 'metrics.json').read_text())
  names = [name for name in wanted if name.startswith('video_eval_alpha_')]
  assert names
  for name in names:
    weight = float(name.removeprefix('video_eval_alpha_').replace('_', '.'))
    scores = double_similarity.fuse(cosine, slots, weight)
    check_recalls(recalls(scores, scores.T, np.arange(len(scores))),
                  wanted[name])
