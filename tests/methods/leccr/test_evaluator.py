"""Scores of texts and visuals, which step is chosen, and what is reported."""
import numpy as np
import pytest

from jaxret.methods.leccr import evaluator
from tests.tiny_leccr import make_split


def unit(array):
  return array / np.linalg.norm(array, axis=-1, keepdims=True)


def test_scores_equal_a_loop():
  """Cosine for images; for videos fused with the best slot, each scaled."""
  rng = np.random.default_rng(0)
  texts, visuals = unit(rng.normal(size=(5, 4))), unit(rng.normal(size=(3, 4)))
  slots = rng.normal(size=(3, 2, 4))
  embedded = evaluator.Embedded(texts, visuals, slots)
  cosine = np.array([[t @ v for v in visuals] for t in texts])
  best = np.array([[max(t @ slot for slot in group) for group in slots]
                   for t in texts])
  np.testing.assert_allclose(
      evaluator.score(embedded, fused=False), cosine, atol=1e-6)
  np.testing.assert_allclose(
      evaluator.score(embedded._replace(slots=None), fused=True), cosine,
      atol=1e-6)
  def scaled(scores):
    return (scores - scores.max()) / (scores.max() - scores.min())
  np.testing.assert_allclose(
      evaluator.score(embedded, fused=True, visual_weight=0.7),
      0.7 * scaled(cosine) + 0.3 * scaled(best), atol=1e-6)


def test_results_say_what_summaries_say():
  """Of every language and row, both directions, and their sum of recalls."""
  splits = {language: make_split(n_visuals=4, n_texts=9, translated=False)
            for language in ('de', 'zh')}
  rng = np.random.default_rng(1)
  scores = {language: {row: rng.normal(size=(9, 4)) for row in ('a', 'leccr')}
            for language in splits}
  chosen = {language: {row: {'step': 1, 'selected_on': 'test (released)'}
                       for row in rows} for language, rows in scores.items()}
  results = evaluator.results(splits, scores, chosen)
  for language, rows in scores.items():
    for row, values in rows.items():
      summary = evaluator.summarize(values, splits[language])
      for ours, theirs in ((f'text_to_video_{language}', 'text_to_visual'),
                           (f'video_to_text_{language}', 'visual_to_text')):
        assert results[ours][row] == summary[theirs]
      assert results['sum_of_recalls'][language][row] == pytest.approx(
          summary['sum_of_recalls'])
  assert results['tasks']['text_to_video_de'] == {
      'queries': 9, 'candidates': 4, 'chance': 25.0, 'left_out': 0}
  assert results['sizes'] == {
      'languages': 2, 'tasks': 4, 'queries': 26, 'candidates': 26}
  assert results['selection'] == chosen
  assert results['note'].startswith('checkpoints were selected on test')


def test_selection_names_what_it_saw():
  found = {4: {'validation': 300.0, 'test': 310.0},
           8: {'validation': 320.0, 'test': 305.0},
           12: {'validation': 320.0, 'test': 330.0}}
  assert evaluator.select(found) == {
      'step': 8, 'selected_on': 'validation', 'sum_of_recalls': 320.0}
  assert evaluator.select(found, 'test') == {
      'step': 12, 'selected_on': 'test (released)', 'sum_of_recalls': 330.0}
  with pytest.raises(ValueError, match='no SumR on validation of step 4'):
    evaluator.select({4: {'test': 1.0}})
  with pytest.raises(ValueError, match="select_on 'train' is not known"):
    evaluator.select(found, 'train')


def test_summary_equals_a_loop_over_texts_and_visuals():
  """Several captions per visual: it is found where the best of them is."""
  split = make_split(n_visuals=4, n_texts=9, translated=False)
  scores = np.random.default_rng(3).normal(size=(9, 4))
  results = evaluator.summarize(scores, split)
  owner, total = split.text_video, 0.0
  to_visual = [1 + sum(scores[t] > scores[t, owner[t]]) for t in range(9)]
  to_text = [1 + min(sum(scores[:, v] > scores[t, v])
                     for t in np.flatnonzero(owner == v)) for v in range(4)]
  for name, ranks in (('text_to_visual', to_visual),
                      ('visual_to_text', to_text)):
    for k in (1, 5, 10):
      value = 100 * np.mean([rank <= k for rank in ranks])
      assert results[name][f'recall_at_{k}'] == pytest.approx(value)
      total += value
  assert results['sum_of_recalls'] == pytest.approx(total)
