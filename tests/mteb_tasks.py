"""Tasks of mteb on a dozen items of local data, media encoded as on the Hub."""
import io

import datasets
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from PIL import Image

from tests import tiny_runs, tiny_unite

N = 12  # items on each side
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
