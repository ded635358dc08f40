"""A model that says how well candidates answer queries, as load_reranker opens
it.
"""
import functools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import numpy as np
import tqdm
from jax.sharding import Mesh

from jaxret import embedder, process_settings, reading, sharding
from jaxret.data import media as media_lib
from jaxret.data import question_frames, types, visual_features
from jaxret.reranking import media_features, pair_scores, ranked
from jaxret.scoring import pair_tiles

EMPTY = types.Item('the empty candidate')

# A name or a frame; of LLaVA-NeXT what data.llava.pairs.asked knows as well.
Frame: TypeAlias = str | question_frames.QuestionFrame | dict[str, str] | None
Candidates = (Sequence[embedder.Given] | Sequence[Sequence[embedder.Given]])


class Reranker:
  """A generative model that is asked whether a candidate answers a query.

  config, params: as `open_generator` of a wing gives them, with an output
  head; reader: of the wing's `pairs`; mesh: where the work is done. frame: see
  `rerank`. cache_bytes: of what the tower gives of media, kept in memory.
  queries_at_once, tile_tokens: of a device, queries whose keys and values are
  kept and tokens that are read at a time.
  """

  def __init__(self, config: Any, params: dict[str, Any], reader: Any,
               mesh: Mesh | None = None,
               frame: Frame = None,
               cache_bytes: int = 2 ** 31, queries_at_once: int = 8,
               tile_tokens: int = 2048):
    self._open(config, params, reader, mesh, frame)
    self.queries_at_once, self.tile_tokens = queries_at_once, tile_tokens
    self._memory = visual_features.Memory(cache_bytes)

  def _open(self, config, params, reader, mesh, frame):
    """Places the parameters, and sees that the words of the frame exist."""
    process_settings.exact_float32()
    self.config, self.reader = config, reader
    self.frame = self.check_frame(frame)
    reader.words(self.frame)
    self.mesh = mesh or sharding.make_mesh()
    self.params = jax.device_put(
        params, sharding.shardings(self.mesh, params))

  def __repr__(self) -> str:
    devices = self.mesh.devices.ravel()
    return (f'Reranker({self.config.name}, '
            f'{len(devices)} x {devices[0].device_kind})')

  @staticmethod
  def check_frame(frame: Frame) -> Any:
    """The frame that is named, yes_no by default; ValueError for none."""
    return question_frames.checked('yes_no' if frame is None else frame)

  def rerank(self, query: embedder.Given | Sequence[embedder.Given],
             candidates: Candidates, instruction: str | None = None, *,
             frame: Frame = None, calibrate: bool = False,
             features: str | os.PathLike | None = None,
             on_error: str | Callable[[ValueError], None] = 'raise',
             show_progress: bool = True) -> ranked.Reranked:
    """How well candidates answer a query, or each of several.

    The scores are those of each pair alone. What stands before a candidate in
    the prompt is read once for all candidates of a query, and the vision tower
    sees each medium once for all queries.

    Args:
      query: an item, or a list of Q, as for Embedder.encode.
      candidates: C items; of several queries also Q lists of them, of any
        lengths.
      instruction: what a candidate is wanted for; None = as the frame has it.
      frame: how it is asked: 'yes_no' (as Qwen3-VL-Reranker is trained),
        'true_false', 'multiple_choice' (A or B), or a QuestionFrame of
        data.question_frames. None = as the reranker was opened with. Of
        LLaVA-NeXT 'mm_embed', MM-Embed's questions by modalities, a question
        with {query} or {candidate} in it, or a dict of such, see
        data.llava.pairs.
      calibrate: log odds less those of an empty candidate, which tell how much
        a query is answered yes whatever comes.
      features: a directory where what the vision tower gives of media is kept,
        found again by their content. None = in memory alone.
      on_error: 'raise', or 'skip': an item that cannot be used is reported,
        and its scores are NaN. Or a function that is called with the error.
      show_progress: a bar on standard error.

    Returns:
      ranked.Reranked, of one query [C], else [Q, C].

    Raises:
      ValueError: one line that names the first item that cannot be used.
    """
    failed = reading.reaction(on_error)
    score = self._scorer(frame, instruction, calibrate, features)
    alone = embedder.is_one(query)
    queries = _items(
        [query] if alone else cast(Sequence, query), 'query', failed)
    universe, lists = _lists(candidates, len(queries), alone, failed)
    if calibrate:
      universe.append(EMPTY)
    wanted = [[*own, *[len(universe) - 1] * calibrate] for own in lists]
    found = score(queries, universe, wanted, failed, show_progress)
    log_odds = np.full((len(lists), max(map(len, lists))), np.nan, np.float32)
    for row, own in enumerate(lists):
      log_odds[row, :len(own)] = found[row, own]
    prior = found[:, -1] if calibrate else None
    if alone:
      return ranked.Reranked(log_odds[0], prior if prior is None else prior[0])
    return ranked.Reranked(log_odds, prior)

  def _scorer(self, frame: Frame, instruction: str | None, calibrate: bool,
              features: str | os.PathLike | None) -> Callable:
    """What gives log odds float32 [Q, U] of what `rerank` is asked.

    Called with queries, all U candidates, the numbers of those that each query
    wants, what is told of errors, and whether to show progress. Raises
    ValueError for what does not go together.
    """
    del calibrate
    how = self.frame if frame is None else self.check_frame(frame)
    words = np.array(self.reader.words(how), np.int32)
    self.reader.check_instruction(instruction)
    kept = self._features(features)
    def score(queries, universe, wanted, failed, show_progress):
      call = _Call(self, words, pair_scores.Question(how, instruction), kept,
                   failed, show_progress)
      return _scores(call, queries, universe, wanted)
    return score

  @functools.cached_property
  def _weights(self):
    """What identifies the weights of the tower."""
    params = self.params['params']
    return sharding.checksum({'vision': params['vision']})

  def _features(self, directory):
    """The MediaFeatures that `rerank` uses."""
    kept = None
    if directory is not None:
      if jax.process_count() > 1:
        raise ValueError(f'features = {str(directory)!r}: got '
                         f'{jax.process_count()} processes, want one: leave it '
                         'out, and features are kept in memory')
      kept = visual_features.Directory(directory, {
          'weights': self._weights, 'config': repr(self.config.vision),
          'reading': media_lib.READING, 'alpha': self.reader.alpha,
          'resolution': repr(self.reader.resolution)},
          jax.numpy.dtype(self.config.vision.dtype))
    return media_features.MediaFeatures(
        self.config, self.params, self.reader, self.mesh, self._memory, kept)


class _Call(NamedTuple):
  """What one call of `rerank` works with; words: int [2]."""
  model: Reranker
  words: np.ndarray
  question: pair_scores.Question
  features: media_features.MediaFeatures
  failed: Callable[[ValueError], None]
  show_progress: bool


def _items(given, what, failed):
  """The Items of a list, None where one is none."""
  if embedder.is_one(given) or not isinstance(given, Iterable):
    raise ValueError(f'{what}: got one {type(given).__name__}, want a list')
  given, found = list(given), []
  if not given:
    raise ValueError(f'{what}: got none, want one at least')
  for index, one in enumerate(given):
    try:
      found.append(embedder.as_item(one, index, what))
    except ValueError as error:
      failed(error)
      found.append(None)
  return found


def _lists(candidates, n_queries, alone, failed):
  """([Item or None] of all candidates, the numbers that each query wants)."""
  if embedder.is_one(candidates) or not isinstance(candidates, Iterable):
    raise ValueError(f'candidates: got one {type(candidates).__name__}, want a '
                     'list')
  candidates = list(candidates)
  nested = [isinstance(one, (list, tuple)) for one in candidates]
  if not any(nested):
    found = _items(candidates, 'candidate', failed)
    return found, [list(range(len(found)))] * n_queries
  if alone or not all(nested) or len(candidates) != n_queries:
    raise ValueError(
        f'candidates: got {sum(nested)} lists among {len(candidates)} for '
        f'{n_queries} {"query" if alone else "queries"}, want items, or with a '
        'list of queries one list for each')
  found, lists = [], []
  for number, own in enumerate(candidates):
    items = _items(own, f'query {number}, candidate', failed)
    lists.append(list(range(len(found), len(found) + len(items))))
    found += items
  return found, lists


def _scores(call, queries, universe, wanted):
  """Log odds float32 [Q, U]; NaN where none are wanted, or there are none."""
  looked = _look(call, queries + universe)
  n = len(queries)
  asked, (said, number) = looked[:n], _different(looked[n:])
  found = np.full((n, len(said) + 1), np.nan, np.float32)  # -1 is none
  rows = [row for row in range(n) if asked[row] is not None]
  lists = {row: list(dict.fromkeys(number[i] for i in wanted[row]
                                   if number[i] >= 0)) for row in rows}
  rows = sorted((row for row in rows if lists[row]), key=lambda row: len(
      asked[row].shown.text) + sum(
          medium.tokens for medium in asked[row].media().values()))
  model, seen = call.model, _Seen(call)
  shards = sharding.batch_shards(model.mesh)
  step = -(-model.queries_at_once // shards) * shards
  with tqdm.tqdm(total=sum(map(len, lists.values())), desc='reranking',
                 unit='pair', disable=not call.show_progress) as progress:
    for first in range(0, len(rows), step):
      part = rows[first:first + step]
      _score_block(call, seen, [asked[row] for row in part], said,
                   [lists[row] for row in part], found, part, progress)
  return found[:, number]


def _look(call, items):
  """The Looked of each Item, None where it cannot be used."""
  reader = call.model.reader
  def look(index):
    shown = reader.look(items[index])
    return pair_scores.Looked(shown, tuple(
        visual_features.content_key(shown.id, *medium)
        for medium in shown.media))
  found = [None] * len(items)
  there = [i for i, item in enumerate(items) if item is not None]
  for index, looked in reading.usable(
      reading.read_ahead(look, there, 64), lambda i: items[i].id,
      call.failed):
    found[index] = looked
  return found


def _different(looked):
  """(the different ones, the number of each; -1 where there is none)."""
  numbers, found, of = {}, [], []
  for one in looked:
    if one is None:
      of.append(-1)
      continue
    key = one.shown.text, one.shown.kinds, one.keys
    if key not in numbers:
      numbers[key] = len(found)
      found.append(one)
    of.append(numbers[key])
  return found, np.array(of)


def _score_block(call, seen, queries, candidates, wanted, found, rows,
                 progress):
  """Scores queries that are read together, into found[rows]."""
  model, reader = call.model, call.model.reader
  parts = model.config, model.params, model.mesh
  whole = pair_scores.block(
      reader, call.question, queries, candidates, wanted)
  cache = pair_scores.read_heads(
      *parts, reader.special, whole.heads, seen.of(whole.heads))
  tiles = pair_tiles.plan(
      whole.wanted, [len(piece.tokens) for piece in whole.suffixes],
      model.tile_tokens, sharding.batch_shards(model.mesh))
  running = None
  for window in _windows(tiles, whole, seen):
    features = seen.of([whole.suffixes[s] for tile in window
                        for row in tile.suffixes for s in row])
    for tile in window:
      batch = pair_scores.tile_batch(
          model.config, reader.special, whole, tile, features)
      previous, running = running, (tile, pair_scores.score_tile(
          *parts, cache, batch, call.words))
      _finish(previous, whole, found, rows, progress)
  _finish(running, whole, found, rows, progress)
  _check(call, queries, candidates, wanted, found, rows, seen)


def _finish(running, whole, found, rows, progress):
  """Waits for a tile's scores and writes them to their places."""
  if running is None:
    return
  tile, values = running
  for query, suffixes, row in zip(
      tile.queries[:tile.real], tile.suffixes, sharding.to_host(values)):
    found[rows[query], [whole.of[s] for s in suffixes]] = row[:len(suffixes)]
    progress.update(len(suffixes))


def _check(call, queries, candidates, wanted, found, rows, seen):
  """Tells of scores that are not finite; unseen media leave none."""
  for row, query, own in zip(rows, queries, wanted):
    for c in own:
      if not seen.all_of(query) or not seen.all_of(candidates[c]):
        found[row, c] = np.nan
      elif not np.isfinite(found[row, c]):
        found[row, c] = np.nan
        call.failed(ValueError(
            f'{query.shown.id} with {candidates[c].shown.id}: its score is not '
            'finite; the weights are damaged, or overflow in this dtype'))


def _windows(tiles, whole, seen):
  """Cuts tiles where what they show would fill half of the memory."""
  window, keys, size = [], set(), 0
  for tile in tiles:
    media = {key: medium for row in tile.suffixes for s in row
             for key, medium in whole.suffixes[s].media().items()}
    more = sum(seen.bytes_of(media[key]) for key in media.keys() - keys)
    if window and size + more > seen.room:
      yield window
      window, keys, size = [], set(), 0
      more = sum(map(seen.bytes_of, media.values()))
    window.append(tile)
    keys |= media.keys()
    size += more
  if window:
    yield window


class _Seen:
  """The features of media, of a call; those that cannot be seen are zeros."""

  def __init__(self, call):
    self._call, self._broken = call, set()
    features, model = call.features, call.model
    self._itemsize = jax.numpy.dtype(model.config.vision.dtype).itemsize
    self._dtype = jax.numpy.dtype(model.config.vision.dtype)
    self._width, self.room = features.width, features.max_bytes // 2

  def bytes_of(self, medium):
    return medium.tokens * self._width * self._itemsize

  def all_of(self, looked):
    """Whether all media of a Looked were seen."""
    return not self._broken.intersection(looked.keys)

  def of(self, pieces):
    """{key: features} of what pieces show."""
    media = {key: medium for piece in pieces
             for key, medium in piece.media().items()}
    def failed(key, error):
      self._broken.add(key)
      self._call.failed(error)
    found = self._call.features.find(media, failed)
    for key in media.keys() - found.keys():
      found[key] = np.zeros((media[key].tokens, self._width), self._dtype)
    return found
