"""The reranker of a run: published weights, or a tiny one that is trained.

The tiny one starts from the embedder of the run and learns to tell the answers
of training queries from the wrong candidates that mining found near them.
"""
import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxret import sharding
from jaxret import train as train_lib
from jaxret.data import media, text
from jaxret.data.llava import images as llava_images
from jaxret.data.llava import question_prompts as rerank_prompts
from jaxret.data.llava import questions as rerank_inputs
from jaxret.data.sets import mixed
from jaxret.methods.mm_embed import ask as rerank
from jaxret.methods.mm_embed import evaluator, rerank_choice, rerank_examples
from jaxret.methods.mm_embed import rerank as mixed_rerank
from jaxret.methods.mm_embed import reranker as llava_next
from jaxret.models.llava import files as llava_next_files


def published(settings, mesh):
  """The methods.mm_embed.ask.Reranker of config.rerank.pretrained."""
  found = llava_next_files.read_config(
      settings.pretrained, dtype=settings.dtype, param_dtype=settings.dtype)
  tokenizer = text.load_tokenizer(settings.pretrained)
  params = llava_next_files.load(settings.pretrained, found.config, mesh)
  return _reranker(settings, found.config, params, tokenizer, mesh,
                   found.pinpoints if settings.anyres else ())


def rehearsed(settings, tokenizer, embedder):
  """(sizes, reader) of the reranker that a run asks, without its weights.

  embedder: the MmEmbedConfig whose sizes it shares where none is published.
  """
  if not settings.pretrained:
    model = llava_next.model_config(embedder)
    return model, _reader(settings, model, tokenizer, ())
  found = llava_next_files.read_config(
      settings.pretrained, dtype=settings.dtype, param_dtype=settings.dtype)
  return found.config, _reader(settings, found.config, tokenizer,
                               found.pinpoints if settings.anyres else ())


def train(config, workdir, mesh, tokenizer, embedder, params, groups):
  """A Reranker trained on [rerank_examples.Group], or on what is left of it.

  embedder: the MmEmbedConfig whose sizes it shares; params: of that, where it
  starts. Checkpoints go to <workdir>/reranker.
  """
  settings = config.rerank
  method = _method(settings, tokenizer, embedder)
  directory = pathlib.Path(workdir) / 'reranker'
  # Training gives away what it starts from, and the embedder is asked again.
  start = jax.tree.map(jnp.copy, llava_next.start(params))
  params = train_lib.fit(
      method, method.examples(groups), _training(config), directory, mesh,
      start)
  return _reranker(settings, llava_next.model_config(embedder), params,
                   tokenizer, mesh)


def restore(config, workdir, mesh, tokenizer, embedder):
  """The Reranker that `train` left in the workdir."""
  settings = config.rerank
  method = _method(settings, tokenizer, embedder)
  params = train_lib.restore_trained(
      method, _training(config), pathlib.Path(workdir) / 'reranker', mesh)
  return _reranker(settings, llava_next.model_config(embedder), params,
                   tokenizer, mesh)


def questions(settings, training_set, ranked, seed):
  """[Group] of the queries that the tiny one learns from."""
  return rerank_examples.groups(
      training_set, ranked, functools.partial(question_of, settings), seed,
      settings.wrong_depth, settings.near, settings.far)


def question_of(settings, query, wanted):
  """The template of config.rerank.questions for a query and what it wants."""
  name = f'{mixed.modality(query)}_to_{wanted}'.replace(',', '_')
  if name not in settings.questions:
    raise ValueError(f'rerank.questions has no {name}, only '
                     f'{", ".join(settings.questions)}: write one')
  return settings.questions[name]


class Ranked(NamedTuple):
  """A benchmark and what a retriever finds: {(task, pool): mixed.Ranking}."""
  benchmark: mixed.Benchmark
  union: evaluator.Union
  rankings: dict


def rerank_tasks(settings, model, benchmark, union, rankings, directory):
  """{(task, pool): Ranking} of the tasks in settings.tasks, reordered."""
  found = {}
  for task, where in _wanted(settings, benchmark, rankings):
    found[task.name, where] = mixed_rerank.rerank_task(
        union, task, rankings[task.name, where],
        *_asking(settings, model, task, where, directory),
        settings.mode, settings.weight, settings.depth)
  return found


def rerank_as_chosen(settings, model, reported, choosing, directory):
  """(the same of mode 'chosen', {'on', 'halves', 'tasks'}).

  reported: a Ranked; choosing: that of the split settings.choose_on, None
  where that is reported, each half of whose queries then chooses for the
  other. tasks: {task: {pool: [what rerank_choice.choose gives]}}. Where all
  weights are 0 nothing is asked about what is reported.
  """
  found, tasks = {}, {}
  for task, where in _wanted(settings, reported.benchmark, reported.rankings):
    name, ranking = task.name, reported.rankings[task.name, where]
    if choosing is None:
      asked = _answered(settings, model, reported, name, where, directory)
      parts = rerank_choice.halves(len(asked.p_true))
      choices = [rerank_choice.choose(asked, settings.weights, part)
                 for part in parts]
      weights = np.empty(len(asked.p_true))
      for part, choice in zip(parts, choices[::-1]):
        weights[part] = choice['weight']
    else:
      choices = [rerank_choice.choose(
          _answered(settings, model, choosing, name, where,
                    pathlib.Path(directory).parent / settings.choose_on),
          settings.weights)]
      weights = np.full(len(ranking.kept), choices[0]['weight'])
    if weights.any():
      p_true = _answered(
          settings, model, reported, name, where, directory).p_true
      ranking = mixed_rerank.by_log_odds(ranking, p_true, weights)
    found[name, where] = ranking
    tasks.setdefault(name, {})[where] = choices
  return found, {'on': settings.choose_on, 'halves': choosing is None,
                 'tasks': tasks}


def _wanted(settings, benchmark, rankings):
  """(task, pool) of what is reranked."""
  return [(task, where) for task in benchmark.tasks for where in evaluator.POOLS
          if task.name in settings.tasks and (task.name, where) in rankings]


def _answered(settings, model, ranked, name, where, directory):
  """The rerank_choice.Asked of a task in its pool or in the union."""
  task = next(task for task in ranked.benchmark.tasks if task.name == name)
  ranking = ranked.rankings[name, where]
  return rerank_choice.Asked(
      ranked.union, task, ranking, mixed_rerank.first_answers(
          ranked.union, task, ranking,
          *_asking(settings, model, task, where, directory), settings.depth),
      task.pool if where == 'local' else None)


def _asking(settings, model, task, where, directory):
  """(ask, directory, fingerprint) of a task, see rerank.first_answers."""
  templates = {mixed.modality(query): question_of(
      settings, query, task.modality) for query in task.queries}
  return (functools.partial(_ask, model, templates, settings.depth),
          pathlib.Path(directory) / f'{task.name}.{where}',
          {'weights': sharding.checksum(model.params),
           'reading': media.READING, 'alpha': settings.get('alpha', 'white'),
           'question': _asked(templates)})


def _asked(templates):
  """What identifies the questions of a task: its one template, or all."""
  return templates if len(templates) > 1 else next(iter(templates.values()))


def _ask(model, templates, depth, queries, candidates):
  """P(True) of lists of at most `depth` candidates, float32 [Q, depth].

  templates: {modality of a query: question}; those of one are asked together.
  """
  kinds = [mixed.modality(query) for query in queries]
  p_true = np.empty((len(queries), depth), np.float32)
  for kind in dict.fromkeys(kinds):
    rows = [row for row, own in enumerate(kinds) if own == kind]
    p_true[rows] = model.p_true(
        [queries[row] for row in rows],
        [candidates[row] + candidates[row][-1:] * (depth - len(candidates[row]))
         for row in rows], templates[kind], show_progress=False)
  return p_true


def _training(config):
  """The config of the reranker's training, for train.fit."""
  own = config.rerank.to_dict()
  return ConfigDict({'seed': config.seed, **{
      name: own[name] for name in ('train', 'optim', 'source', 'questions',
                                   'wrong_depth', 'near', 'far',
                                   'train_shape')}})


def _method(settings, tokenizer, embedder):
  model = llava_next.model_config(embedder)
  return llava_next.method(
      model, _reader(settings, model, tokenizer, ()),
      rerank_prompts.answer_ids(tokenizer),
      rerank_inputs.Shape(*settings.train_shape))


def _reader(settings, model, tokenizer, pinpoints):
  grid = llava_images.Grid(
      model.vision.image_px, model.vision.patch_px, pinpoints)
  # Configs of old work directories have no such field.
  return rerank_inputs.Reader(tokenizer, grid, model.decoder.vocab_size, 4096,
                              settings.get('alpha', 'white'))


def _reranker(settings, model, params, tokenizer, mesh, pinpoints=()):
  shape = settings.shape and rerank_inputs.Shape(*settings.shape)
  return rerank.Reranker(
      model, params, _reader(settings, model, tokenizer, pinpoints),
      rerank_prompts.answer_ids(tokenizer), mesh, settings.batch_size,
      shape or None)
