"""MM-Embed's evaluation: M-BEIR's files and hit rates, BEIR's and CIRCO's."""
import dataclasses
import json
import re

import numpy as np
import pytest

from jaxret import metrics, retrieval
from jaxret.data import entries, types
from jaxret.data.sets import circo, mbeir, mixed
from jaxret.methods.mm_embed import evaluator
from jaxret.methods.mm_embed import tables as mixed_tables

EXACT = 1e-12
QUERIES_PER_SET, CANDIDATES_PER_SET = 500_000, 10_000_000


def packed(name, per_set):
  """'9:17' as one int32, as UniIR hashes it: 9 * per_set + 17."""
  dataset, number = map(int, name.split(':'))
  if number >= per_set or dataset * per_set + number > np.iinfo(np.int32).max:
    raise ValueError(f'{name} does not fit {per_set:,} ids per data set')
  return dataset * per_set + number


def test_packed_ids_fit():
  assert packed('9:17', QUERIES_PER_SET) == 4_500_017
  with pytest.raises(ValueError, match='9:500000 does not fit'):
    packed('9:500000', QUERIES_PER_SET)


@pytest.fixture(scope='module')
def folder(mm_embed_golden):
  return mm_embed_golden / 'eval'


@pytest.fixture(scope='module')
def expected(folder):
  return json.loads((folder / 'mbeir_expected.json').read_text())


def _benchmark(folder, expected, clean=False):
  names = [row['name'] for row in expected['rows']]
  queries = next((folder / 'mbeir/query').glob(f'*/mbeir_{names[0]}_*.jsonl'))
  return mbeir.read(folder / 'mbeir', queries.parent.name, names, clean, False)


@pytest.fixture(scope='module')
def found(folder, expected, tmp_path_factory):
  """(benchmark, union, rankings) with the golden embeddings."""
  # Two items may be equal: the store knows items by content, so each gets a
  # content of its own.
  benchmark = _with_own_content(_benchmark(folder, expected))
  arrays = np.load(folder / 'embeddings.npz')
  union = next((folder / 'mbeir/cand_pool/global').glob('*.jsonl'))
  rows = {entry['did']: vector for (_, entry), vector in zip(
      entries.json_lines(union), arrays['union_cand'])}
  vectors = {_content(item): rows[item.id]
             for pool in benchmark.pools.values() for item in pool}
  for task in benchmark.tasks:
    vectors |= zip(map(_content, task.queries), arrays[f'{task.name}.query'])
  encoder = retrieval.Encoder(
      lambda items, said: np.stack([vectors[_content(i)] for i in items]),
      {'weights': 'golden'})
  places = evaluator.Union(benchmark)
  return benchmark, places, evaluator.rank(
      benchmark, places, encoder, tmp_path_factory.mktemp('mbeir'))


def _content(item):
  return item.text, item.image


def _with_own_content(benchmark):
  def own(items, prefix):
    return tuple(types.Item(
        i.id, None if i.text is None else f'{prefix} {i.id} {i.text}',
        None if i.image is None else f'{prefix} {i.id} {i.image}')
                 for i in items)
  return benchmark._replace(
      pools={name: own(pool, f'{name} pool')
             for name, pool in benchmark.pools.items()},
      tasks=tuple(mixed.Task(**{
          **vars(task), 'queries': own(task.queries, task.name)})
                  for task in benchmark.tasks))


def test_mm_embed_hit_rates_in_pools_and_union(found, expected):
  benchmark, union, rankings = found
  assert [len(benchmark.pools[row['name']]) for row in expected['rows']] == [
      row['local_pool_size'] for row in expected['rows']]
  for task, row in zip(benchmark.tasks, expected['rows']):
    assert len(union) == row['union_pool_size']
    assert len(task.queries) == row['n_queries']
    for where in evaluator.POOLS:
      ranking, wanted = rankings[task.name, where], row[where]
      ranks = evaluator.ranks(union, task, ranking,
                              None if where == 'union' else task.pool)
      for name, hits in wanted['hits_per_query'].items():
        depth = int(name.partition('@')[2])
        assert (ranks <= depth).astype(int).tolist() == hits, (task.name, where)
        assert metrics.recall_at_k(ranks, depth) == pytest.approx(
            100 * wanted['hit_rate'][name], abs=EXACT)
      assert task.depth == int(row['reported_metric'].partition('@')[2])


def test_mm_embed_first_answers(found, expected):
  benchmark, union, rankings = found
  for task, row in zip(benchmark.tasks, expected['rows']):
    for where in evaluator.POOLS:
      ranking, wanted = rankings[task.name, where], row[where]
      for q, item in enumerate(task.queries):
        names = wanted['top10'][item.id]
        places = ranking.candidates[q, :len(names)]
        assert [union[int(place)].id for place in places] == names
        np.testing.assert_allclose(
            ranking.scores[q, :len(names)], wanted['top10_score'][item.id],
            atol=1e-6)


def test_mm_embed_means(found, expected):
  benchmark, union, rankings = found
  results = mixed_tables.tabulate(benchmark, union, {'row': rankings}, 'test')
  names = {'all': 'mean of all',
           'single_modal_queries': 'mean, single-modal queries',
           'multi_modal_queries': 'mean, multi-modal queries'}
  for where in evaluator.POOLS:
    own = results['reported'][where]['row']
    for key, value in expected['means_of_reported_metric'][where].items():
      # Of tasks of one kind alone there is the mean of all.
      if value is not None and names[key] in own:
        assert own[names[key]] == pytest.approx(100 * value, abs=1e-9)
    assert names['all'] in own


def test_mm_embed_relevance(folder, expected):
  benchmark = _benchmark(folder, expected)
  for task, row in zip(benchmark.tasks, expected['rows']):
    assert {item.id: sorted(own) for item, own in zip(
        task.queries, task.relevant)} == {
            name: sorted(own) for name, own in row['qrels'].items()}
    kinds = [kind.strip() for kind in row['task'].split('->')]
    assert mixed.modality(task.queries[0]) == kinds[0]
    assert task.modality == kinds[1]


def test_mm_embed_texts_and_packed_ids(folder, expected):
  wanted = json.loads((folder / 'mbeir_texts.json').read_text())
  benchmark = _benchmark(folder, expected, clean=True)
  raw = _benchmark(folder, expected)
  said = mbeir.Instructions(folder / 'mbeir', clean=True)
  for task, plain in zip(benchmark.tasks, raw.tasks):
    for item, before, own in zip(task.queries, plain.queries,
                                 wanted[task.name]['queries'].values()):
      variants = said('', 0, item, task.modality)
      assert list(variants) == own['instructions']
      assert (item.text or '') == own['query_text']
      assert [mbeir.tidy(f'{one} {before.text or ""}') for one in variants] == (
          own['query_with_instruction'])
      assert packed(item.id, QUERIES_PER_SET) == own['hashed_qid']
      assert int(re.search(r'task(\d+)', task.name)[1]) == own['task_id']
    assert list(wanted[task.name]['queries']) == [i.id for i in task.queries]
    pool = benchmark.pools[task.pool]
    assert list(wanted[task.name]['candidates']) == [i.id for i in pool]
    for item, own in zip(pool, wanted[task.name]['candidates'].values()):
      assert (item.text or '') == own['txt']
      assert mixed.modality(item) == own['modality']
      assert packed(item.id, CANDIDATES_PER_SET) == (
          own['hashed_did'])


def test_mm_embed_text_retrieval(folder, tmp_path):
  cases = json.loads((folder / 'beir_like.json').read_text())
  arrays = np.load(folder / 'beir_like.npz')
  for name, case in cases.items():
    vectors = {}
    for said, side, part in (('', 'query_ids', 'query'),
                             (None, 'doc_ids', 'doc')):
      vectors |= {(said, key): vector for key, vector in zip(
          case[side], arrays[f'{name}.{part}'])}
    known = set(case['doc_ids'])
    task = mixed.Task(
        name, tuple(types.Item(q, q) for q in case['query_ids']),
        ('',) * len(case['query_ids']),
        tuple({d: grade for d, grade in case['qrels'][q].items() if grade > 0}
              for q in case['query_ids']), name, 'text', 10,
        excluded=tuple((q,) if q in known else () for q in case['query_ids'])
        if case['ignore_identical_ids'] else None)
    benchmark = mixed.Benchmark('beir', {name: tuple(
        types.Item(d, d) for d in case['doc_ids'])}, (task,), False, 'ndcg')
    union = evaluator.Union(benchmark)
    ranking = evaluator.rank(benchmark, union, retrieval.Encoder(
        lambda items, said, its=vectors: np.stack(
            [its[said, i.id] for i in items]), {'weights': name}),
                             tmp_path)[name, 'local']
    _check_ndcg(case, union, task, ranking)


def _check_ndcg(case, union, task, ranking):
  """The means that our ranking reaches, and each query's where they are."""
  # A place of -1 says that the pool has no more candidates.
  grades = np.array([
      [task.relevant[q].get(union[int(c)].id, 0) if c >= 0 else 0 for c in row]
      for q, row in enumerate(ranking.candidates)])
  relevant = [list(own.values()) for own in task.relevant]
  prefix, checked = 'ndcg_cut_', 0
  for name, mean in case['mean'].items():
    if not name.startswith(prefix) or int(
        name.removeprefix(prefix)) > evaluator.SEARCHED:
      continue
    task = dataclasses.replace(task, depth=int(name.removeprefix(prefix)))
    numbers = evaluator.summary(union, task, ranking, task.pool, 'ndcg')
    assert numbers['reported'] == pytest.approx(100 * mean, abs=1e-9)
    own = metrics.ndcg_in_top(grades, relevant, task.depth)
    wanted = [case['per_query'][q].get(name) for q in case['query_ids']]
    assert None in wanted or own == pytest.approx(wanted)
    checked += 1
  assert checked


def test_mm_embed_average_precision_of_circo(folder, tmp_path):
  case = json.loads((folder / 'circo_like.json').read_text())
  ranked = [case['predictions'][str(a['id'])] for a in case['annotations']]
  hits = np.array([np.isin(row, a['gt_img_ids'])
                   for row, a in zip(ranked, case['annotations'])])
  counts = np.array([len(a['gt_img_ids']) for a in case['annotations']])
  targets = np.array([[name == a['target_img_id'] for name in row]
                      for row, a in zip(ranked, case['annotations'])])
  for name, mean in case['mean'].items():
    kind, _, depth = name.partition('@')
    own = (metrics.average_precision_in_top(hits, counts, int(depth))
           if kind == 'AP' else targets[:, :int(depth)].any(1))
    assert own == pytest.approx([q[name] for q in case['per_query']])
    assert own.mean() == pytest.approx(mean)
  names = [a['id'] for a in case['annotations']]
  path = tmp_path / 'submission.json'
  if min(len(set(row[:circo.SUBMITTED])) for row in ranked) < circo.SUBMITTED:
    with pytest.raises(ValueError, match='fewer than'):
      circo.write_submission(path, names, ranked)
    return
  circo.write_submission(path, names, ranked)
  assert json.loads(path.read_text()) == {
      name: row[:circo.SUBMITTED] for name, row in case['predictions'].items()}
