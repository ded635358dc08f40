"""From directions to rows: which there are, and what is said of each."""
import tracemalloc

import numpy as np
import pytest

from jaxret import by_rows, metrics
from jaxret.data import types
from jaxret.methods import blim
from jaxret.methods.blim import evaluator, tables
from jaxret.scoring import all_queries
from jaxret.scoring.likelihood import cpn

VIDEOS, TEXT_VIDEO = 6, np.array([0, 1, 2, 3, 4, 5, 0], np.int32)


def split():
  return types.Split(
      'tiny', 'test', tuple(types.Item(f'v{i}') for i in range(VIDEOS)),
      tuple(types.Item(f't{i}', text='a') for i in range(len(TEXT_VIDEO))),
      TEXT_VIDEO)


def answers(direction, query):
  if direction == 'text_to_video':
    return [TEXT_VIDEO[query]]
  return [t for t, video in enumerate(TEXT_VIDEO) if video == query]


def make(seed=0, keep=None):
  """{direction: cpn.Direction}, each with a prior of its own."""
  random = np.random.default_rng(seed)
  def draw(*shape):
    return random.normal(size=shape).astype(np.float32) - 3
  sizes = {'text_to_video': (7, 6), 'video_to_text': (6, 7)}
  return {name: cpn.Direction(
      draw(*shape), draw(*shape), draw(1, shape[1]),
      keep=None if keep is None else keep if shape == keep.shape else keep.T)
          for name, shape in sizes.items()}


FIXED = {name: cpn.fixed(0.5, 0.4, 1.0) for name in evaluator.DIRECTIONS}


def test_rows_are_ranked_against_the_answers_of_the_split():
  found = make()
  table = tables.tabulate(found, split(), FIXED)
  for name, summaries in table.summaries.items():
    assert list(summaries) == [
        'candidate_likelihood', 'query_likelihood', 'cpn', 'bidirectional',
        'blim']
    for row, scores in table.matrices[name].items():
      ranks = []
      for query, values in enumerate(scores):
        own = answers(name, query)
        best = max(values[a] for a in own)
        ranks.append(1 + sum(x >= best for c, x in enumerate(values)
                             if c not in own))
      np.testing.assert_array_equal(table.ranks[name][row], ranks)
      assert summaries[row] == metrics.summary(np.array(ranks))


def test_pairs_and_names_are_of_rows_that_there_are():
  found = make()
  temperatures = tables.choose_temperatures(make(1), split(), FIXED, found)
  table = tables.tabulate(found, split(), FIXED, temperatures)
  for rows in table.summaries.values():
    assert {row for pair in blim.PAIRS for row in pair} <= set(rows)
    assert set(rows) <= set(blim.ROWS)
    assert set(tables.HUBNESS_ROWS) <= set(rows)


def test_temperatures_are_of_another_split_and_rows_of_this_one():
  validation, test = make(1), make(2)
  temperatures = tables.choose_temperatures(validation, split(), FIXED, test)
  assert temperatures == tables.choose_temperatures(
      validation, split(), FIXED, validation)
  table = tables.tabulate(test, split(), FIXED, temperatures)
  for name, rows in temperatures.items():
    assert list(table.summaries[name])[5:] == list(rows) == [
        f'{row}_{method}' for row in ('candidate_likelihood', 'blim')
        for method in ('dual_softmax', 'qb_norm')]
    for row, temperature in rows.items():
      base, _, method = row.replace('_dual', ' dual').replace(
          '_qb', ' qb').partition(' ')
      relevant = evaluator.relevant(split())[name]
      on_validation = cpn.rows(validation[name], FIXED[name])[base]
      assert temperature == all_queries.choose(method, on_validation, relevant)
      np.testing.assert_array_equal(
          table.matrices[name][row], all_queries.normalized(
              method, cpn.rows(test[name], FIXED[name])[base], temperature))


def test_a_cascade_has_no_rows_of_all_queries():
  """Nor where only the reported split is one, as with eval.agreement."""
  keep = np.random.default_rng(3).random((7, 6)) < 0.5
  keep[np.arange(7), TEXT_VIDEO] = True
  cascade = make(keep=keep)
  for found, reported in ((cascade, cascade), (make(1), cascade),
                          (cascade, make(1))):
    assert tables.choose_temperatures(found, split(), FIXED, reported) == {
        'text_to_video': {}, 'video_to_text': {}}


def test_hubness_counts_what_was_scored():
  """Of a cascade, no pair that it left out; of a plain split, all."""
  keep = np.zeros((7, 6), bool)
  keep[:, 4] = keep[np.arange(7), TEXT_VIDEO] = True
  for found in (make(), make(keep=keep)):
    matrices = tables.tabulate(found, split(), FIXED).matrices
    numbers = tables.hubness(found, matrices)
    for name, rows in numbers.items():
      assert list(rows) == list(tables.HUBNESS_ROWS)
      for row, of_row in rows.items():
        scores, kept = matrices[name][row], found[name].keep
        counts = {1: np.zeros(scores.shape[1]), 10: np.zeros(scores.shape[1])}
        for q, values in enumerate(scores):
          there = [c for c in range(len(values)) if kept is None or kept[q, c]]
          there.sort(key=lambda c: -values[c])  # noqa: B023
          for k in counts:
            counts[k][there[:k]] += 1
        assert of_row['most_often_first'] == counts[1].max()
        assert of_row['never_first'] == pytest.approx(
            100 * np.mean(counts[1] == 0))
        for k in counts:
          assert of_row[f'skewness_at_{k}'] == metrics.skewness(counts[k])


def test_no_more_than_a_few_matrices_are_held(monkeypatch):
  """Of 15 rows in either direction; 400 texts and videos."""
  for module in (by_rows, metrics, all_queries):
    monkeypatch.setattr(module, '_BLOCK_CELLS', 4_000)
  random, n = np.random.default_rng(0), 400
  items = tuple(types.Item(f'{i}', text='a') for i in range(n))
  whole = types.Split('tiny', 'test', items, items, np.arange(n, dtype=int))
  def draw(rows):
    return random.normal(size=(rows, n)).astype(np.float32)
  found = {name: cpn.Direction(draw(n), draw(n), draw(rows))
           for name, rows in (('text_to_video', n), ('video_to_text', 1))}
  temperatures = {name: {
      f'{row}_{method}': 0.5 for row in tables.NORMALIZED_ROWS
      for method in all_queries.METHODS} for name in found}
  tracemalloc.start()
  try:
    table = tables.tabulate(found, whole, FIXED, temperatures, paper=FIXED,
                            oracle=FIXED)
    tables.hubness(found, table.matrices)
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert [len(rows) for rows in table.summaries.values()] == [15, 15]
  assert peak < 3 * 4 * n * n


def test_the_prior_of_what_is_first_is_a_percentile_of_its_own_query():
  """By counting, one query and one candidate after the other."""
  found = make(3)
  wide = np.random.default_rng(4).normal(size=(7, 6)).astype(np.float32)
  found['text_to_video'] = found['text_to_video']._replace(prior=wide)
  answered = evaluator.relevant(split())
  table = tables.tabulate(found, split(), FIXED)
  priors = tables.priors_of_first(found, table.matrices, answered)
  for name, of_row in priors.items():
    assert list(of_row) == ['candidate_likelihood', 'cpn', 'right_answer']
    prior = np.broadcast_to(
        found[name].prior, np.shape(table.matrices[name]['cpn']))
    for row, values in of_row.items():
      for query, value in enumerate(values):
        own = prior[query].tolist()
        if row == 'right_answer':
          chosen = max(own[a] for a in answers(name, query))
        else:
          scores = list(table.matrices[name][row][query])
          chosen = own[scores.index(max(scores))]
        below = sum(other < chosen for other in own)
        assert value == pytest.approx(100 * (below + 0.5) / len(own))


def test_what_a_cascade_left_out_has_no_percentile():
  keep = np.eye(7, 6, dtype=bool) | True
  found = make(0, keep)
  table = tables.tabulate(found, split(), FIXED)
  assert tables.priors_of_first(
      found, table.matrices, evaluator.relevant(split())) == {}
