"""Which files are of which subset and split."""
import json

import pytest

from jaxret.data.tabular import parts


def put(root, *names):
  for name in names:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'x')


def found(root):
  return [(one.subset, one.split, [str(file.relative_to(root))
                                   for file in one.files])
          for one in parts.parts(root)]


@pytest.mark.parametrize('name, split', [
    ('train-00000-of-00001', 'train'), ('my_training', 'train'),
    ('msrvtt_train_9k', 'train'), ('restval', 'train'), ('dev', 'validation'),
    ('val_1', 'validation'), ('data/valid', 'validation'), ('test_1k', 'test'),
    ('Eval', 'test'), ('latest', ''), ('strain', ''), ('captions', '')])
def test_words_in_a_name_say_its_split(name, split):
  assert parts.split_of(name) == split


def test_files_are_sorted_by_the_words_in_their_names(tmp_path):
  put(tmp_path, 'data/train-00000.parquet', 'data/train-00001.parquet',
      'data/test-00000.parquet', 'README.md', 'a.json', '.git/test.parquet')
  (tmp_path / 'README.md').write_text('# Pets\n')
  assert found(tmp_path) == [
      ('', 'test', ['data/test-00000.parquet']),
      ('', 'train', ['data/train-00000.parquet', 'data/train-00001.parquet'])]


def test_folders_that_say_no_split_are_subsets(tmp_path):
  put(tmp_path, 'corpus/test-0.parquet', 'queries/test-0.parquet',
      'test/en/x.parquet')
  assert found(tmp_path) == [
      ('corpus', 'test', ['corpus/test-0.parquet']),
      ('queries', 'test', ['queries/test-0.parquet']),
      ('en', 'test', ['test/en/x.parquet'])]


README = """---
configs:
- config_name: train_9k
  data_files:
  - split: train
    path: {nine}
- config_name: test_1k
  data_files:
  - split: test
    path: [test_1k.json]
- config_name: all
  data_files: "*.json"
- config_name: features only
---
# MSR-VTT
"""


def test_the_head_of_a_readme_comes_first(tmp_path):
  put(tmp_path, 'train_9k.json', 'test_1k.json', 'x.parquet')
  (tmp_path / 'README.md').write_text(README.format(nine='train_9k.json'))
  assert found(tmp_path) == [
      ('train_9k', 'train', ['train_9k.json']),
      ('test_1k', 'test', ['test_1k.json']),
      ('all', '', ['test_1k.json', 'train_9k.json'])]


@pytest.mark.parametrize('path', ['../x.json', '/etc/passwd.json', '[1, 2]',
                                  '""'])
def test_a_readme_leads_nowhere_else(tmp_path, path):
  put(tmp_path, 'test_1k.json')
  (tmp_path / 'README.md').write_text(README.format(nine=path))
  with pytest.raises(ValueError, match='wanted a file below') as error:
    parts.parts(tmp_path)
  assert '\n' not in str(error.value)


def test_a_head_that_is_no_yaml_is_said(tmp_path):
  (tmp_path / 'README.md').write_text('---\nconfigs: [\n---\n')
  with pytest.raises(ValueError, match=r'README.md: its head is not YAML'
                     ) as error:
    parts.parts(tmp_path)
  assert '\n' not in str(error.value)


def test_what_datasets_saved_is_its_shards(tmp_path):
  put(tmp_path, 'test/data-0.arrow', 'test/data-1.arrow', 'test/cache-1.arrow')
  (tmp_path / 'dataset_dict.json').write_text('{"splits": ["test"]}')
  state = tmp_path / 'test' / 'state.json'
  state.write_text(json.dumps({'_data_files': [
      {'filename': 'data-0.arrow'}, {'filename': 'data-1.arrow'}],
                               '_split': 'test'}))
  both = ['test/data-0.arrow', 'test/data-1.arrow']
  assert found(tmp_path) == [('', 'test', both)]
  assert found(tmp_path / 'test') == [
      ('', 'test', [name[5:] for name in both])]
  for wrong in ('../x.arrow', '/x.arrow', 3):
    state.write_text(json.dumps({'_data_files': [{'filename': wrong}]}))
    with pytest.raises(ValueError, match='got no list of files'):
      parts.parts(tmp_path)
  (tmp_path / 'dataset_dict.json').write_text('{"splits": ["../../etc"]}')
  with pytest.raises(ValueError, match='got no list of splits'):
    parts.parts(tmp_path)


def test_a_single_file_says_no_split(tmp_path):
  put(tmp_path, 'train.parquet', 'x.bin')
  assert found(tmp_path) == [('', 'train', ['train.parquet'])]
  assert parts.parts(tmp_path / 'train.parquet') == [
      parts.Part('', '', (tmp_path / 'train.parquet',))]
  assert parts.parts(tmp_path / 'x.bin') == []
