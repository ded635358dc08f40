"""A whole small run: trained, evaluated, evaluated again, and opened."""
import json

import numpy as np
import pytest

import jaxret
from configs import answers as answers_config
from jaxret import report
from jaxret.data import sets
from jaxret.methods.answers import answering
from jaxret.report import queries as queries_lib


def tiny_config():
  config = answers_config.get_config()
  config.data.sizes.update(train=12, validation=4, test=5)
  config.model.update(width=24, mlp_width=32, head_width=8, heads=2, kv_heads=2,
                      layers=1, vocab_size=400)
  config.model.rope_sections = (2, 1, 1)
  config.vision.update(width=16, heads=2, layers=1, mlp_width=32)
  config.train.update(batch_size=8, steps=3, log_every_steps=1)
  config.eval.update(captions=2, max_new_tokens=3, rows=8)
  return config


@pytest.fixture(scope='module')
def run(tmp_path_factory, one_device):
  """(config, workdir, results) of a run, its media in a cache of its own."""
  root = tmp_path_factory.mktemp('run')
  config = tiny_config()
  config.data.root = str(root / 'corpus')
  results = answering.train_and_evaluate(config, root / 'workdir')
  return config, root / 'workdir', results


@pytest.mark.slow
def test_a_run_writes_its_results_and_its_report(run):
  _, workdir, results = run
  assert json.loads((workdir / 'results.json').read_text()).keys() == (
      results.keys())
  assert set(results['tasks']) <= {
      'all questions', 'colour', 'motion', 'count', 'first', 'is_there'}
  for kind in results['tasks']:
    assert list(results[kind]) == ['prior', 'likelihood', 'cpn', 'cpn_full',
                                   'cpn_oracle']
  assert results['weights']['colour']['cpn']['chosen_on'] == 'validation'
  assert len(results['descriptions']) == 2
  assert list(queries_lib.load(workdir).directions) == list(results['tasks'])
  page = (workdir / 'report.html').read_text()
  for words in ('without CPN', 'with CPN, alpha', 'Describe the video.',
                'How much of the prior', 'as POPE reports it'):
    assert words in page
  assert 'all questions' in report.format_table(results)


@pytest.mark.slow
def test_evaluating_again_gives_the_same(run):
  config, workdir, results = run
  config = config.copy_and_resolve_references()
  config.task = 'evaluate'
  again = answering.evaluate(config, workdir)
  # The training split is not read then.
  assert set(results) - set(again) == {'usual_answers'}
  for kind in results['tasks']:
    assert again[kind] == results[kind]
  assert again['descriptions'] == results['descriptions']


@pytest.mark.slow
def test_the_workdir_answers_as_its_evaluation_did(run):
  config, workdir, results = run
  model = jaxret.load_generator(workdir)
  split = sets.get('shapes').questions(config.data, 'test')
  asked = split.to_choose()
  found = jaxret.answer(
      [split.items[q.item] for q in asked], [q.text for q in asked],
      [q.choices for q in asked], workdir, show_progress=False)
  assert found.alpha == results['weights']['colour']['cpn']['alpha']
  assert found.accuracy([q.answer for q in asked]) == pytest.approx(
      results['all questions']['cpn']['recall_at_1'])
  text = jaxret.generate(split.items[:1], config.eval.prompt, model,
                         max_tokens=3, show_progress=False)[0].text
  assert text == results['descriptions'][0]['greedy']


@pytest.mark.slow
def test_files_that_cannot_be_read_are_left_out(run, tmp_path):
  config, workdir, _ = run
  split = sets.get('shapes').questions(config.data, 'test')
  reader = jaxret.load_generator(workdir).reader
  broken = tmp_path / 'broken.mp4'
  broken.write_bytes(b'no video')
  import dataclasses
  items = (dataclasses.replace(split.items[0], video=str(broken)),
           *split.items[1:])
  kept = answering.readable(
      tmp_path, reader, dataclasses.replace(split, items=items))
  assert len(kept.items) == len(split.items) - 1
  assert all(q.item < len(kept.items) for q in kept.questions)
  line = json.loads((tmp_path / 'skipped.jsonl').read_text())
  assert line['id'] == split.items[0].id and line['split'] == 'test'


@pytest.mark.parametrize('change, message', [
    ({'eval.splits': ()}, 'eval.splits is empty'),
    ({'eval.alpha': 2.0}, 'alpha is 2'),
    ({'train.text_prior_share': 1.0}, 'text_prior_share is 1'),
    ({'data.name': 'msrvtt'}, 'has no questions')])
def test_fields_that_do_not_fit_are_refused(tmp_path, change, message):
  config = tiny_config()
  config.update_from_flattened_dict(change)
  with pytest.raises(ValueError, match=message):
    answering.train_and_evaluate(config, tmp_path / 'workdir')


def test_an_evaluation_wants_weights(tmp_path):
  with pytest.raises(ValueError, match='holds no checkpoints'):
    answering.evaluate(tiny_config(), tmp_path)
  assert not np.any(list(tmp_path.iterdir()))


def test_choices_are_scored_as_the_config_says(monkeypatch):
  from jaxret import answers
  from jaxret.data import questions, types
  asked = []
  def answer(*given, **options):
    asked.append(options)
    return answers.Answers(np.zeros((1, 2)), np.zeros((1, 2)), (), 1.0)
  monkeypatch.setattr(answers, 'answer', answer)
  config, split = tiny_config(), questions.Questions(
      'set', 'test', (types.Item('v', video='v.mp4'),),
      (questions.Question('q', 0, 'what', ('a', 'b'), 0),))
  wanted = {'length_normalized': False, 'score_end': False, 'rows': 3,
            'columns': 5}
  config.eval.update(wanted)
  answering._score(config, None, split)
  assert wanted.items() <= asked[0].items()
  assert asked[0]['alpha'] == 1.0  # both parts: alpha is chosen behind
