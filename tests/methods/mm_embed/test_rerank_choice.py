"""How much a reranker counts: chosen by queries that are not reported."""
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxret import config_files, metrics
from jaxret.data import types
from jaxret.data.sets import mixed
from jaxret.methods import embedding_run
from jaxret.methods.mm_embed import (
  evaluator,
  rerank_choice,
  rerank_run,
  run,
)
from tests import tiny_mm_embed

N, K = 60, 6  # queries; candidates that are asked about
PICTURE = np.zeros((4, 4, 3), np.uint8)
QUESTION = 'text_to_image'


def ranked(seed, second=0.0):
  """A Ranked of one task: of each query six pictures, the third is right.

  Half of the queries are also given a text, at the first place, which nobody
  is asked about.
  """
  pool = tuple(types.Item(f'{q}:{c}', image=PICTURE) if c else types.Item(
      f'{q}:{c}', f'text {q}') for q in range(N) for c in range(K + 1))
  task = mixed.Task(
      'task', tuple(types.Item(f'q{q}', f'query {q}') for q in range(N)),
      ('',) * N, tuple({f'{q}:3': 1} for q in range(N)), 'pool', 'image')
  benchmark = mixed.Benchmark('toy', {'pool': pool}, (task,))
  places = np.array([
      [q * (K + 1) + c for c in ((0, *range(1, K)) if q % 2 else range(1, K + 1)
                                 )] for q in range(N)])
  rng = np.random.default_rng(seed)
  scores = -np.sort(-rng.uniform(0.5, 0.6, places.shape), 1)
  ranking = evaluator.Ranking(np.arange(N), scores, places)
  return rerank_run.Ranked(benchmark, evaluator.Union(benchmark), {
      ('task', 'union'): ranking, ('task', 'local'): ranking})


class Model:
  """Says True of right candidates with `skill` more nats than of wrong ones."""
  params = {'w': np.zeros(2, np.float32)}

  def __init__(self, skill):
    self.skill, self.asked = skill, 0

  def p_true(self, queries, candidates, question, show_progress=True):
    def odds(query, candidate):
      seed = [*f'{query.id} {candidate.id}'.encode()]
      noise = np.random.default_rng(seed).standard_normal()
      return noise + self.skill * candidate.id.endswith(':3')
    self.asked += len(queries)
    return np.array([[1 / (1 + np.exp(-odds(query, one))) for one in own]
                     for query, own in zip(queries, candidates)], np.float32)


def settings(**changed):
  return ConfigDict({
      'tasks': ('task',), 'depth': K, 'choose_on': 'validation',
      'weights': (0.05, 0.0, 0.5), 'questions': {QUESTION: 'any'}, **changed})


def mrr(given, ranking):
  task = given.benchmark.tasks[0]
  return metrics.mrr(evaluator.ranks(given.union, task, ranking))


@pytest.mark.parametrize('halves', [False, True])
def test_a_reranker_that_knows_is_given_weight(tmp_path, halves):
  given, model = ranked(0), Model(2.0)
  found, chosen = rerank_run.rerank_as_chosen(
      settings(), model, given, None if halves else ranked(1),
      tmp_path / 'test')
  assert (chosen['on'], chosen['halves']) == ('validation', halves)
  for where in evaluator.POOLS:
    choices = chosen['tasks']['task'][where]
    assert len(choices) == 1 + halves
    for one in choices:
      assert one['beats_chance'] and one['weight'] > 0
      assert one['pairwise_accuracy_ci95'][0] > 70  # P(z < sqrt(2)) is 92 %
      assert [w['weight'] for w in one['by_weight']] == [0.0, 0.05, 0.5]
    assert mrr(given, found['task', where]) > 0.15 + mrr(
        given, given.rankings['task', where])
    # What nobody was asked about is neither helped nor harmed on average.
    texts = found['task', where].candidates[1::2] % (K + 1) == 0
    assert (texts.sum(1) == 1).all()
    assert 0.5 < texts.argmax(1).mean() < K - 1.5
  assert rerank_choice.tables(chosen)[0]['rows'][1][2] > '70'


@pytest.mark.parametrize('halves', [False, True])
@pytest.mark.parametrize('skill', [0.0, -2.0])
def test_a_reranker_that_does_not_changes_nothing(tmp_path, skill, halves):
  """Noise sometimes betters the order it is tried on; it is not enough."""
  given, model, other = ranked(0), Model(skill), ranked(1)
  found, chosen = rerank_run.rerank_as_chosen(
      settings(), model, given, None if halves else other,
      tmp_path / 'test')
  for where in evaluator.POOLS:
    for one in chosen['tasks']['task'][where]:
      assert (one['weight'], one['beats_chance']) == (0.0, False)
    assert found['task', where] is given.rankings['task', where]
  assert model.asked == 2 * N  # of the reported, nothing


def test_a_half_does_not_choose_for_itself(tmp_path):
  given = ranked(0)
  class Half(Model):  # it knows about even queries alone
    def p_true(self, queries, *rest, **options):
      rows = super().p_true(queries, *rest, **options)
      unknown = np.array([int(q.id[1:]) % 2 for q in queries], bool)
      rows[unknown] = 0.5
      return rows
  found, chosen = rerank_run.rerank_as_chosen(
      settings(), Half(3.0), given, None, tmp_path / 'test')
  even, odd = chosen['tasks']['task']['union']
  assert even['weight'] > 0 and odd['weight'] == 0
  np.testing.assert_array_equal(  # even queries are ordered as odd ones chose
      found['task', 'union'].candidates, given.rankings['task', 'union']
      .candidates)


def test_pairs_are_counted_where_both_were_asked():
  p_true = np.array([[0.2, np.nan, 0.8, 0.2], [0.5, 0.1, 0.9, np.nan],
                     [0.4, 0.6, np.nan, 0.3]])
  places = np.array([[0, 1, 2, 3, 9], [4, 5, 6, 7, 9], [0, 1, 2, 3, 9]])
  shares = rerank_choice.pair_shares(
      p_true, places, [np.array([0, 9]), np.array([7]), np.array([0, 1])])
  # 0.2 against 0.8 and, equal, 0.2; none asked; 0.4 and 0.6 against 0.3.
  assert shares.tolist() == [0.25, 1.0]


def test_a_split_without_answers_cannot_choose():
  given = ranked(0)
  task = given.benchmark.tasks[0]
  asked = rerank_choice.Asked(
      given.union, mixed.Task(**{**vars(task), 'relevant': ({},) * N}),
      given.rankings['task', 'union'], np.full((N, K), 0.5))
  with pytest.raises(ValueError, match='task: no query has an answer.*choose_on'
                     ):
    rerank_choice.choose(asked, (0.0, 1.0))


@pytest.mark.parametrize('fields, words', [
    ({'mode': 'choose'}, 'rerank.mode is .choose.: use one of .*, chosen'),
    ({'mode': 'chosen', 'weights': (0.1,)}, 'name 0, too')])
def test_ways_of_reranking_are_checked_before_anything_is_trained(
    fields, words):
  config = config_files.load(str(tiny_mm_embed.CONFIG))
  config.rerank.update(fields)
  with pytest.raises(ValueError, match=words):
    embedding_run.check_config(config)


def test_a_task_that_nothing_evaluated_has_is_no_task_to_rerank():
  config = config_files.load(str(tiny_mm_embed.CONFIG))
  config.rerank.tasks = 'task', 'tsak'
  with pytest.raises(ValueError, match="has 'tsak': use some of task"):
    run.open_choosing(config, [ranked(0).benchmark])


def test_splits_that_are_reported_one_after_the_other_are_kept_apart(tmp_path):
  """What was asked about the first one chooses for the second, unasked."""
  model, first, second = Model(3.0), ranked(1), ranked(0)
  rerank_run.rerank_as_chosen(
      settings(), model, first, None, tmp_path / 'validation')
  asked = model.asked
  found, _ = rerank_run.rerank_as_chosen(
      settings(), model, second, first, tmp_path / 'test')
  assert model.asked - asked == asked  # about the second one alone
  assert found['task', 'union'] is not second.rankings['task', 'union']
