"""`jaxret answer`: JSON lines in and out, and what is wrong in one line."""
import json

import numpy as np
import pytest

import jaxret
from jaxret import answers
from jaxret.verbs import answer as verb
from tests import tiny_generators
from tests.test_answers import CHOICES, ITEMS, QUESTIONS


@pytest.fixture(scope='module')
def model():
  return tiny_generators.qwen2_vl()


@pytest.fixture
def opened(model, monkeypatch):
  calls = []
  def load(path, **options):
    calls.append((path, options))
    return model
  monkeypatch.setattr('jaxret.loading.load_generator', load)
  monkeypatch.setattr(answers, 'chosen_alpha', lambda *given: 0.0)
  return calls


def picture(tmp_path):
  from PIL import Image
  path = tmp_path / 'a.png'
  Image.fromarray(ITEMS[0]['image']).save(path)
  return str(path)


def test_the_command_reads_and_prints_lines(opened, tmp_path, capsys, model):
  file = tmp_path / 'questions.jsonl'
  image = picture(tmp_path)
  rows = [{'question': QUESTIONS[0], 'image': 'a.png', 'answer': 'no'},
          {'question': QUESTIONS[1], 'image': image, 'answer': 1,
           'choices': list(CHOICES[1]), 'id': 'second'}]
  file.write_text('\n'.join(map(json.dumps, rows)))
  assert verb.main(['--model=M', str(file), '--alpha=0.6',
                    '--choices=yes, no', '--adapter=A', '--max_tokens=9']) == 0
  out, err = capsys.readouterr()
  first, second = map(json.loads, out.splitlines())
  wanted = jaxret.answer(
      [ITEMS[0]] * 2, [QUESTIONS[0], QUESTIONS[1]], [('yes', 'no'), CHOICES[1]],
      model, alpha=0.6, show_progress=False)
  assert 'id' not in first and second['id'] == 'second'
  assert [first['answer'], second['answer']] == list(wanted.texts)
  np.testing.assert_allclose(first['scores'], wanted.scores[0, :2], atol=1e-5)
  np.testing.assert_allclose(second['prior'], wanted.prior[1], atol=1e-5)
  assert f'accuracy {wanted.accuracy(["no", 1]):.1f} % of 2' in err
  assert opened == [('M', {
      'dtype': 'float32', 'adapter': 'A', 'max_tokens': 9})]


def test_the_command_chooses_alpha_and_names_what_it_cannot_use(
    opened, tmp_path, capsys):
  file = tmp_path / 'questions.jsonl'
  row = {'question': 'a dog runs', 'image': picture(tmp_path), 'answer': 'no'}
  file.write_text(json.dumps(row) + '\n')
  assert verb.main(['--model=M', str(file), '--choices=yes,no',
                    '--choose_alpha']) == 0
  assert 'alpha 0' in capsys.readouterr().err
  file.write_text(json.dumps(row) + '\n' + json.dumps(
      dict(row, image='nowhere.png', id='bad')) + '\n')
  arguments = ['--model=M', str(file), '--choices=yes,no']
  assert verb.main(arguments) == 1
  out, err = capsys.readouterr()
  assert not out and 'line 2' in err and 'nowhere.png' in err
  assert verb.main([*arguments, '--on_error=skip']) == 0
  out = capsys.readouterr().out.splitlines()
  assert json.loads(out[0])['answer'] in ('yes', 'no')
  assert json.loads(out[1]) == {'id': 'bad', 'answer': None}


@pytest.mark.parametrize('arguments, line, message', [
    (['--alhpa=1'], '{}', 'unrecognized arguments'),
    (['--alpha'], '{}', 'expected one argument'),
    (['--alpha=2', '--choices=a'], '{"question": "a", "image": "x"}',
     'alpha is 2'),
    ([], '', 'got no lines'), ([], '[1]', 'got list, want an object'),
    ([], '{', 'line 1: no JSON'), ([], '{"imgae": "a"}', "unknown key 'imgae'"),
    (['--choices=a'], '{"image": "a"}', 'line 1: its question is None'),
    ([], '{"question": "a", "image": "x"}', 'its choices are None'),
    ([], '{"question": "a", "image": 3, "choices": ["a"]}', "'image' is 3"),
    ([], '{"question": "a", "choices": [], "image": "x"}', 'has no choices'),
    (['--choices=a'], '{"question": "a", "image": "x", "answer": "b"}',
     "line 1: 'answer' is 'b'; want one of its choices"),
    (['--choices=a'], '{"question": "a", "image": "x", "answer": 1}',
     "line 1: 'answer' is 1"),
    (['--choices=a,b'], '{"question": "a", "image": "x", "answer": true}',
     "line 1: 'answer' is True"),
    (['--choices=a,a'], '{"question": "a", "image": "x"}',
     "'a' is there twice"),
    (['--choices=a', '--choose_alpha'], '{"question": "a"}',
     'line 1: it has no answer')])
def test_the_command_answers_bad_input_in_one_line(
    opened, tmp_path, capsys, arguments, line, message):
  file = tmp_path / 'q.jsonl'
  file.write_text(line)
  assert verb.main(['--model=M', str(file), *arguments]) == 1
  out, err = capsys.readouterr()
  assert not out and message in err and len(err.splitlines()) == 1


def test_the_command_wants_a_model_and_a_file_that_is_there(capsys):
  assert verb.main(['x']) == 1
  assert 'required: --model' in capsys.readouterr().err
  assert verb.main(['--model=M', 'nowhere.jsonl']) == 1
  assert 'it cannot be read' in capsys.readouterr().err
