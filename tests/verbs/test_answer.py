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
  monkeypatch.setattr(answers, 'chosen_alpha', lambda model: 0.0)
  return calls


def picture(tmp_path):
  from PIL import Image
  path = tmp_path / 'a.png'
  Image.fromarray(ITEMS[0]['image']).save(path)
  return str(path)


def test_the_command_reads_and_prints_lines(opened, tmp_path, capsys, model):
  file = tmp_path / 'questions.jsonl'
  image = picture(tmp_path)
  rows = [{'question': QUESTIONS[0], 'image': image, 'answer': 'no'},
          {'question': QUESTIONS[1], 'image': image, 'answer': 1,
           'choices': list(CHOICES[1]), 'id': 'second'}]
  file.write_text('\n'.join(map(json.dumps, rows)))
  assert verb.main(['M', str(file), '--alpha=0.6', '--choices=yes,no']) == 0
  out, err = capsys.readouterr()
  first, second = map(json.loads, out.splitlines())
  wanted = jaxret.answer(
      [ITEMS[0]] * 2, [QUESTIONS[0], QUESTIONS[1]], [('yes', 'no'), CHOICES[1]],
      model, alpha=0.6, show_progress=False)
  assert (first['id'], second['id']) == ('line 1', 'second')
  assert [first['answer'], second['answer']] == list(wanted.texts)
  np.testing.assert_allclose(first['scores'], wanted.scores[0, :2], atol=1e-5)
  np.testing.assert_allclose(second['prior'], wanted.prior[1], atol=1e-5)
  assert f'accuracy {wanted.accuracy(["no", 1]):.1f} % of 2' in err
  assert opened == [('M', {})]


def test_the_command_chooses_alpha_and_names_what_it_cannot_use(
    opened, tmp_path, capsys):
  file = tmp_path / 'questions.jsonl'
  row = {'question': 'a dog runs', 'image': picture(tmp_path), 'answer': 'no'}
  file.write_text(json.dumps(row) + '\n')
  assert verb.main(['M', str(file), '--choices=yes,no', '--choose-alpha']) == 0
  assert 'alpha 0' in capsys.readouterr().err
  file.write_text(json.dumps(row) + '\n' + json.dumps(
      dict(row, image='nowhere.png', id='bad')) + '\n')
  assert verb.main(['M', str(file), '--choices=yes,no']) == 1
  out = capsys.readouterr().out.splitlines()
  assert json.loads(out[0])['answer'] in ('yes', 'no')
  assert json.loads(out[1])['id'] == 'bad'
  assert 'nowhere.png' in json.loads(out[1])['error']


@pytest.mark.parametrize('arguments, line, message', [
    (['M', '--alhpa=1'], '{}', "did you mean '--alpha'"),
    (['M', '--alpha'], '{}', '--alpha takes a value'),
    (['M', '--sum=1'], '{}', 'takes no value'),
    (['M', '--alpha=2', '--choices=a'], '{"question": "a", "image": "x"}',
     'alpha is 2'),
    ([], '{}', 'got 0 arguments'), (['M'], '', 'no question'),
    (['M'], '[1]', 'an object'), (['M'], '{"image": "a"}', "'question'"),
    (['M'], '{"question": "a"}', 'it has no choices'),
    (['M'], '{"question": "a", "choices": "yes"}', "'choices', a list"),
    (['M', '--choices=a', '--choose-alpha'], '{"question": "a"}',
     'needs the right')])
def test_the_command_answers_bad_input_in_one_line(
    opened, tmp_path, capsys, arguments, line, message):
  file = tmp_path / 'q.jsonl'
  file.write_text(line)
  places = arguments[:1] + [str(file)] * bool(arguments) + arguments[1:]
  assert verb.main(places) == 1
  out, err = capsys.readouterr()
  assert not out and message in err and len(err.splitlines()) == 1
