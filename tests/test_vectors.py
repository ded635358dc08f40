"""Ids in, ids back: what was skipped is gone, and other tools take the rest."""
import jax
import numpy as np
import pytest

from jaxret import embedder, sharding, vectors
from jaxret.scoring import trec
from tests import tiny_dual_encoder as tiny

TEXTS = ['a cat', 'two red balls', 'a dog in snow', 'rain', 'the sea', 'a b c']
IDS = ['c/1', 'b 2', 'ü', 'rain', '', '%']
BAD = {'image': 'nowhere.jpg'}


@pytest.fixture(scope='module')
def model():
  config = tiny.config('clip')
  return embedder.Embedder(
      config, tiny.params(config), tiny.make_reader(config),
      sharding.make_mesh(devices=jax.devices()[:1]))


def encode(model, items, **options):
  return model.encode(items, show_progress=False, **options)


@pytest.fixture(scope='module')
def media(model):
  return encode(model, TEXTS, ids=IDS)


def test_ids_come_back_in_order(model, media):
  assert media.ids == tuple(IDS) and len(media) == len(IDS)
  np.testing.assert_array_equal(np.asarray(media), encode(model, TEXTS))
  np.testing.assert_array_equal(dict(media)['ü'], media.vectors[2])
  one = encode(model, 'a cat', ids=['q'])
  assert one.ids == ('q',) and one.vectors.shape == (1, model.width)


@pytest.mark.parametrize('ids, message', [
    (IDS[:3], 'got 3 for 6 items; want one each'),
    ([*IDS[:5], 'ü'], "got 'ü' twice")])
def test_ids_that_do_not_fit_are_refused(model, ids, message):
  with pytest.raises(ValueError, match=message):
    encode(model, TEXTS, ids=ids)


def test_what_was_skipped_is_not_found(model, media):
  items = [BAD, *TEXTS[:2], BAD, *TEXTS[2:]]
  ids = ['bad', *IDS[:2], 'worse', *IDS[2:]]
  said = []
  some = encode(model, items, ids=ids, on_error=said.append)
  assert some.ids == media.ids
  np.testing.assert_array_equal(some.vectors, media.vectors)
  assert [str(error).partition(':')[0] for error in said] == ['bad', 'worse']
  with pytest.raises(ValueError, match='^bad: '):
    encode(model, items, ids=ids)


def test_rows_of_nan_compose_with_search(model, media):
  """Without ids the rows stay, and neither side is disturbed by them."""
  found = encode(model, [BAD, *TEXTS[:2], BAD, *TEXTS[2:]], on_error='skip')
  scores, indices = model.search(found, found, k=3)
  want = model.search(media.vectors, media.vectors, k=3)
  real = np.array([1, 2, 4, 5, 6, 7])
  np.testing.assert_array_equal(indices[real], real[want[1]])
  np.testing.assert_array_equal(scores[real], want[0])
  assert (indices[[0, 3]] == -1).all() and np.isneginf(scores[[0, 3]]).all()
  _, indices = model.search(found[1:3], found, k=8, exclude=[[0, 1], [4]])
  assert 1 not in indices[0] and 0 not in indices and 4 not in indices[1]
  assert sorted(indices[1]) == [-1, -1, -1, 1, 2, 5, 6, 7]
  _, indices = model.search(found[:2], found, k=2, exclude=[[1], [1]])
  assert indices[1][0] != 1
  broken = found.copy()
  broken[1, 0] = np.nan  # one number is no skipped item
  with pytest.raises(ValueError, match='not finite'):
    model.search(found[1:2], broken, k=1)
  _, indices = model.search(found[1:2], found[:1], k=2)
  assert (indices == -1).all()


def test_hits_have_ids_and_are_no_more_than_there_are(model, media):
  found = model.search(encode(model, TEXTS[:2], ids=['q 1', 'q2']), media, 20)
  scores, ids = found
  assert scores.shape == ids.shape == (2, 6) and found.query_ids == (
      'q 1', 'q2')
  want = model.search(media.vectors[:2], media.vectors, k=6)
  np.testing.assert_allclose(scores, want[0], atol=1e-6)
  assert [[IDS.index(one) for one in row] for row in ids] == want[1].tolist()
  best = found.to_dict()['q2']
  assert len(best) == 6 and best[0] == ('b 2', float(scores[1, 0]))
  unnamed = model.search(media.vectors[:1], media, k=2)
  assert unnamed.query_ids == (0,) and unnamed.ids.shape == (1, 2)


def test_trec_keeps_every_id(model, media, tmp_path):
  found = model.search(media, media, k=4)
  found.to_trec(tmp_path / 'run.txt', tag='mine')
  again = trec.read_run(tmp_path / 'run.txt')
  assert again == {query: dict(hits) for query, hits in found.to_dict().items()}
  (tmp_path / 'bad.txt').write_text('a Q0 b 1 2.0 t\na b\n')
  with pytest.raises(ValueError, match='bad.txt, line 2: want'):
    trec.read_run(tmp_path / 'bad.txt')


def test_tables(model, media, tmp_path):
  found = model.search(media, media, k=2)
  found.to_parquet(tmp_path / 'hits.parquet')
  media.to_parquet(tmp_path / 'media.parquet')
  again = vectors.Vectors.from_parquet(tmp_path / 'media.parquet')
  assert again.ids == media.ids
  np.testing.assert_array_equal(again.vectors, media.vectors)
  with pytest.raises(ValueError, match='want id and vector'):
    vectors.Vectors.from_parquet(tmp_path / 'hits.parquet')
  codes = encode(model, TEXTS, ids=IDS, precision='ubinary')
  codes.to_parquet(tmp_path / 'codes.parquet')
  again = vectors.Vectors.from_parquet(tmp_path / 'codes.parquet')
  assert again.vectors.dtype == np.uint8
  pandas = pytest.importorskip('pandas')
  table = found.to_pandas()
  assert list(table.columns) == ['query', 'candidate', 'rank', 'score']
  assert table['rank'].tolist() == 6 * [1, 2]
  pandas.testing.assert_frame_equal(
      table, pandas.read_parquet(tmp_path / 'hits.parquet'),
      check_dtype=False)
  assert media.to_pandas()['id'].tolist() == IDS


@pytest.mark.parametrize('tool', ['faiss', 'usearch'])
def test_other_indexes(model, media, tmp_path, tool):
  library = pytest.importorskip(
      tool if tool == 'faiss' else 'usearch.index')
  path = tmp_path / f'media.{tool}'
  index = getattr(media, f'to_{tool}')(path)
  if tool == 'faiss':
    again = library.read_index(str(path))
    found = [one.search(media.vectors[:3], 2)[1] for one in (index, again)]
  else:
    again = library.Index.restore(str(path))
    found = [one.search(media.vectors[:3], 2).keys for one in (index, again)]
  _, want = model.search(media.vectors[:3], media.vectors, k=2)
  for keys in found:
    np.testing.assert_array_equal(keys, want)
  import json
  assert json.loads((tmp_path / f'media.{tool}.ids.json').read_text()) == IDS
  codes = encode(model, TEXTS, ids=IDS, precision='int8')
  with pytest.raises(ValueError, match='got vectors of int8, want float32'):
    getattr(codes, f'to_{tool}')()
