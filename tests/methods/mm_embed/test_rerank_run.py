"""What a reranker is asked about queries and answers of several modalities."""
import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxret import config_files, sharding
from jaxret.data import media, types
from jaxret.data.llava import question_prompts as rerank_prompts
from jaxret.data.sets import mixed
from jaxret.methods import embedding_run
from jaxret.methods.mm_embed import evaluator, rerank_run
from tests import tiny_mm_embed

IMAGE = np.zeros((4, 4, 3), np.uint8)


def item(name, kind):
  return types.Item(name, f'text of {name}' if 'text' in kind else None,
                    IMAGE if 'image' in kind else None)


def settings():
  asked = {f'{query}_to_{candidate}'.replace(',', '_'): question
           for (query, candidate), question
           in tiny_mm_embed.questions().items()}
  return ConfigDict({'questions': asked, 'tasks': ('mixed', 'plain'),
                     'depth': 3, 'mode': 'replace', 'weight': 1.0,
                     'wrong_depth': 4, 'near': 1, 'far': 1})


def training_set(kinds=('text', 'image,text'),
                 answers=(('image,text', 'text'), ('text',))):
  """As of M-BEIR's union: query q is of kinds[q % 2], and so its answers."""
  pool = tuple(item(f'{kind}:{i}', kind) for kind in mixed.MODALITIES
               for i in range(8))
  queries = tuple(mixed.Query(
      item(f'q{q}', kinds[q % 2]), {kind: ('',) for kind in answers[q % 2]},
      tuple(f'{kind}:{q % 8}' for kind in answers[q % 2])) for q in range(12))
  return mixed.TrainingSet(
      queries, pool, tuple(name.id.partition(':')[0] for name in pool))


@pytest.mark.parametrize('seed', range(3))
def test_each_query_learns_from_the_question_of_its_modalities(seed):
  given = training_set()
  ranked = np.tile(np.arange(len(given.pool)), (len(given.queries), 1))
  found = rerank_run.questions(settings(), given, ranked, seed)
  assert [one.query.id for one in found] == [q.item.id for q in given.queries]
  seen = set()
  for one in found:
    kinds = {mixed.modality(candidate) for candidate in one.candidates}
    pair = mixed.modality(one.query), *kinds
    seen.add(pair)
    assert one.question == tiny_mm_embed.questions()[pair]
    for candidate in one.candidates:  # raises where the question does not fit
      rerank_prompts.prompt(one.question, one.query, candidate)
  assert seen == {('text', 'image,text'), ('text', 'text'),
                  ('image,text', 'text')}


def test_a_question_that_is_missing_is_named():
  given, few = training_set(), settings()
  del few.questions.image_text_to_text
  ranked = np.tile(np.arange(len(given.pool)), (len(given.queries), 1))
  with pytest.raises(ValueError, match='has no image_text_to_text, only'):
    rerank_run.questions(few, given, ranked, 0)


class Asked:
  """Stands for a Reranker: P(True) grows with the candidate's number."""
  params = {'w': np.zeros(3, np.float32)}

  def __init__(self):
    self.pairs = {}

  def p_true(self, queries, candidates, question, show_progress=True):
    for query, own in zip(queries, candidates, strict=True):
      for candidate in own:
        self.pairs[query.id, candidate.id] = question
    return np.array([[
        (int(c.id.rpartition(':')[2]) + int(q.id[1:]) / 100) / 10 for c in own]
                     for q, own in zip(queries, candidates)], np.float32)


def rerank(directory, model, kinds):
  """The Ranking of six texts for five queries, of kinds[q % 2]."""
  pool = tuple(item(f'text:{i}', 'text') for i in range(6))
  task = mixed.Task(
      'mixed', tuple(item(f'q{q}', kinds[q % 2]) for q in range(5)), ('',) * 5,
      ({'text:0': 1},) * 5, 'pool', 'text')
  benchmark = mixed.Benchmark('m', {'pool': pool}, (task,))
  ranking = evaluator.Ranking(
      np.arange(5), np.tile(np.linspace(1, 0, 6, dtype=np.float32), (5, 1)),
      np.array([[q % 3, 3, 4, 5, -1, -1] for q in range(5)]))
  return rerank_run.rerank_tasks(
      settings(), model, benchmark, evaluator.Union(benchmark),
      {('mixed', 'union'): ranking}, directory)['mixed', 'union']


@pytest.mark.parametrize('kinds', [('text', 'image,text'), ('text', 'text'),
                                   ('image,text', 'text')])
def test_each_query_of_a_task_is_asked_by_its_own_modality(tmp_path, kinds):
  model = Asked()
  ranking = rerank(tmp_path, model, kinds)
  assert model.pairs == {
      (f'q{q}', f'text:{c}'): tiny_mm_embed.questions()[kinds[q % 2], 'text']
      for q in range(5) for c in (q % 3, 3, 4)}
  for q, row in enumerate(ranking.candidates):
    assert row.tolist() == [4, 3, q % 3, 5, -1, -1]
  stored = np.load(tmp_path / 'mixed.union/p_true.npy')
  np.testing.assert_allclose(stored, [[
      (c + q / 100) / 10 for c in (q % 3, 3, 4)] for q in range(5)], rtol=1e-6)


def test_a_task_of_one_modality_is_stored_under_its_question(tmp_path):
  """As before questions were chosen per query: nothing is asked again."""
  rerank(tmp_path, Asked(), ('text', 'text'))
  manifest = json.loads((tmp_path / 'mixed.union/manifest.json').read_text())
  assert manifest.pop('candidates')
  assert manifest == {
      'question': tiny_mm_embed.questions()['text', 'text'],
      'weights': sharding.checksum(Asked.params), 'reading': media.READING,
      'alpha': 'white'}
  again = Asked()
  rerank(tmp_path, again, ('text', 'text'))
  assert not again.pairs


@pytest.mark.parametrize('fields, refused', [
    ({}, False), ({'model.tie_embeddings': False}, True),
    ({'model.pretrained': 'nvidia/NV-Embed-v1'}, True),
    ({'model.tie_embeddings': False, 'rerank.tasks': ()}, False),
    ({'model.tie_embeddings': False, 'rerank.pretrained': 'x'}, False)])
def test_a_reranker_without_a_head_is_refused_before_anything_is_trained(
    fields, refused):
  config = config_files.load(str(tiny_mm_embed.CONFIG))
  config.update_from_flattened_dict(fields)
  if refused:
    with pytest.raises(ValueError, match='set model.tie_embeddings=True'):
      embedding_run.check_config(config)
  else:
    embedding_run.check_config(config)
