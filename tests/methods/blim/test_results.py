"""The weights that rows are scored with, and what is said of them."""
import pytest

from configs import blim as blim_config
from jaxret.methods.blim import results, scores
from jaxret.scoring.likelihood import cpn


@pytest.mark.parametrize('zero_shot', [False, True])
def test_paper_weights_are_those_of_the_recipe(zero_shot):
  config = blim_config.get_config('msrvtt')
  config.eval.zero_shot = zero_shot
  config.eval.update(alpha=(0.1, 0.2), c=(0.3, 0.4, 0.5, 0.6),
                     zero_shot_alpha=(0.7, 0.8),
                     zero_shot_c=(0.9, 1.0, 0.15, 0.25))
  found = scores.paper_weights(config)
  wanted = {'text_to_video': (0.7, 0.9, 0.15), 'video_to_text': (
      0.8, 1.0, 0.25)} if zero_shot else {
          'text_to_video': (0.1, 0.3, 0.5), 'video_to_text': (0.2, 0.4, 0.6)}
  for direction, (alpha, c, d) in wanted.items():
    assert found[direction]['blim'] == cpn.Weights(alpha, c, d)
    assert found[direction]['cpn'].alpha == alpha
    assert found[direction]['bidirectional'] == cpn.Weights(0.0, c)


def test_each_row_says_the_weights_that_it_uses_and_where_they_are_from():
  chosen, oracle = ({'text_to_video': cpn.fixed(*values)} for values in (
      (0.1, 0.2, 0.7), (0.3, 0.4, 0.5)))
  rows = ('candidate_likelihood', 'cpn', 'blim', 'ensemble', 'cpn_oracle',
          'ensemble_oracle')
  found = results._weights(
      {'text_to_video': dict.fromkeys(rows)}, 'validation', chosen,
      {'oracle': oracle})['text_to_video']
  assert found == {
      'cpn': {'chosen_on': 'validation', 'alpha': 0.1},
      'blim': {'chosen_on': 'validation', 'alpha': 0.1, 'query_weight': 0.2},
      'ensemble': {'chosen_on': 'validation', 'alpha': 0.1,
                   'query_weight': 0.2, 'first_stage_weight': 0.3},
      'cpn_oracle': {'chosen_on': 'test', 'alpha': 0.3},
      'ensemble_oracle': {'chosen_on': 'test', 'alpha': 0.3,
                          'query_weight': 0.4, 'first_stage_weight': 0.5}}


def test_rows_of_all_queries_say_their_temperature():
  """Beside the weights of the row that they are made of."""
  found = results._weights(
      {'text_to_video': dict.fromkeys(('cpn', 'blim'))}, 'validation',
      {'text_to_video': cpn.fixed(0.1, 0.2, 0.7)}, {},
      {'text_to_video': {'blim_qb_norm': 0.5,
                         'candidate_likelihood_dual_softmax': 0.1}})
  assert found['text_to_video']['blim_qb_norm'] == {
      'chosen_on': 'validation', 'alpha': 0.1, 'query_weight': 0.2,
      'temperature': 0.5}
  assert found['text_to_video']['candidate_likelihood_dual_softmax'] == {
      'chosen_on': 'validation', 'temperature': 0.1}
