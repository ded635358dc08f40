"""mteb on models of jaxret: an encoder, and searches by scores of pairs.

  import mteb
  from jaxret.integrations import mteb as ours

  encoder = ours.Encoder('friedrichor/Unite-Base-Qwen2-VL-2B')
  mteb.evaluate(encoder, mteb.get_task('MSRVTTT2V'))

`Encoder` is mteb's EncoderProtocol for whatever jaxret.load opens. `PairSearch`
is its SearchProtocol for what has a score of each pair and no vectors;
`likelihood` and `reranking` make one of a generator and of a reranker.
"""
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import datasets
import numpy as np
from mteb.models.abs_encoder import get_prompt_name
from mteb.models.model_meta import ModelMeta
from mteb.types import PromptType

import jaxret
from jaxret import embedder, loading, sentence_names, sharding
from jaxret.methods.blim import score as score_lib
from jaxret.reranking import rerank

# As UNITE names what an item is made of; mteb's wrapper of it has text first.
ORDER = ('image', 'video', 'text')
MEDIA = ('image', 'video')
# Models to whom a prompt, if an empty one, says that an item is a query.
_PROMPTED = ('mm_embed', 'nv_embed_v1')
Items = list[dict[str, Any]]


class Encoder:
  """An Embedder as mteb's EncoderProtocol.

  model: an Embedder, or what jaxret.load opens with `options`. prompts: {name
  of a task, its type, 'query' or 'document', or 'NAME-query': prompt}, the most
  special counts; see Embedder.encode. instructions: whether a task's own
  instruction is the prompt of its queries, where `prompts` has none. order: in
  which the modalities of an item are named. name: of the model, for results.

  Media of a data set are read as its files have them, by jaxret: mteb's frames
  of videos are not asked for. Tensors of frames [F, 3, H, W] are taken as they
  are. Raises ValueError for audio, which no model here hears.
  """

  def __init__(self, model: str | os.PathLike | embedder.Embedder,
               revision: str | None = None, *, device: str | None = None,
               prompts: dict[str, str] | None = None,
               instructions: bool = False, order: Sequence[str] = ORDER,
               name: str | None = None, **options: Any):
    del device  # a model is where its mesh is
    if sorted(order) != sorted(ORDER):
      raise ValueError(f'order: got {tuple(order)}, want each of '
                       f'{", ".join(ORDER)} once')
    if isinstance(model, embedder.Embedder):
      if options:
        raise ValueError(f'{sorted(options)[0]} has no effect on a model that '
                         'is open: leave it out')
      self.model, name = model, name or model.config.name
    else:
      self.model = loading.load(model, **options)
      name = name or last_part(model)
    self.prompts, self.instructions = dict(prompts or {}), instructions
    self.order, reader = tuple(order), self.model.reader
    self.mteb_model_meta = meta(name, revision or fingerprint(
        self.model.params, self.model.config, self.model.width, self.prompts,
        instructions, self.order, *(getattr(reader, field, None) for field in (
            'resolution', 'max_tokens', 'template'))), self.model.width)

  def encode(self, inputs: Any, *, task_metadata: Any, hf_split: str = '',
             hf_subset: str = '', prompt_type: Any = None,
             batch_size: int = 32, show_progress_bar: bool = False,
             **options: Any) -> np.ndarray:
    """Unit vectors float32 [N, D] of mteb's DataLoader, in its order.

    options: of Embedder.encode, precision say.
    """
    return self.model.encode(
        list(items_of(inputs, self.order)),
        self.prompt(task_metadata, prompt_type), batch_size,
        show_progress=show_progress_bar, **options)

  def prompt(self, task_metadata: Any, prompt_type: Any) -> str | None:
    """What is asked for with the items of a task; None = nothing is said."""
    prompt_type = prompt_type and PromptType(prompt_type)
    name = get_prompt_name(self.prompts, task_metadata, prompt_type)
    if name is not None:
      return self.prompts[name]
    if prompt_type != PromptType.query:
      return None
    if self.instructions:
      said = task_metadata.prompt
      said = said.get('query') if isinstance(said, dict) else said
      if said:
        return str(said)
    return '' if self.model.config.name in _PROMPTED else None

  def similarity(self, left: Any, right: Any) -> Any:
    """Cosines [N, M] of unit vectors, [N, D] and [M, D]."""
    tensor = sentence_names.is_tensor(left) or sentence_names.is_tensor(right)
    left, right = (np.atleast_2d(np.asarray(one, np.float32))
                   for one in (left, right))
    return sentence_names.as_asked(left @ right.T, tensor)

  def similarity_pairwise(self, left: Any, right: Any) -> Any:
    """The cosine of each pair, [N]."""
    return self.model.similarity_pairwise(left, right)


class PairSearch:
  """Scores of pairs as mteb's SearchProtocol.

  score: (queries, candidates, lists) -> float [Q, C], higher is better, -inf
  or NaN for pairs that are not scored; queries and candidates are what
  Embedder.encode takes. lists: of each query the candidates (int arrays) that
  are to be scored, as a reranking task has them, or the topk best of the
  Encoder `first`; None = all. revision: of the model, by which mteb finds
  results again; None = never.
  """

  def __init__(self, name: str,
               score: Callable[[Items, Items, Any], np.ndarray],
               order: Sequence[str] = ORDER, first: Encoder | None = None,
               topk: int = 100, revision: str | None = None):
    self.score, self.order, self.topk = score, tuple(order), topk
    self.first = first
    self.mteb_model_meta = meta(name, revision or os.urandom(8).hex())
    self._corpus: Items = []
    self._ids: list[str] = []

  def index(self, corpus: Any, *, task_metadata: Any, **options: Any) -> None:
    """Keeps what is to be searched."""
    self._corpus = list(_side(corpus, task_metadata, 'document', self.order))
    self._ids = list(map(str, corpus['id']))

  def search(self, queries: Any, *, task_metadata: Any, top_k: int,
             top_ranked: dict[str, list[str]] | None = None, **options: Any
             ) -> dict[str, dict[str, float]]:
    """{query id: {candidate id: score}}, the best top_k of each query."""
    if not self._ids:
      raise ValueError('search: there is no corpus yet: call index first')
    names = list(map(str, queries['id']))
    items = list(_side(queries, task_metadata, 'query', self.order))
    lists = self._lists(names, items, task_metadata, top_ranked)
    scores = np.asarray(self.score(items, self._corpus, lists), np.float64)
    wanted = len(names), len(self._ids)
    if scores.shape != wanted:
      raise ValueError(f'search: got scores {scores.shape}, want {wanted}')
    found = {}
    for number, name in enumerate(names):
      row = np.full(wanted[1], -np.inf)
      chosen = slice(None) if lists is None else lists[number]
      row[chosen] = np.nan_to_num(scores[number][chosen], nan=-np.inf,
                                  neginf=-np.inf)
      best = np.argsort(-row, kind='stable')[:top_k]
      found[name] = {self._ids[c]: float(row[c]) for c in best
                     if np.isfinite(row[c])}
    return found


  def _lists(self, names, queries, task_metadata, top_ranked):
    """int arrays of the candidates of each query, or None for all."""
    if top_ranked is not None:
      place = {name: number for number, name in enumerate(self._ids)}
      return [np.array([place[one] for one in top_ranked.get(name, ())], int)
              for name in names]
    if self.first is None:
      return None
    vectors = [self.first.model.encode(
        side, self.first.prompt(task_metadata, kind), show_progress=False)
               for kind, side in (('query', queries),
                                  ('document', self._corpus))]
    _, best = self.first.model.search(
        *vectors, k=min(self.topk, len(self._corpus)))
    return list(best)


def likelihood(model: Any, name: str | None = None, **options: Any
               ) -> PairSearch:
  """Ranks by likelihood with CPN, as jaxret.score_matrix does.

  One side must be texts alone, the other images or videos. model, options: of
  jaxret.score_matrix, opened once if it is a path of a generator.
  """
  def score(queries, candidates, lists):
    sides = [all('text' in item and len(item) == 2 for item in items)
             for items in (queries, candidates)]
    if sides[0] == sides[1]:
      raise ValueError('likelihood: got ' + (
          'texts on both sides' if all(sides) else 'no side of texts alone')
          + '; want texts against images or videos')
    texts, media = (queries, candidates) if sides[0] else (candidates, queries)
    scores = score_lib.score_matrix(
        {f'v{number}': _medium_alone(item)
         for number, item in enumerate(media)},
        {f't{number}': item['text'] for number, item in enumerate(texts)},
        model, **options)
    return scores.text_to_video() if sides[0] else scores.video_to_text()
  return PairSearch(name or _name_of(model), score, revision=_revision(
      model, options))


def _medium_alone(item):
  """A video as every model that scores pairs takes it; else the item."""
  item = {name: value for name, value in item.items() if name != 'id'}
  return item['video'] if set(item) == {'video'} else item


def reranking(model: Any, instruction: str | None = None,
              first: Encoder | None = None, topk: int = 100,
              name: str | None = None, **options: Any) -> PairSearch:
  """Ranks by what a reranker says of each pair, as jaxret.rerank does.

  model: a Reranker or what jaxret.load_reranker opens. first: an Encoder, whose
  best topk of each query are looked at where the task names no candidates;
  without it all are. options: of jaxret.load_reranker.
  """
  if isinstance(model, str | os.PathLike):
    name = name or last_part(model)
    model = rerank.load_reranker(model, **options)
  def score(queries, candidates, lists):
    if lists is None:
      return model.rerank(queries, candidates, instruction,
                          show_progress=False).calibrated
    scores = np.full((len(queries), len(candidates)), -np.inf)
    for row, (query, chosen) in enumerate(zip(queries, lists)):
      if len(chosen):
        scores[row, chosen] = model.rerank(
            query, [candidates[c] for c in chosen], instruction,
            show_progress=False).calibrated
    return scores
  return PairSearch(
      name or _name_of(model), score, first=first, topk=topk,
      revision=_revision(model, instruction, topk, first and (
          first.mteb_model_meta.revision)))


def items_of(inputs: Any, order: Sequence[str] = ORDER) -> Iterator[dict]:
  """Items of mteb's DataLoader, media as the files of its data set have them.
  """
  dataset = getattr(inputs, 'dataset', inputs)
  if isinstance(dataset, datasets.Dataset):
    yield from _rows(dataset, order)
    return
  number = 0
  for batch in inputs:
    names = [name for name in (*order, 'id', 'audio') if name in batch]
    for values in zip(*(batch[name] for name in names)):
      yield _item(dict(zip(names, values)), number, order)
      number += 1


def _rows(dataset, order):
  """Items of a Dataset, whose media are not decoded by it."""
  for name in MEDIA:
    feature = dataset.features.get(name)
    if getattr(feature, 'decode', False):
      dataset = dataset.cast_column(name, type(feature)(decode=False))
  for number in range(len(dataset)):
    yield _item(dataset[number], number, order)


def _item(row, number, order):
  """An item as Embedder.encode takes it, of a row of a data set."""
  name = str(row.get('id', number))
  if row.get('audio') is not None:
    raise ValueError(f'{name}: it has audio, which no model here hears: choose '
                     'tasks without it')
  found = {kind: medium(row[kind]) for kind in order
           if row.get(kind) is not None and not (
               kind == 'text' and not row[kind])}
  if not found:
    found = {'text': row.get('text') or ''}
  return {'id': name, **found}


def medium(value: Any) -> Any:
  """A medium as Embedder.encode takes it.

  {bytes, path} of a data set: the bytes, or the path where it has none; a
  tensor of frames [F, 3, H, W]: pixels; others as they are.
  """
  if isinstance(value, dict) and {'bytes', 'path'} & set(value):
    return value.get('bytes') or value['path']
  if sentence_names.is_tensor(value):
    value = value.numpy()
    if value.ndim == 4 and value.shape[1] == 3:
      value = value.transpose(0, 2, 3, 1)
    if value.dtype != np.uint8:
      raise ValueError(f'a tensor of frames is {value.dtype}, want uint8')
    return np.ascontiguousarray(value)
  return value


def _side(dataset, task_metadata, side, order):
  """Items of queries or of a corpus, prepared as mteb does for encoders."""
  from mteb._create_dataloaders import create_dataloader
  return items_of(create_dataloader(
      dataset, task_metadata=task_metadata, prompt_type=PromptType(side)),
                  order)


def fingerprint(params: Any, *what: Any) -> str:
  """16 hex digits that change with weights, or with how they are used."""
  said = f'{sharding.checksum(params)} {what!r}'
  return hashlib.sha256(said.encode()).hexdigest()[:16]


def _revision(model, *what):
  """A fingerprint of a model that is open; None of one that is not."""
  params = getattr(model, 'params', None)
  return None if params is None else fingerprint(
      params, getattr(model, 'config', None), *what)


def meta(name: str, revision: str | None = None, width: int | None = None
         ) -> ModelMeta:
  """What mteb's results say of a model."""
  return ModelMeta.create_empty({
      'name': name if '/' in name else f'jaxret/{name}',
      'revision': revision or jaxret.__version__, 'embed_dim': width,
      'modalities': sorted(ORDER), 'framework': [],
      'similarity_fn_name': None})


def last_part(path: str | os.PathLike) -> str:
  """The last part of a path, or a name of the Hub as it is."""
  text = str(path).rstrip('/')
  return text if text.count('/') == 1 and not text.startswith((
      '.', '~', '/')) and not os.path.exists(text) else (
          os.path.basename(os.path.abspath(text)))


def _name_of(model):
  if isinstance(model, str | os.PathLike):
    return last_part(model)
  return getattr(getattr(model, 'config', None), 'name', type(model).__name__)
