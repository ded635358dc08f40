"""M-BEIR's files: what is read, and one line for what is wrong in them."""
import json

import pytest

from jaxret.data import images
from jaxret.data.sets import mbeir, mixed
from tests import hub_caches, tables, tiny_mbeir
from tests.data.containers.test_archives import tarred

NAMES = (tiny_mbeir.TASK, tiny_mbeir.SECOND)
POOL = f'cand_pool/local/mbeir_{tiny_mbeir.TASK}_test_cand_pool.jsonl'
QUERIES = f'query/test/mbeir_{tiny_mbeir.TASK}_test.jsonl'
QRELS = f'qrels/test/mbeir_{tiny_mbeir.TASK}_test_qrels.txt'
TRAIN = 'query/union_train/mbeir_union_up_train.jsonl'


@pytest.fixture
def root(tmp_path):
  return tiny_mbeir.write(tmp_path)


def spoil(path, line, **changes):
  """Changes fields of one line of JSON, counted from 1."""
  rows = [json.loads(row) for row in path.read_text().splitlines()]
  rows[line - 1].update(changes)
  tiny_mbeir.lines(path, rows)


def test_tasks_pools_and_instructions(root):
  found = mbeir.read(root, 'test', NAMES)
  first, second = found.tasks
  assert list(found.pools) == list(NAMES)
  assert [len(pool) for pool in found.pools.values()] == [3, 3]
  assert (first.modality, second.modality) == ('image', 'text')
  assert first.instructions == ('Find a picture.',) * 2
  assert first.relevant == ({'9:0': 1}, {'9:1': 1})  # grade 0 does not count
  assert first.depth == 5 and not first.is_composed
  assert mbeir.read(root, 'test', [tiny_mbeir.SECOND]).tasks == (second,)


def test_training_pairs_vary_the_wording_and_keep_to_it(root):
  for line in range(1, 5):
    spoil(root / TRAIN, line, pos_cand_list=['9:0', '9:1', '9:2'],
          qid=f'9:{line}')
  found = mbeir.training_set(root)
  pairs = [[mixed.Pairs(found, seed)[i] for i in range(4)]
           for seed in range(20)]
  assert {p.instruction for own in pairs for p in own} == {
      'Find a picture.', 'Which picture?'}
  assert {p.candidate.id for own in pairs for p in own} == {
      '9:0', '9:1', '9:2'}
  again = mixed.Pairs(found, 3)
  assert [again[i] for i in range(4)] == pairs[3]
  assert len(set(found.labels)) == 2


def test_a_positive_of_another_data_set_is_looked_for_in_other_pools(root):
  with (root / QRELS).open('a') as file:
    file.write('9:100 0 2:1 1 0\n')
  alone = mbeir.read(root, 'test', [tiny_mbeir.TASK]).tasks[0]
  assert alone.relevant[0] == {'9:0': 1, '2:1': 1}


@pytest.mark.parametrize('path, line, changes, wanted', (
    (POOL, 2, {'img_path': 'mbeir_images/no.jpg'},
     r'line 2: got the image mbeir_images/no.jpg, which is not in'),
    (POOL, 3, {'img_path': None}, r"line 3: got 9:2 of modality 'image' with"),
    (POOL, 1, {'did': 7}, 'line 1: got did 7'),
    (POOL, 1, {'modality': 'sound'}, "line 1: got modality 'sound'"),
    (POOL, 2, {'modality': 'image,text', 'txt': 3}, 'line 2: got txt a number'),
    (QUERIES, 2, {'qid': '9:100'}, 'line 2: got the qid 9:100 again'),
))
def test_bad_lines_are_named(root, path, line, changes, wanted):
  spoil(root / path, line, **changes)
  with pytest.raises(ValueError, match=wanted) as caught:
    mbeir.read(root, 'test', NAMES)
  assert '\n' not in str(caught.value)
  assert str(root) in str(caught.value)


def test_a_query_without_an_instruction_for_its_pair(root):
  path = root / mbeir.INSTRUCTIONS
  path.write_text(path.read_text().replace('text\timage', 'image\timage'))
  with pytest.raises(ValueError, match=(
      r"_test\.jsonl, line 1: got 9:100 of modality 'text', which asks for "
      r"'image', wanted an instruction for that pair and data set 9 in ")):
    mbeir.read(root, 'test', NAMES)
  with pytest.raises(ValueError, match='up_train.jsonl, line 1: got 9:100'):
    mbeir.training_set(root)


@pytest.mark.parametrize('path, line, changes, name, wanted', (
    (POOL, 3, {'modality': 'image,text', 'txt': 'half \ud83d'}, 'cand_pool/9:2',
     'pool.jsonl, line 3, 9:2: its text holds a lone surrogate'),
    (QUERIES, 2, {'query_txt': 'half \ud83d'}, 'query/9:101',
     'line 2, 9:101: its text holds a lone surrogate'),
    (QUERIES, 2, {'pos_cand_list': ['9:77']}, 'query/9:101',
     'line 2: got 9:101 with the'),
    (QUERIES, 2, {'pos_cand_list': []}, 'query/9:101',
     'line 2: got pos_cand_list []'),
    (QUERIES, 2, {'qid': '9:105'}, 'query/9:101',
     'qrels.txt, line 3: got the query 9:101, wanted one of the query file'),
))
def test_what_does_not_fit_is_left_out_and_listed(
    root, path, line, changes, name, wanted):
  spoil(root / path, line, **changes)
  found = mbeir.read(root, 'test', NAMES)
  lost = {one.id: one.reason for one in found.left_out}
  assert wanted in lost[name] and str(root) in lost[name]
  asked = [query.id for query in found.tasks[0].queries]
  assert asked == ['9:100', '9:101'][:1 + name.startswith('cand_pool')]
  assert len(found.tasks[0].instructions) == len(asked)
  assert sum(map(len, found.pools.values())) == 6 - name.startswith('cand_pool')


def test_a_placeholder_in_a_text_is_read_as_words(root):
  spoil(root / POOL, 3, modality='image,text', txt='a <image>')
  spoil(root / QUERIES, 2, query_txt='<image> here')
  found = mbeir.read(root, 'test', NAMES)
  assert found.tasks[0].queries[1].text == '< image> here'
  assert found.pools[tiny_mbeir.TASK][2].text == 'a < image>'
  assert {one.id: one.reason.partition(', ')[2] for one in found.left_out} == {
      'cand_pool/9:2': 'line 3, 9:2: its text holds the image placeholder '
                       '<image>; it is read as < image>',
      'query/9:101': 'line 2, 9:101: its text holds the image placeholder '
                     '<image>; it is read as < image>'}


def test_a_file_of_which_nothing_can_be_used_is_refused(root):
  for line in (1, 2):
    spoil(root / QUERIES, line, query_txt='\ud83d')
  with pytest.raises(ValueError, match='line 1, 9:100: its text holds a lone'):
    mbeir.read(root, 'test', NAMES)


def test_qrels_of_an_unknown_id(root):
  """As UniIR counts it: relevant, and not among what is found."""
  with (root / QRELS).open('a') as file:
    file.write('9:101 0 9:55 0 0\r\n9:101 0 9:66 1.0 0\n')
  found = mbeir.read(root, 'test', NAMES)
  assert found.tasks[0].relevant[1] == {'9:1': 1, '9:66': 1}
  one, = found.left_out
  assert one.id == 'cand_pool/9:66'
  assert 'qrels.txt, line 6: got the candidate 9:66, wanted one' in one.reason


def test_qrels_of_four_columns(root):
  (root / QRELS).write_text('9:100 0 9:0 1\n')
  with pytest.raises(ValueError, match="line 1: got '9:100 0 9:0 1', wanted "):
    mbeir.read(root, 'test', NAMES)


def test_a_positive_that_is_not_in_the_training_pool(root):
  spoil(root / TRAIN, 3, pos_cand_list=['2:0', '2:9'])
  spoil(root / TRAIN, 4, pos_cand_list=['2:9'])
  found = mbeir.training_set(root)
  assert [query.positives for query in found.queries] == [
      ('9:0',), ('9:1',), ('2:0',)]
  assert [one.id for one in found.left_out] == ['cand_pool/2:9', 'query/2:101']
  assert all('line 3: got the positive 2:9' in one.reason
             for one in found.left_out)


def test_a_task_that_does_not_exist(root):
  with pytest.raises(ValueError, match="no task 'mscoco'"):
    mbeir.read(root, 'test', ['mscoco'])
  with pytest.raises(ValueError, match='has no cand_pool/local/mbeir_cirr_'):
    mbeir.read(root, 'test', ['cirr_task7'])


def test_texts_are_tidied_if_asked():
  assert mbeir.tidy(' "hello there"\r') == 'Hello there.'
  assert mbeir.tidy('Really?') == 'Really?'
  assert mbeir.tidy(' \r') == ''


def test_images_are_read_out_of_the_parts_that_the_hub_has(
    root, tmp_path, monkeypatch):
  """As TIGER-Lab/M-BEIR has them: one gzipped tar, cut in pieces."""
  monkeypatch.setenv('JAXRET_CACHE', str(tmp_path / 'cache'))
  whole = tarred(tmp_path / 'whole.tar.gz', {
      f'mbeir_images/mscoco_images/{i}.jpg': tables.png(i + 1)
      for i in range(3)}, 'w:gz').read_bytes()
  files = {path.relative_to(root).as_posix(): path.read_bytes()
           for path in root.rglob('*') if path.suffix in (
               '.jsonl', '.txt', '.tsv')}
  half = len(whole) // 2
  for name, part in (('00', whole[:half]), ('01', whole[half:])):
    files[f'mbeir_images.tar.gz.part-{name}'] = part
  hub_caches.use(monkeypatch, tmp_path / 'hub')
  made = hub_caches.snapshot(tmp_path / 'hub', 'TIGER-Lab/M-BEIR', files)
  found = mbeir.read('hf://TIGER-Lab/M-BEIR', 'test', NAMES)
  pool = found.pools[tiny_mbeir.TASK]
  assert pool[2].image == (
      f'{made}/mbeir_images.tar.gz/mbeir_images/mscoco_images/2.jpg')
  assert [images.read(item.image)[0, 0, 0] for item in pool] == [1, 2, 3]
  assert len(mbeir.training_set('hf://TIGER-Lab/M-BEIR').queries) == 4
  for part in made.glob('*.part-01'):
    part.unlink()
  with pytest.raises(ValueError, match='mbeir_images.tar.gz cannot be read'):
    mbeir.read(made, 'test', NAMES)
