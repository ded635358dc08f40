"""A reranker as a teacher: what it is asked, and a run that learns from it."""
import json

import ml_collections
import numpy as np
import pytest

from jaxret.data import types
from jaxret.methods.mm_embed import method as mm_embed
from jaxret.methods.mm_embed import teacher
from tests import tiny_mm_embed, tiny_runs

SETTINGS = ml_collections.ConfigDict({'questions': {
    'text_to_image': 'Is it {query}?', 'text_to_text': '{candidate} {query}?',
    'image_to_image': 'Alike?'}})


class Model:
  """P(True) told by names; remembers what it was asked."""

  def __init__(self):
    self.asked = []

  def p_true(self, queries, candidates, question, show_progress):
    assert not show_progress
    assert len({len(own) for own in candidates}) == 1
    self.asked += [(query.id, tuple(one.id for one in own), question)
                   for query, own in zip(queries, candidates)]
    return np.array([[int(query.id[1:]) + int(one.id[1:]) / 10 for one in own]
                     for query, own in zip(queries, candidates)], np.float32)


def text(name):
  return types.Item(name, name)


def image(name):
  return types.Item(name, image=f'{name}.png')


def test_only_what_is_of_the_right_modality_is_asked_about():
  model = Model()
  queries = [text('q1'), image('q2'), text('q3')]
  candidates = [[image('i1'), text('t2'), image('i3')],
                [image('i4'), image('i5'), image('i6')],
                [text('t7'), image('i8'), image('i9')]]
  got = teacher.ask(model, SETTINGS, queries, candidates)
  np.testing.assert_allclose(
      got, [[1.1, 0, 1.3], [2.4, 2.5, 2.6], [3.7, 0, 0]], rtol=1e-6)
  assert model.asked == [
      ('q1', ('i1', 'i3', 'i3'), 'Is it {query}?'),
      ('q2', ('i4', 'i5', 'i6'), 'Alike?'),
      ('q3', ('t7', 't7', 't7'), '{candidate} {query}?')]


def test_a_teacher_without_a_reranker_is_refused():
  from jaxret import main
  config = main.load_config(str(tiny_mm_embed.CONFIG))
  config.mine.teacher = True
  with pytest.raises(ValueError, match='mine.teacher wants a reranker'):
    mm_embed.check(config)
  config.init_from = 'workdirs/some'
  mm_embed.check(config)


@pytest.mark.campaign
@pytest.mark.slow
@pytest.mark.usefixtures('one_device')
def test_a_reranker_teaches_the_next_training(tmp_path):
  """Train a reranker, mine with its scores, train on them: by config alone."""
  alone = {'before': (), 'starts_from': '', 'negatives': '',
           'pairs.sources': ('image_text_to_image',), 'pairs.weights': (1.0,),
           'eval.benchmarks': ('shapes',)}
  def run(name, **fields):
    assert tiny_mm_embed.run('', tmp_path / name, *tiny_mm_embed.flags({
        **tiny_mm_embed.FIELDS, 'data.root': tmp_path / 'shapes',
        **fields})) == 0
  run('first')
  run('mined', **{**alone, 'task': 'mine', 'init_from': tmp_path / 'first',
                  'mine.negatives': 3, 'mine.teacher': True})
  lines = (tmp_path / 'mined/mined/image_text_to_image.jsonl').read_text()
  rows = [json.loads(line) for line in lines.splitlines()]
  assert all(len(row['scores']) == 4 for row in rows)
  scores = np.array([row['scores'] for row in rows])
  assert ((0 <= scores) & (scores <= 1)).all() and (scores[:, 0] > 0).all()
  losses = {}
  for name, weight in (('plain', 0.0), ('taught', 2.0)):
    run(name, **{**alone, 'init_from': tmp_path / 'first', 'rerank.tasks': (),
                 'negatives': tmp_path / 'mined/mined', 'mine.negatives': 3,
                 'loss.distillation_weight': weight,
                 'loss.distillation_temperature': 0.05,
                 'loss.matryoshka_dims': (16, 8), 'eval.truncate_dim': 8,
                 'train.log_every_steps': 1})
    lines = (tmp_path / name / 'metrics.jsonl').read_text().splitlines()
    losses[name] = json.loads(lines[0])['loss']
  assert losses['taught'] > losses['plain'] + 0.01
  assert tiny_runs.results(tmp_path / 'taught')
