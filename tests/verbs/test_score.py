"""`jaxret score`: JSON lines in and out, and what is wrong in one line."""
import io
import json

import numpy as np
import PIL.Image
import pytest

import jaxret
from jaxret import cli
from tests import test_generator, tiny_generators


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  return test_generator.checkpoint(
      'qwen2_vl_tied', tmp_path_factory.mktemp('model'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('media')
  PIL.Image.fromarray(tiny_generators.pixels(0, 56, 56)).save(path / 'a.png')
  return path


def run(capsys, *argv):
  code = cli.main(['score', *map(str, argv)])
  shown = capsys.readouterr()
  return code, [json.loads(line) for line in shown.out.splitlines()], shown.err


def written(folder, *lines):
  path = folder / 'in.jsonl'
  path.write_text('\n'.join(
      line if isinstance(line, str) else json.dumps(line) for line in lines))
  return path


def test_lines_come_out_as_the_library_scores_them(capsys, model, folder):
  file = written(folder, {'prefix': '4 5', 'suffix': '6 7', 'id': 'one'}, '',
                 {'prefix': {'image': 'a.png', 'text': '5'},
                  'suffix': ['6', '7 8 9']})
  code, found, _ = run(capsys, file, '--model', model, '--per_token')
  assert code == 0
  want = jaxret.score_sequences(
      ['4 5', {'image': str(folder / 'a.png'), 'text': '5'}],
      ['6 7', '6', '7 8 9'], model, pairs=[(0, 0), (1, 1), (1, 2)],
      per_token=True)
  first, second = found
  assert first['id'] == 'one' and 'id' not in second
  assert np.float32(first['log_likelihood']) == want.log_likelihood[0]
  assert first['tokens'] == 2 and second['tokens'] == [1, 3]
  assert first['pieces'] == ['6', '7']
  np.testing.assert_array_equal(
      np.float32(second['log_likelihood']), want.log_likelihood[1:])
  for one, other in zip(second['token_log_likelihood'],
                        want.token_log_likelihood[1:]):
    np.testing.assert_array_equal(np.float32(one), other)


def test_standard_input_and_equal_suffixes(capsys, model, monkeypatch):
  lines = [json.dumps({'prefix': text, 'suffix': ['6 7', '6 8']})
           for text in ('4', '5')]
  monkeypatch.setattr('sys.stdin', io.StringIO('\n'.join(lines)))
  code, found, _ = run(capsys, '--model', model, '--mean')
  want = jaxret.score_sequences(
      ['4', '5'], ['6 7', '6 8'], model, reduction='mean')
  assert code == 0
  np.testing.assert_array_equal(
      np.float32([one['log_likelihood'] for one in found]), want)


def test_what_cannot_be_used_may_be_left_out(capsys, model, folder):
  file = written(folder, {'prefix': {'image': 'none.png'}, 'suffix': '6'},
                 {'prefix': '4', 'suffix': ['', '5']})
  code, found, said = run(capsys, file, '--model', model, '--on_error=skip')
  assert code == 0
  assert found[0]['log_likelihood'] is None
  assert found[1]['log_likelihood'][0] is None
  assert found[1]['log_likelihood'][1] < 0


@pytest.mark.parametrize('line, said', [
    ('{"prefix"', 'line 2: no JSON'),
    ('[1]', 'line 2: got list, want an object of prefix, suffix, id'),
    ({'prefix': 'a'}, "line 2: no 'suffix'; want prefix, suffix, id"),
    ({'prefix': 'a', 'suffix': 'b', 'sufix': 'c'}, "unknown key 'sufix'"),
    ({'prefix': 'a', 'suffix': []}, "line 2: got 'suffix' [], want a text or"),
    ({'prefix': 'a', 'suffix': 3}, "line 2: got 'suffix' 3"),
    ({'prefix': 4, 'suffix': 'b'}, "line 2: got 'prefix' 4, want a text or"),
    ({'prefix': {'sound': 'a'}, 'suffix': 'b'}, "line 2: got 'prefix'"),
    ({'prefix': {'image': 3}, 'suffix': 'b'}, 'line 2: got 3 for a medium'),
    ({'prefix': {'text': 3}, 'suffix': 'b'}, 'line 2: its text is int'),
    ({'prefix': '5', 'suffix': ''}, 'line 2: it is empty'),
    ({'prefix': {'image': 'none.png'}, 'suffix': '5'}, 'line 2: its image'),
    ({'prefix': '\ud83d', 'suffix': '5'}, 'line 2: its text holds a lone'),
])
def test_the_bad_line_is_named(capsys, model, folder, line, said):
  file = written(folder, {'prefix': '4', 'suffix': '5'}, line)
  code, found, error = run(capsys, file, '--model', model)
  assert (code, found) == (1, [])
  last = error.strip().splitlines()[-1]
  assert last.startswith('jaxret: ') and said in last


def test_bad_flags_are_one_line(capsys, model, folder):
  file = written(folder, {'prefix': '4', 'suffix': '5'})
  (folder / 'empty.jsonl').write_text('\n')
  for argv, said in (
      ([file], '--model'), ([file, '--model', model, '--rows=x'], '--rows'),
      ([file, '--model', model, '--rows=0'], 'rows = 0'),
      ([file, '--model', folder], 'config.json'),
      (['none.jsonl', '--model', model], 'none.jsonl: it cannot be read'),
      ([folder / 'empty.jsonl', '--model', model], 'got no lines')):
    code, found, error = run(capsys, *argv)
    assert (code, found) == (1, [])
    assert said in error and len(error.strip().splitlines()) == 1


def test_help_says_what_a_line_is(capsys):
  assert cli.main(['score', '--help']) == 0
  assert '{"prefix": "The dog", "suffix": " barks"}' in capsys.readouterr().out
