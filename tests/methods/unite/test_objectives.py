"""UNITE trained on several negatives, a teacher's scores and graded pairs."""
import json

import jax
import numpy as np
import pytest

from jaxret.data import pair_examples
from jaxret.methods.unite import method as unite
from tests import tiny_embedding, tiny_runs, tiny_unite


def batch_of(examples):
  rows = [examples[i] for i in range(len(examples))]
  return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.slow
def test_several_negatives_are_embedded_as_each_alone():
  config, tokenizer = tiny_unite.make_config(), tiny_unite.tokenizer()
  method = unite.method(config, tokenizer)
  reader = unite.reader(config, tokenizer)
  pairs = [pair._replace(negative=(
      pair.negative, tiny_unite.item('text', i), tiny_unite.item('image', i)))
           for i, pair in enumerate(tiny_unite.pairs(4, negatives=True))]
  shapes = dict.fromkeys(pair_examples.SIDES, (120, 2, 64))
  batch = batch_of(method.examples(pairs, reader, shapes))
  params = jax.jit(method.init)(jax.random.key(0))
  embed = jax.jit(method.embed)
  got = embed(params, {}, batch, None)
  assert got['negative'].shape == (4, 3, config.model.width)
  for n in range(3):
    alone = [pair._replace(negative=pair.negative[n]) for pair in pairs]
    one = embed(params, {}, batch_of(
        method.examples(alone, reader, shapes)), None)
    np.testing.assert_allclose(
        got['negative'][:, n], one['negative'], atol=1e-6)
  # Every one of them is every query's.
  value, _ = method.embedding_loss(got, batch)
  query, candidate, negative = (np.asarray(got[side], np.float64)
                                for side in pair_examples.SIDES)
  columns = np.concatenate([candidate, negative.reshape(12, -1)])
  scores = query @ columns.T / config.loss.temperature
  np.testing.assert_allclose(value, np.logaddexp.reduce(scores, 1)
                             - np.diagonal(scores), rtol=1e-4, atol=1e-5)
  assert method.tokens(batch) == sum(
      rows['length'].sum() for rows in pair_examples.sides(batch).values())


def write(root):
  """Pairs with two negatives and scores, and graded ones, of texts."""
  rng = np.random.default_rng(0)
  words = list(tiny_unite.WORDS)
  def said():
    return {'text': ' '.join(rng.permutation(words)[:3])}
  root.mkdir()
  (root / 'taught.json').write_text(json.dumps([
      {'query': said(), 'candidate': said(), 'negative': [said(), said()],
       'scores': rng.normal(size=3).tolist()} for _ in range(16)]))
  (root / 'graded.json').write_text(json.dumps([
      {'query': said(), 'candidate': said(), 'grade': int(i % 3)}
      for i in range(16)]))


def losses(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line)['loss'] for line in lines]


@pytest.mark.slow
@pytest.mark.usefixtures('one_device')
def test_runs_on_files_of_both_kinds(tmp_path, capsys):
  """Each option changes the losses of a run; what has none is refused."""
  write(tmp_path / 'data')
  fields = {
      **tiny_embedding.MODEL, 'data.name': 'pairs', 'data.shape': (),
      'data.root': tmp_path / 'data', 'data.pairs': ('taught.json',),
      'before': (), 'compare': (), 'starts_from': '', 'pairs.sources': (),
      'pairs.weights': (), 'pairs.per_source': True, 'eval.benchmarks': (),
      'loss.modality_mask': False, 'train.log_every_steps': 1,
      'train.steps': 3}
  def run(name, **more):
    code = tiny_embedding.run('', tmp_path / name, *tiny_embedding.flags(
        {**fields, **more}))
    return code or losses(tmp_path / name)
  plain = run('plain')
  assert len(plain) == 3
  both = {'data.pairs': ('taught.json', 'graded.json'),
          'loss.graded': 'cosent', 'train.steps': 6}
  for name, more in {
      'margin': {'loss.false_negative_margin': 0.0},
      'prefixes': {'loss.matryoshka_dims': (16, 4)},
      'taught': {'loss.distillation_weight': 1.0},
      'chunks': {'loss.distillation_weight': 1.0,
                 'train.accumulation_steps': 2}}.items():
    found = run(name, **more)
    assert abs(found[0] - plain[0]) > 1e-3, name
    if name == 'chunks':
      assert found == pytest.approx(losses(tmp_path / 'taught'), abs=1e-4)
  # Batches of one source each: half of them are of graded pairs.
  mixed = run('both', **both)
  assert len(mixed) == 6 and min(mixed) > 0
  for more, said in (
      ({'data.pairs': ('graded.json',)}, "set loss.graded='cosent'"),
      ({'loss.graded': 'cosent'}, 'no pair of taught.json has a grade'),
      ({**both, 'loss.distillation_weight': 1.0,
        'data.pairs': ('graded.json',)}, 'no pair of graded.json has scores'),
      ({'loss.matryoshka_dims': (17,)}, 'whole numbers from 1 to 16'),
      ({**both, 'pairs.per_source': False}, 'pairs.per_source=True')):
    assert run('refused', **more) == 1
    assert said in capsys.readouterr().err.splitlines()[-1]
  assert not tiny_runs.ROOT.joinpath('refused').exists()
