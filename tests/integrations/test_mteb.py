"""mteb itself on tasks of local data: its numbers are ours, to all digits."""
import io

import jax
import numpy as np
import pytest
from PIL import Image

from jaxret import cli, embedder, metrics, sharding
from jaxret.methods.unite import method as unite
from tests import tiny_runs, tiny_unite

mteb = pytest.importorskip('mteb', reason='mteb, of the extra ecosystem')
datasets = pytest.importorskip('datasets')

from mteb.abstasks.retrieval import AbsTaskRetrieval  # noqa: E402
from mteb.abstasks.retrieval_dataset_loaders import (  # noqa: E402
  RetrievalSplitData,
)
from mteb.abstasks.sts import AbsTaskSTS  # noqa: E402
from mteb.abstasks.task_metadata import TaskMetadata  # noqa: E402

from jaxret.integrations import mteb as integration  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_device')]

N, K = 12, 10
FACTS = {
    'description': 'Of this test.', 'reference': 'https://example.org',
    'dataset': {'path': 'NA', 'revision': 'NA'}, 'eval_splits': ['test'],
    'eval_langs': ['eng-Latn'], 'date': ('2022-12-22', '2022-12-22'),
    'dialect': [], 'domains': [], 'task_subtypes': [],
    'license': 'cc-by-4.0', 'annotations_creators': 'derived',
    'sample_creation': 'found', 'bibtex_citation': ''}
TEXTS = [f'{a} {b} {c}' for a in tiny_unite.WORDS[:2]
         for b in tiny_unite.WORDS[2:4] for c in tiny_unite.WORDS[5:8]]


def png(seed):
  file = io.BytesIO()
  Image.fromarray(tiny_unite.pixels(seed)).save(file, 'PNG')
  return file.getvalue()


def column(kind, first):
  """(values as a data set has them, its feature or None)."""
  numbers = range(first, first + N)
  if kind == 'text':
    return [TEXTS[i % N] if first == 0 else f'{TEXTS[i % N]} up'
            for i in numbers], None
  if kind == 'image':
    return [{'bytes': png(i), 'path': None} for i in numbers], datasets.Image()
  return [{'bytes': tiny_runs.video_bytes(i), 'path': None}
          for i in numbers], datasets.Video()


def side(kinds, name, first):
  """A data set of N rows, media encoded as parquet holds them."""
  made, features = {'id': [f'{name}{i}' for i in range(N)]}, {}
  for kind in kinds:
    made[kind], feature = column(kind, first)
    if feature:
      features[kind] = feature
  dataset = datasets.Dataset.from_dict(made)
  for kind, feature in features.items():
    dataset = dataset.cast_column(kind, feature)
  return dataset


def task(category, queries, candidates, relevant=None, lists=None):
  """A retrieval task, or with lists a reranking task, of local data."""
  relevant = relevant or {f'q{i}': {f'd{i}': 1} for i in range(N)}
  letters = {'text': 't', 'image': 'i', 'video': 'v'}
  name = ''.join([*(letters[kind] for kind in queries), '2',
                  *(letters[kind] for kind in candidates)])
  class Local(AbsTaskRetrieval):
    metadata = TaskMetadata(
        name=f'Local{category}{name}', type=category, category=name,
        modalities=sorted({*queries, *candidates}), main_score='ndcg_at_10',
        **FACTS)

    def load_data(self, num_proc=None, **options):
      self.dataset = {'default': {'test': RetrievalSplitData(
          queries=side(queries, 'q', 0), corpus=side(candidates, 'd', 100),
          relevant_docs=relevant, top_ranked=lists)}}
      self.data_loaded = True
  return Local()


class Pairs(AbsTaskSTS):
  metadata = TaskMetadata(
      name='LocalSTS', type='STS', category='t2t', modalities=['text'],
      main_score='cosine_spearman', **FACTS)
  min_score, max_score = 0, 5

  def load_data(self, num_proc=None, **options):
    self.dataset = datasets.DatasetDict({'test': datasets.Dataset.from_dict({
        'sentence1': TEXTS, 'sentence2': TEXTS[::-1],
        'score': [float(i % 6) for i in range(N)]})})
    self.data_loaded = True


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
  assert run(integration.Encoder(model), Pairs())[
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


def test_likelihood_knows_which_side_is_text(monkeypatch):
  table = np.random.default_rng(0).normal(size=(N, N))
  class Scores:
    def text_to_video(self):
      return table

    def video_to_text(self):
      return -table
  asked = []
  monkeypatch.setattr(integration.score_lib, 'score_matrix', lambda *given: (
      asked.append(given), Scores())[1])
  search = integration.likelihood('a/model')
  want = [[i] for i in range(N)]
  check(run(search, task('Any2AnyRetrieval', ('text',), ('image',))),
        metrics.ranks(table, want))
  check(run(search, task('Any2AnyRetrieval', ('image',), ('text',))),
        metrics.ranks(-table, want))
  videos, texts, name = asked[1]
  assert texts['t0'] == f'{TEXTS[4]} up' and name == 'a/model'
  assert videos['v0'] == {'image': png(0)}
  assert integration._medium_alone({'id': 'a', 'video': b'x'}) == b'x'
  with pytest.raises(ValueError, match='got texts on both sides'):
    run(search, task('Retrieval', ('text',), ('text',)))


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
