"""mteb itself on tasks of local data: its numbers are ours, to all digits."""
import jax
import numpy as np
import pytest

import jaxret
from jaxret import cli, embedder, metrics, sharding
from jaxret.methods.unite import method as unite
from tests import stand_ins, tiny_prompted, tiny_rerankers, tiny_unite

mteb = pytest.importorskip('mteb', reason='mteb, of the extra ecosystem')
pytest.importorskip('datasets')

from jaxret.integrations import mteb as integration  # noqa: E402
from tests import mteb_tasks  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_device')]

N, K, TEXTS = mteb_tasks.N, 10, mteb_tasks.TEXTS
task = mteb_tasks.task


@pytest.fixture(scope='module')
def model():
  config, tokenizer = tiny_unite.make_config(), tiny_unite.tokenizer()
  method = unite.method(config, tokenizer)
  params = jax.jit(method.init)(jax.random.key(1))
  return embedder.Embedder(
      unite.model_config(config, tokenizer), params,
      unite.reader(config, tokenizer), sharding.make_mesh())


def run(model, task, **options):
  """mteb's scores of a task, nothing kept."""
  found = mteb.evaluate(model, task, cache=None, show_progress_bar=False,
                        co2_tracker=False, **options)
  [result] = found.task_results
  return result.scores['test'][0]


def given(dataset):
  """Items for Embedder.encode, of the files in a data set."""
  for kind in ('image', 'video'):
    if kind in dataset.features:
      dataset = dataset.cast_column(
          kind, type(dataset.features[kind])(decode=False))
  return [{kind: row[kind]['bytes'] if kind != 'text' else row[kind]
           for kind in integration.ORDER if kind in row} for row in dataset]


def scores_of(model, task):
  data = task.dataset['default']['test']
  vectors = [model.encode(given(data[name]), show_progress=False)
             for name in ('queries', 'corpus')]
  scores = vectors[0] @ vectors[1].T
  assert all(len(set(row)) == len(row) for row in scores.tolist())  # no ties
  return scores


def check(found, ranks):
  """All that mteb rounds to five digits is what our metrics say."""
  for k in (1, 3, 5, 10):
    assert found[f'hit_rate_at_{k}'] == pytest.approx(
        metrics.recall_at_k(ranks, k) / 100, abs=5.1e-6)
  within = np.where(ranks <= K, ranks, np.inf)
  assert found['mrr_at_10'] == pytest.approx(np.mean(1 / within), abs=5.1e-6)


@pytest.mark.parametrize('queries, candidates', [
    (('text',), ('text',)), (('text',), ('image',)), (('image',), ('text',)),
    (('text',), ('video',)), (('video',), ('text',)),
    (('image', 'text'), ('image',))], ids=str)
def test_retrieval(model, queries, candidates):
  local = task('Any2AnyRetrieval' if {*queries, *candidates} != {'text'}
               else 'Retrieval', queries, candidates)
  local.load_data()
  ranks = metrics.ranks(scores_of(model, local), [[i] for i in range(N)])
  found = run(integration.Encoder(model), local)
  check(found, ranks)
  gains = np.where(ranks <= K, 1 / np.log2(1 + ranks), 0)
  assert found['ndcg_at_10'] == pytest.approx(gains.mean(), abs=5.1e-6)
  for k in (1, 3, 5, 10):  # of one relevant candidate the two are the same
    assert found[f'recall_at_{k}'] == found[f'hit_rate_at_{k}']
  assert 0 < found['hit_rate_at_10'] < 1


def test_of_several_relevant_ones_our_recall_is_the_hit_rate(model):
  relevant = {f'q{i}': {f'd{i}': 1, f'd{(i + 1) % N}': 1} for i in range(N)}
  local = task('Retrieval', ('text',), ('text',), relevant)
  local.load_data()
  ranks = metrics.ranks(
      scores_of(model, local), [[i, (i + 1) % N] for i in range(N)])
  found = run(integration.Encoder(model), local)
  check(found, ranks)
  assert found['recall_at_5'] < found['hit_rate_at_5']


def test_reranking_and_pairs_of_texts(model):
  lists = {f'q{i}': [f'd{(i + j) % N}' for j in (3, 0, 1, 2)]
           for i in range(N)}
  local = task('Reranking', ('text',), ('text',), lists=lists)
  local.load_data()
  scores = scores_of(model, local)
  mine = [[(i + j) % N for j in (3, 0, 1, 2)] for i in range(N)]
  ranks = metrics.ranks_in_lists(
      [row[one] for row, one in zip(scores, mine)], mine,
      [[i] for i in range(N)])
  check(run(integration.Encoder(model), local), ranks)
  from scipy import stats
  left, right = (model.encode(texts, show_progress=False)
                 for texts in (TEXTS, TEXTS[::-1]))
  want = stats.spearmanr(model.similarity_pairwise(left, right),
                         [float(i % 6) for i in range(N)])[0]
  assert run(integration.Encoder(model), mteb_tasks.Pairs())[
      'cosine_spearman'] == pytest.approx(want, abs=5.1e-6)


def test_scores_of_pairs(model):
  """What a matrix says is what mteb says, with and without lists."""
  table = np.random.default_rng(0).normal(size=(N, N))
  asked = []
  def score(queries, candidates, lists):
    asked.append((queries, candidates, lists))
    return table
  search = integration.PairSearch('pairs', score)
  check(run(search, task('Retrieval', ('text',), ('text',))),
        metrics.ranks(table, [[i] for i in range(N)]))
  [(queries, candidates, lists)] = asked
  assert queries[2] == {'id': 'q2', 'text': TEXTS[2]} and lists is None
  assert candidates[0]['id'] == 'd0'
  lists = {f'q{i}': [f'd{i}', f'd{(i + 1) % N}'] for i in range(N)}
  check(run(search, task('Reranking', ('text',), ('text',), lists=lists)),
        np.array([1 + (table[i, i] < table[i, (i + 1) % N])
                  for i in range(N)]))
  np.testing.assert_array_equal(asked[1][2][3], [3, 4])
  search = integration.PairSearch(
      'pairs', score, first=integration.Encoder(model), topk=2)
  run(search, task('Retrieval', ('text',), ('text',)))
  assert [len(one) for one in asked[2][2]] == [2] * N


@pytest.mark.parametrize('queries, candidates', [
    (('text',), ('image',)), (('image',), ('text',)),
    (('video',), ('text',))], ids=str)
def test_likelihood_is_what_score_matrix_says(queries, candidates):
  """A Qwen3-VL's log-likelihoods with CPN, through mteb and by ourselves."""
  generator = tiny_prompted.qwen3_vl()
  local = task('Any2AnyRetrieval', queries, candidates)
  local.load_data()
  data = local.dataset['default']['test']
  sides = [given(data['queries']), given(data['corpus'])]
  kind, = ({*queries, *candidates} - {'text'})
  texts, media = sides if queries == ('text',) else sides[::-1]
  scores = jaxret.score_matrix(
      [item['video'] if kind == 'video' else item for item in media],
      [item['text'] for item in texts], generator)
  table = (scores.text_to_video() if queries == ('text',) else
           scores.video_to_text())
  assert all(len(set(row)) == N for row in table.tolist())  # no ties
  check(run(integration.likelihood(generator), local),
        metrics.ranks(table, [[i] for i in range(N)]))


def test_likelihood_wants_texts_on_one_side():
  with pytest.raises(ValueError, match='got texts on both sides'):
    run(integration.likelihood(tiny_prompted.qwen3_vl()),
        task('Retrieval', ('text',), ('text',)))


def test_reranking_is_what_a_reranker_says(model):
  """Of all, of a task's own lists, and of the best of an encoder."""
  judge = jaxret.load_reranker(stand_ins.MODELS['Qwen/Qwen3-VL-Reranker-2B'],
                               mesh=tiny_rerankers.one_device())
  whole = task('Any2AnyRetrieval', ('text',), ('image',))
  whole.load_data()
  data = whole.dataset['default']['test']
  queries, candidates = given(data['queries']), given(data['corpus'])
  table = judge.rerank(queries, candidates, show_progress=False).scores
  assert all(len(set(row)) == N for row in table.tolist())  # no ties
  want = [[i] for i in range(N)]
  check(run(integration.reranking(judge), whole), metrics.ranks(table, want))

  places = [[(i + j) % N for j in (5, 0, 2)] for i in range(N)]
  lists = {f'q{i}': [f'd{c}' for c in own] for i, own in enumerate(places)}
  listed = task('Reranking', ('text',), ('image',), lists=lists)
  check(run(integration.reranking(judge), listed), metrics.ranks_in_lists(
      [row[own] for row, own in zip(table, places)], places, want))

  first = integration.Encoder(model)
  best = np.argsort(-scores_of(model, whole), axis=1)[:, :4]
  kept = np.full_like(table, -np.inf)
  np.put_along_axis(kept, best, np.take_along_axis(table, best, 1), 1)
  found = run(integration.reranking(judge, first=first, topk=4), whole)
  hits = (best == np.arange(N)[:, None]).any(1)
  ranks = metrics.ranks(kept, want)
  assert 0 < hits.sum() < N
  assert found['hit_rate_at_3'] == pytest.approx(
      np.mean(hits & (ranks <= 3)), abs=5.1e-6)


def test_prompts(model):
  from types import SimpleNamespace
  about = SimpleNamespace(name='Name', type='Retrieval', prompt={
      'query': 'Find it.'})
  def prompts(**options):
    encoder = integration.Encoder(model, **options)
    return [encoder.prompt(about, kind) for kind in (
        'query', 'document', None)]
  assert prompts() == [None, None, None]
  assert prompts(instructions=True) == ['Find it.', None, None]
  assert prompts(prompts={'query': 'a', 'Name-document': 'b'}) == [
      'a', 'b', None]
  encoder = integration.Encoder(model)
  encoder.model = SimpleNamespace(config=SimpleNamespace(name='mm_embed'))
  assert [encoder.prompt(about, kind) for kind in ('query', 'document')] == [
      '', None]


def test_what_is_taken_and_what_is_refused(model):
  torch = pytest.importorskip('torch')
  frames = tiny_unite.pixels(3, frames=2)
  found = list(integration.items_of([{'video': [torch.from_numpy(
      frames.transpose(0, 3, 1, 2).copy())], 'text': ['']}]))
  assert list(found[0]) == ['id', 'video']
  np.testing.assert_array_equal(found[0]['video'], frames)
  with pytest.raises(ValueError, match='x: it has audio'):
    list(integration.items_of([{'id': ['x'], 'audio': [1], 'text': ['a']}]))
  with pytest.raises(ValueError, match='tensor of frames is float32'):
    list(integration.items_of([{'video': [torch.zeros(1, 3, 2, 2)]}]))
  with pytest.raises(ValueError, match='order: got'):
    integration.Encoder(model, order=('text',))
  with pytest.raises(ValueError, match='dtype has no effect on a model that'):
    integration.Encoder(model, dtype='float32')


def test_other_weights_or_prompts_are_another_revision(model):
  def revision(**options):
    return integration.Encoder(model, **options).mteb_model_meta.revision
  assert revision() == revision()
  assert len({revision(), revision(prompts={'query': 'a'}),
              revision(instructions=True), revision(revision='mine')}) == 4


def test_the_verb(model, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(mteb, 'get_task', lambda name: task(
      'Any2AnyRetrieval', ('text',), ('image',)))
  monkeypatch.setattr(integration.loading, 'load', lambda path, **_: model)
  argv = ['mteb', '--model=some/model', '--tasks=LocalT2I',
          f'--out={tmp_path / "out"}']
  assert cli.main(argv) == 0
  line = capsys.readouterr().out.splitlines()[-1]
  assert line.startswith('LocalAny2AnyRetrievalt2i  test  default  ')
  assert list((tmp_path / 'out').rglob('LocalAny2AnyRetrievalt2i.json'))
