"""MM-Embed's negatives: the sets C1 and C2, and where they are drawn from."""
import json

import numpy as np
import pytest

from jaxret.scoring.embeddings import mining, similarity

SOURCES = {mining.WRONG_MODALITY: 'C1', mining.INSUFFICIENT: 'C2',
           mining.RANDOM: 'fallback'}
DRAWS = 40


@pytest.fixture(scope='module')
def golden(mm_embed_golden):
  return json.loads((mm_embed_golden / 'mining/mining.json').read_text())


def _sources(ranked, sets, positive, positives, n_candidates):
  """The kinds that many draws come from, by their golden names."""
  found = set()
  for seed in range(DRAWS):
    negative, kind = mining.draw(
        ranked, sets, positive, positives, np.zeros(n_candidates, int), seed)
    chosen = {mining.WRONG_MODALITY: sets.wrong_modality,
              mining.INSUFFICIENT: sets.insufficient}.get(int(kind[0]))
    if chosen is not None:
      assert negative[0] in ranked[0][chosen[0]]
    assert negative[0] not in positives[0]
    found.add(SOURCES[int(kind[0])])
  return found


def test_sets_of_mm_embed_rankings(golden):
  for case in golden['cases']:
    names = list(dict.fromkeys(
        [*case['ranked'], case['positive'], *case['pos_cand_list'], 'other']))
    place = {name: i for i, name in enumerate(names)}
    modality = np.zeros(len(names), np.int8)
    for name, kind in [*zip(case['ranked'], case['modalities']),
                       (case['positive'], case['positive_modality'])]:
      modality[place[name]] = golden['modalities'].index(kind)
    ranked = np.array([[place[name] for name in case['ranked']]])
    assert ranked.shape[1] == case['k']
    positive = np.array([place[case['positive']]])
    positives = [np.array([place[name] for name in case['pos_cand_list']])]
    sets = mining.split(ranked, modality, positive, positives, case['k_prime'])
    assert sets.positive_rank[0] == case['positive_rank'], case['tag']
    for field, name in ((sets.wrong_modality, 'C1'), (sets.insufficient, 'C2')):
      assert [names[c] for c in ranked[0][field[0]]] == case[name], case['tag']
    assert _sources(ranked, sets, positive, positives, len(names)) == set(
        case['sources']), case['tag']


def test_mm_embed_sets_from_embeddings(golden, mm_embed_golden):
  arrays = np.load(mm_embed_golden / 'mining/embeddings.npz')
  wanted = golden['from_embeddings']
  scores, ranked = similarity.search(
      arrays['query'], arrays['cand'], wanted['k'])
  np.testing.assert_array_equal(
      ranked, arrays[f'top{wanted["k"]}'])
  np.testing.assert_allclose(
      scores, arrays[f'top{wanted["k"]}_score'], atol=1e-6)
  queries = wanted['queries']
  rows = [case['query'] for case in queries]
  positive = np.array([case['positive'] for case in queries])
  sets = mining.split(
      ranked[rows], arrays['modality'], positive,
      [np.array(case['positives']) for case in queries], wanted['k_prime'])
  assert sets.positive_rank.tolist() == [
      case['positive_rank'] for case in queries]
  for row, case in enumerate(queries):
    for field, name in ((sets.wrong_modality, 'C1'), (sets.insufficient, 'C2')):
      assert ranked[rows[row]][field[row]].tolist() == case[name]
