"""A whole run: questions, a model that answers them, what CPN changes."""
import functools
import pathlib

from absl import logging

from jaxret import (
  answers,
  generator,
  processes,
  progress,
  training_plan,
  writing,
)
from jaxret import run as run_lib
from jaxret import train as train_lib
from jaxret.data import media, sets
from jaxret.data.qwen2_vl import prompts as prompts_lib
from jaxret.methods.answers import evaluator, examples, results
from jaxret.methods.answers import method as method_lib

READING, TRAINING = 'reading the media', 'training'
WRITING = 'writing descriptions'


def train_and_evaluate(config, workdir):
  """Trains on questions with their answers, then evaluates."""
  mesh, data, tokenizer, reader = start(
      config, workdir, ('train', *config.eval.splits))
  method = method_lib.method(config, tokenizer)
  training_plan.make_plan(config.train, len(data['train'].questions), mesh)
  found = method.examples(data['train'], reader)
  progress.phase(phases(config), TRAINING)
  params = train_lib.fit(method, found, config, workdir, mesh,
                         initial(config, method, tokenizer, mesh, workdir))
  return _evaluate(config, workdir, mesh, data, tokenizer, params, reader)


def evaluate(config, workdir):
  """Evaluates what was trained in this workdir, or published weights."""
  check_config(config)
  trained = run_lib.has_checkpoints(workdir)
  run_lib.check_weights(config, workdir, trained)
  mesh, data, tokenizer, reader = start(config, workdir, config.eval.splits)
  method = method_lib.method(config, tokenizer)
  params = run_lib.trained(config, tokenizer, workdir, mesh) if trained else (
      run_lib.start(config, method, tokenizer, workdir, mesh))
  return _evaluate(config, workdir, mesh, data, tokenizer, params, reader)


def phases(config):
  """The names of the parts of a run; see progress.phase."""
  return (READING, *[TRAINING] * (config.task != 'evaluate'),
          *map(_scoring, config.eval.splits),
          *[WRITING] * bool(config.eval.captions))


def _scoring(split):
  return f'scoring {split}'


def start(config, workdir, names):
  """(mesh, {split: Questions that can be used}, tokenizer, reader)."""
  check_config(config)
  mesh = run_lib.open_workdir(config, workdir)
  progress.phase(phases(config), READING)
  read = sets.get(config.data.name, 'questions').questions
  data = {name: read(config.data, name) for name in dict.fromkeys(names)}
  for name, split in data.items():
    run_lib.leave_out_entries(config, workdir, name, split.left_out)
  tokenizer = run_lib.open_tokenizer(
      config, workdir, _texts(data['train']) if 'train' in data else None,
      control_tokens=prompts_lib.CONTROL_TOKENS,
      prompts=[prompts_lib.chat(prompts_lib.seen('video'))])
  reader = method_lib.reader(
      config, tokenizer, int(config.data.cache_gb * 2 ** 30))
  return mesh, {name: readable(workdir, reader, split)
                for name, split in data.items()}, tokenizer, reader


def check_config(config):
  """Raises ValueError for fields that do not go together."""
  if not config.eval.splits:
    raise ValueError("eval.splits is empty: name one at least, as ('test',)")
  evaluator.check(config)
  if not 0 <= config.train.text_prior_share < 1:
    raise ValueError(f'train.text_prior_share is '
                     f'{config.train.text_prior_share}: give a chance from 0, '
                     'below 1')


def _texts(split):
  """What the tokenizer is made of: all questions, and the right answers."""
  return [text for q in split.questions for text in (
      q.text, q.choices[q.answer])]


def initial(config, method, tokenizer, mesh, workdir):
  """Parameters of the run that `init_from` names, or None."""
  if not config.init_from:
    return None
  return run_lib.start(config, method, tokenizer, workdir, mesh)


def readable(workdir, reader, split):
  """The split less the items whose media cannot be read, which are listed."""
  ids = [item.id for item in split.items]
  bad = run_lib.unreadable(
      ids, _Media(reader, split.items),
      pathlib.Path(workdir) / 'media' / f'{split.name}.json')
  run_lib.leave_out(workdir, split.name, [
      {'id': name, 'reason': reason} for name, reason in bad.items()],
                    len(ids), f'files of {split.dataset} {split.name}')
  return split.without(list(bad))


class _Media:
  """Items that are read once, as run.unreadable wants them."""

  def __init__(self, reader, items):
    self._reader, self._items = reader, items

  def scan(self, indices, progress=True):
    """{index: why it cannot be used} of those that do not decode."""
    return media.scan(lambda index: self._reader.see(self._items[index]),
                      indices, progress)


def _evaluate(config, workdir, mesh, data, tokenizer, params, reader):
  model = generator.Generator(
      method_lib.model_config(config, tokenizer), params, reader, mesh)
  scored = {name: _score(config, model, data[name])
            for name in config.eval.splits}
  alpha, chosen_on = evaluator.alpha_of(config, scored)
  logging.info('alpha %g, chosen on %s', alpha, chosen_on)
  split = data[config.eval.splits[-1]]
  described = _describe(config, model, split, alpha)
  if not processes.first():
    return None
  return results.write(config, workdir, split, scored, (alpha, chosen_on),
                       described, data.get('train'))


def _score(config, model, split):
  """evaluator.Scored of the questions that have something to choose."""
  asked = split.to_choose()
  progress.phase(phases(config), _scoring(split.name),
                 f'the choices of {len(asked)} questions')
  found = answers.answer(
      examples.media_of(split, asked), [q.text for q in asked],
      [q.choices for q in asked], model, alpha=1.0,
      length_normalized=config.eval.length_normalized,
      score_end=config.eval.score_end, rows=config.eval.rows,
      columns=config.eval.columns, show_progress=processes.first())
  return evaluator.Scored(asked, found.parts)


def _describe(config, model, split, alpha):
  """{row: the texts of the first eval.captions items}, with CPN and without."""
  write = functools.partial(
      writing.generate, split.items[:config.eval.captions],
      config.eval.prompt, model, max_tokens=config.eval.max_new_tokens,
      plausibility=config.eval.plausibility, batch_size=config.eval.rows,
      show_progress=processes.first())
  if not config.eval.captions:
    return {}
  progress.phase(phases(config), WRITING)
  return {row: [one.text for one in write(alpha=weight)]
          for row, weight in (('greedy', 0.0), ('greedy_cpn', alpha))}
