"""The reranker of a run: published weights, or a tiny one that is trained.

The tiny one starts from the embedder of the run and learns to tell the answers
of training queries from the wrong candidates that mining found near them.
"""
import functools
import pathlib

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
from jaxret.methods.mm_embed import rerank as mixed_rerank
from jaxret.methods.mm_embed import rerank_examples
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
  params = train_lib.fit(
      method, method.examples(groups), _training(config), directory, mesh,
      llava_next.start(params))
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


def rerank_tasks(settings, model, benchmark, union, rankings, directory):
  """{(task, pool): Ranking} of the tasks in settings.tasks, reordered."""
  found, weights = {}, sharding.checksum(model.params)
  for task in benchmark.tasks:
    for where in ('union', 'local'):
      if task.name in settings.tasks and (task.name, where) in rankings:
        templates = {mixed.modality(query): question_of(
            settings, query, task.modality) for query in task.queries}
        found[task.name, where] = mixed_rerank.rerank_task(
            union, task, rankings[task.name, where],
            functools.partial(_ask, model, templates, settings.depth),
            pathlib.Path(directory) / f'{task.name}.{where}',
            {'weights': weights, 'reading': media.READING,
             'alpha': settings.get('alpha', 'white'),
             'question': _asked(templates)}, settings.mode,
            settings.weight, settings.depth)
  return found


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
