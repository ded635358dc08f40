"""Every query: what is kept of it, and what the page lists."""
import dataclasses
import re

import numpy as np
import pytest

from jaxret import report
from jaxret.data import types
from jaxret.report import queries as queries_lib

RANKS = {'first': np.array([1, 1, 9, 0]), 'second': np.array([1, 4, 2, 1])}


def made(deepest=None):
  items = [types.Item(f'q{i}', f'a <query> {i}' if i else None,
                      video=None if i else 'clip.mp4') for i in range(4)]
  return report.Queries.of_items('text_to_video', items, RANKS,
                                 deepest=deepest)


@pytest.fixture
def kept(inputs, tmp_path):
  results = {k: v for k, v in inputs['results'].items()
             if k != 'text_to_video'}
  report.write(tmp_path, results, queries=[made(10)])
  return tmp_path


def test_what_is_kept_is_what_was_given(kept):
  found = queries_lib.load(kept)
  assert (found.dataset, found.split) == ('shapes', 'test')
  one, = found.directions.values()
  assert list(one.ids) == ['q0', 'q1', 'q2', 'q3']
  assert one.texts == ['', 'a <query> 1', 'a <query> 2', 'a <query> 3']
  assert (one.main, one.deepest) == ('second', 10)
  for row, ranks in RANKS.items():
    np.testing.assert_array_equal(one.ranks[row], ranks)


def test_other_numbers_are_kept_beside_the_ranks(inputs, tmp_path):
  numbers = {'colour': {'first': np.array([0.5, 0.25, 0, 1])}}
  given = dataclasses.replace(made(), numbers=numbers)
  queries_lib.save(tmp_path, inputs['results'], [made(), given])
  found = queries_lib.load(tmp_path)
  assert list(found.directions) == ['text_to_video']  # the last of one name
  kept, = found.directions['text_to_video'].numbers.items()
  assert kept[0] == 'colour'
  np.testing.assert_array_equal(kept[1]['first'], numbers['colour']['first'])
  (tmp_path / 'ranks.npz').rename(tmp_path / 'other.npz')
  assert queries_lib.load(tmp_path, 'other.npz').dataset == 'shapes'
  with pytest.raises(ValueError, match='holds no ranks.npz'):
    queries_lib.load(tmp_path)


def test_the_same_queries_are_the_same_bytes(kept, inputs, tmp_path):
  first = (kept / 'ranks.npz').read_bytes()
  queries_lib.save(tmp_path / 'again', inputs['results'], [made(10)])
  assert (tmp_path / 'again' / 'ranks.npz').read_bytes() == first


@pytest.mark.parametrize('place', [0.1, 0.4, 0.6, 0.95])
def test_a_damaged_file_is_named(kept, place):
  path = kept / 'ranks.npz'
  data = bytearray(path.read_bytes())
  data = data[:int(place * len(data))]
  path.write_bytes(bytes(data))
  with pytest.raises(ValueError, match=r'ranks\.npz is damaged'):
    queries_lib.load(kept)


def test_a_changed_rank_is_damage(kept):
  """As the members' CRC-32 tells."""
  path = kept / 'ranks.npz'
  data = bytearray(path.read_bytes())
  # Behind the local header of the second member and its own header.
  place = data.index(b'0.npy') + 30
  data[place] ^= 0x10
  path.write_bytes(bytes(data))
  with pytest.raises(ValueError, match=r'ranks\.npz is damaged'):
    queries_lib.load(kept)


def test_no_file_says_what_to_do(tmp_path):
  with pytest.raises(ValueError, match='holds no ranks.npz.*evaluate'):
    queries_lib.load(tmp_path)


def test_rows_differ_where_one_alone_finds():
  np.testing.assert_array_equal(made().differ(), [False, True, False, True])


def test_page_lists_every_query_with_all_ranks(kept):
  page = (kept / 'report.html').read_text()
  body = page.partition('class="every"')[2].partition('</table>')[0]
  rows = re.findall(r'<tr class="(.*?)"><th scope="row">(.*?)</th>(.*?)</tr>',
                    body)
  assert [kinds for kinds, _, _ in rows] == [
      'found', 'missed differ', 'missed', 'found differ']
  assert rows[0][1] == 'q0' and rows[1][1].startswith('a &lt;query&gt; 1 ')
  assert [re.findall(r'<td.*?>(.+?)</td>', cells) for _, _, cells in rows] == [
      ['1', '1'], ['4', '1'], ['2', '9'], ['1', '-']]  # the main row first
  # Without scripts the controls, which would do nothing, are not shown.
  assert '<div class="tools" hidden>' in page


def test_ranks_beyond_what_is_known_are_not_numbers():
  cells = [ranks for *_, ranks in queries_lib.listed(made(3))]
  assert cells == [['1', '1'], ['1', '>3'], ['>3', '2'], ['-', '1']]


def test_candidates_are_told_apart():
  assert queries_lib.pool_of([]) == ''
  assert queries_lib.pool_of(['a', 'b']).startswith('2 candidates, ')
  assert len({queries_lib.pool_of(names) for names in (
      ['a', 'b'], ['b', 'a'], ['ab'], ['a', 'b', 'c'])}) == 4


def test_a_long_list_is_cut_and_said(inputs, tmp_path, monkeypatch):
  monkeypatch.setattr(queries_lib, 'MOST_LISTED', 3)
  page = report.write(tmp_path, inputs['results'], queries=[made()]).read_text()
  assert page.count('<tr class="found') + page.count('<tr class="missed') == 3
  assert 'and 1 more in\nranks.npz' in page


def test_rows_that_the_tables_fold_are_not_listed(inputs, tmp_path):
  items = [types.Item('q0', 'a dog')]
  ranks = {row: np.array([1]) for row in ('blim_oracle', 'cpn', 'blim')}
  page = report.write(tmp_path, inputs['results'], queries=[
      report.Queries.of_items('text_to_video', items, ranks)]).read_text()
  head = page.partition('class="every"')[2].partition('</thead>')[0]
  assert re.findall(r'<th scope="col">(.*?)</th>', head) == [
      'query', 'blim', 'cpn']
  assert list(queries_lib.load(tmp_path).directions['text_to_video'].ranks
              ) == list(ranks)
