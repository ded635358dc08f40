"""The names of sentence-transformers; its own tools run on an Embedder."""
import numpy as np
import pytest

from jaxret import embedder, metrics, sentence_names, sharding
from tests import tiny_dual_encoder as tiny

TEXTS = ['a cat', 'two red balls', 'a dog in snow', 'rain', 'the sea', 'a b c']


@pytest.fixture(scope='module')
def model():
  config = tiny.config('clip')
  made = embedder.Embedder(config, tiny.params(config),
                           tiny.make_reader(config), sharding.make_mesh())
  made.prompts = {'query': 'ask ', 'passage': 'say '}
  return made


@pytest.fixture(scope='module')
def vectors(model):
  return model.encode(TEXTS, show_progress=False)


def test_queries_and_documents_get_the_prompt_of_their_name(model):
  def same(got, prompt):
    np.testing.assert_array_equal(
        got, model.encode(TEXTS, prompt, show_progress=False))
  same(model.encode_query(TEXTS, show_progress_bar=False), 'ask ')
  same(model.encode_document(TEXTS, show_progress_bar=False), 'say ')
  same(model.encode_query(TEXTS, prompt='x ', show_progress_bar=False), 'x ')
  same(model.encode(TEXTS, prompt_name='passage', show_progress=False), 'say ')


@pytest.mark.parametrize('options, said', [
    ({'prompt_name': 'other'}, "prompt_name: got 'other', there is query"),
    ({'prompt_name': 'query', 'prompt': 'x'}, 'want one of them'),
    ({'device': 'cuda:1'}, "device: got 'cuda:1'"),
    ({'output_value': 'token_embeddings'}, "output_value: got 'token_"),
])
def test_what_has_no_meaning_is_refused(model, options, said):
  with pytest.raises(ValueError, match=said):
    model.encode(TEXTS, show_progress=False, **options)


def test_an_unknown_keyword_is_one(model):
  with pytest.raises(TypeError, match="no keyword 'batchsize'"):
    model.encode(TEXTS, show_progress=False, batchsize=3)


def test_vectors_come_as_they_are_asked_for(model, vectors):
  rows = model.encode(TEXTS, show_progress=False, convert_to_numpy=False)
  assert isinstance(rows, list)
  np.testing.assert_array_equal(np.stack(rows), vectors)
  np.testing.assert_array_equal(
      model.encode(TEXTS, show_progress=False, normalize_embeddings=False,
                   device='cpu'), vectors)
  torch = pytest.importorskip('torch')
  tensor = model.encode(TEXTS, show_progress=False, convert_to_tensor=True)
  assert isinstance(tensor, torch.Tensor)
  np.testing.assert_array_equal(tensor.numpy(), vectors)
  assert isinstance(model.similarity(tensor, vectors), torch.Tensor)


def test_pairs_are_the_diagonal_of_all(model, vectors):
  every = model.similarity(vectors, vectors[::-1])
  assert isinstance(every, np.ndarray)
  np.testing.assert_allclose(
      model.similarity_pairwise(vectors, vectors[::-1]), np.diagonal(every),
      atol=1e-6)
  with pytest.raises(ValueError, match='got 6 and 5 vectors'):
    model.similarity_pairwise(vectors, vectors[1:])
  assert model.get_embedding_dimension() == vectors.shape[1]


def test_codes_are_not_compared(model):
  with pytest.raises(ValueError, match='got int8 vectors'):
    sentence_names.units(np.ones((2, 3), np.int8))


def test_its_evaluator_of_retrieval_finds_our_recall(model, vectors):
  evaluation = pytest.importorskip(
      'sentence_transformers.sentence_transformer.evaluation')
  corpus = {f'd{i}': text for i, text in enumerate(TEXTS)}
  queries = {f'q{i}': text for i, text in enumerate(TEXTS[::2])}
  relevant = {f'q{i}': {f'd{2 * i}'} for i in range(len(queries))}
  found = evaluation.InformationRetrievalEvaluator(
      queries, corpus, relevant, accuracy_at_k=[1, 3], mrr_at_k=[6],
      ndcg_at_k=[3], precision_recall_at_k=[1, 3], map_at_k=[3],
      show_progress_bar=False, write_csv=False)(model)
  scores = (model.encode_query(TEXTS[::2], show_progress=False)
            @ model.encode_document(TEXTS, show_progress=False).T)
  ranks = metrics.ranks(scores, [[0], [2], [4]])
  for k in (1, 3):
    assert 100 * found[f'cosine_recall@{k}'] == pytest.approx(
        metrics.recall_at_k(ranks, k))
  assert found['cosine_mrr@6'] == pytest.approx(np.mean(1 / ranks))


def test_its_evaluator_of_triplets_runs(model):
  evaluation = pytest.importorskip(
      'sentence_transformers.sentence_transformer.evaluation')
  model.prompts = {}
  found = evaluation.TripletEvaluator(
      TEXTS[:3], TEXTS[:3], TEXTS[3:], write_csv=False)(model)
  assert found['cosine_accuracy'] == 1  # an anchor is its own positive


def test_its_miner_finds_hard_negatives(model):
  util = pytest.importorskip('sentence_transformers.util')
  datasets = pytest.importorskip('datasets')
  model.prompts = {}
  pairs = datasets.Dataset.from_dict({'query': TEXTS, 'answer': TEXTS})
  mined = util.mine_hard_negatives(pairs, model, num_negatives=2,
                                   verbose=False, output_format='triplet')
  scores = model.encode(TEXTS, show_progress=False)
  scores = scores @ scores.T - 2 * np.eye(len(TEXTS))
  want = {(q, TEXTS[c]) for q, row in zip(TEXTS, scores)
          for c in np.argsort(-row)[:2]}
  assert {(row['query'], row['negative']) for row in mined} == want


def test_its_search_gives_ours(model, vectors):
  util = pytest.importorskip('sentence_transformers.util')
  tensor = model.encode(TEXTS, show_progress=False, convert_to_tensor=True)
  theirs = util.semantic_search(tensor, tensor, top_k=3)
  ours = model.search(vectors, vectors, k=3)
  for q, hits in enumerate(theirs):
    assert [hit['corpus_id'] for hit in hits] == ours[1][q].tolist()
    np.testing.assert_allclose([hit['score'] for hit in hits], ours[0][q],
                               atol=1e-6)
