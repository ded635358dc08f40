"""Questions of mteb's parquet files: columns, videos once, bad rows named."""
import pytest
from ml_collections import ConfigDict

from jaxret.data.sets import mteb_questions
from tests.benchmark_files import parquet


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('JAXRET_CACHE', str(tmp_path / 'cache'))
  return tmp_path / 'cache'


def row(question='what does the dog do', candidates=('run', 'sit'),
        answer='sit', video=None):
  return {'question': question, 'candidates': list(candidates),
          'answer': answer,
          'video': video or {'bytes': b'one', 'path': 'a.mp4'}}


def read(root, split='test'):
  return mteb_questions.questions(ConfigDict({'root': str(root)}), split)


def test_rows_become_questions_about_each_video_once(tmp_path, cache):
  root = tmp_path / 'NExT-QA'
  parquet(root / 'data' / 'test-00000-of-00002.parquet', [
      row(), row('why', ('a', 'b', 'c'), 'a',
                 {'bytes': b'two', 'path': 'b.webm'})])
  parquet(root / 'data' / 'test-00001-of-00002.parquet', [
      row('where', ('here', 'there'), 'here')])
  found = read(root)
  assert [q.text for q in found.questions] == [
      'what does the dog do', 'why', 'where']
  assert [q.answer for q in found.questions] == [1, 0, 0]
  assert [len(q.choices) for q in found.questions] == [2, 3, 2]
  assert [q.item for q in found.questions] == [0, 1, 0]
  assert {q.kind for q in found.questions} == {'NExT-QA'}
  data = [open(item.video, 'rb').read() for item in found.items]
  assert data == [b'one', b'two']
  assert found.items[1].video.endswith('.webm')
  assert not found.left_out
  def written():
    return {path: path.stat().st_mtime_ns for path in cache.rglob('*.*')}
  before = written()
  assert read(root) == found and written() == before


def test_a_video_may_be_a_file_beside(tmp_path):
  root = tmp_path / 'set'
  parquet(root / 'test-0.parquet', [
      row(video={'bytes': None, 'path': 'a.mp4'})])
  (root / 'videos').mkdir()
  (root / 'videos' / 'a.mp4').write_bytes(b'x')
  assert read(root).items[0].video == str(root / 'videos' / 'a.mp4')


BAD = [(row(answer='lie'), "'lie', 0 times among the candidates"),
       (row(candidates=('sit', 'sit')), '2 times among the candidates'),
       (row(candidates=('sit', 'run', 'run')), "'run' is there twice"),
       (row(candidates=('sit', '')), 'is no text'),
       (row(candidates=()), "'candidates' empty"),
       (row(question=' '), "'question' empty"),
       (row(video={'bytes': None, 'path': 'b.mp4'}), 'which is no file'),
       (row(video={'bytes': b'', 'path': None}), 'without bytes and path')]


@pytest.mark.parametrize('bad, message', BAD)
def test_bad_rows_are_left_out_and_named(tmp_path, bad, message):
  path = tmp_path / 'set' / 'test-0.parquet'
  parquet(path, [row(), bad])
  found = read(path.parent)
  assert len(found.questions) == 1
  assert [f'{path}, entry 2' in one.reason and message in one.reason
          for one in found.left_out] == [True]
  parquet(path, [bad])
  with pytest.raises(ValueError, match='entry 1') as error:
    read(path.parent)
  assert message in str(error.value) and '\n' not in str(error.value)


def test_missing_files_and_columns_are_one_line(tmp_path):
  with pytest.raises(ValueError, match='no test-.*NExT-QA'):
    read(tmp_path)
  parquet(tmp_path / 'test-0.parquet', [{'question': 'a', 'answer': 'b'}])
  with pytest.raises(ValueError, match='columns question, answer; wanted'):
    read(tmp_path)
  (tmp_path / 'test-0.parquet').write_bytes(b'PAR1 no parquet')
  with pytest.raises(ValueError, match='no(t a)? parquet'):
    read(tmp_path)
