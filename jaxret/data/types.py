"""What travels from sources to methods: items, splits and retrieval tasks."""
import dataclasses
from collections.abc import Iterable
from typing import NamedTuple, Protocol, Self

import numpy as np

from jaxret.data import clips

VISUAL = -200  # of token ids: a model that sees puts a visual vector there


class LeftOut(NamedTuple):
  """An entry of published files that is not used as it stands, and why."""
  id: str
  reason: str


def is_broken(text: str) -> bool:
  """Whether a text holds a lone surrogate, half of a character.

  JSON can say one ("\\ud83d"); no encoding can, so that tokenizers, hashes and
  files raise errors of their own.
  """
  if text.isascii():
    return False
  try:
    text.encode()
  except UnicodeEncodeError:
    return True
  return False


@dataclasses.dataclass(frozen=True)
class Item:
  """One thing that can be a query or a candidate.

  A medium (`image`, `video`) is a path or the encoded bytes; where a method
  can read them also pixels, uint8 [H, W, 3] or [F, H, W, 3], a PIL image, or a
  tuple of several media. A `video` that is a tuple of stills is one video, and
  they are its frames; a `clips.Clip` is a part of one. An item carries one
  modality or a mixture; `id` is unique within its collection. `order` is that
  of its modalities, where the prompt names them.
  Errors: ValueError that names the item for a text with a lone surrogate.
  """
  id: str
  text: str | None = None
  image: str | bytes | np.ndarray | tuple | None = None
  video: str | bytes | np.ndarray | tuple | clips.Clip | None = None
  order: tuple[str, ...] = ('text', 'image', 'video')

  def __post_init__(self) -> None:
    if isinstance(self.text, str) and is_broken(self.text):
      raise ValueError(f'{self.id}: its text holds a lone surrogate, half of a '
                       'character; remove it from the text')


@dataclasses.dataclass(frozen=True)
class Task:
  """Queries, candidates and which candidates are relevant to which query.

  relevant[q]: int32 candidate indices, at least one.
  lists[q]: the candidates that query q is compared with, where each query has
    its own; they hold the relevant ones. None = all candidates.
  excluded[q]: candidates that are never an answer to query q, such as the
    reference that the query asks to change. None = none.
  query_prompt, candidate_prompt: what the encoder is told of each side.
  grades[q]: int, above 0, of relevant[q] in that order; behind them those of
    answers that are no candidate, which nDCG misses. None = they have none.
  left_out: what its files hold besides and cannot be used.
  files: paths of the data files that it was read from.
  Errors: ValueError where these do not fit; it names the task and the query.
  """
  name: str
  queries: tuple[Item, ...]
  candidates: tuple[Item, ...]
  relevant: tuple[np.ndarray, ...]
  lists: tuple[np.ndarray, ...] | None = None
  excluded: tuple[np.ndarray, ...] | None = None
  query_prompt: str | None = None
  candidate_prompt: str | None = None
  grades: tuple[np.ndarray, ...] | None = dataclasses.field(
      default=None, kw_only=True)
  left_out: tuple[LeftOut, ...] = dataclasses.field(default=(), kw_only=True)
  files: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)

  def __post_init__(self) -> None:
    for field in ('relevant', 'lists', 'excluded'):
      indices = getattr(self, field)
      if indices is not None:
        self._check_indices(field, indices)
    for q, relevant in enumerate(self.relevant):
      if not len(relevant):
        raise self._wrong(q, 'no relevant candidate', 'at least one')
      if self.lists is not None and not np.isin(relevant, self.lists[q]).all():
        raise self._wrong(q, 'a relevant candidate that is not in its list',
                          'all of them there')
      if self.excluded is not None and np.isin(
          relevant, self.excluded[q]).any():
        raise self._wrong(q, 'a relevant candidate that is excluded',
                          'an index in one of the two')
      if self.grades is not None and (
          len(self.grades[q]) < len(relevant) or np.min(self.grades[q]) < 1):
        raise self._wrong(q, f'the grades {self.grades[q]}',
                          'one above 0 for each relevant candidate')

  def _check_indices(self, field, indices):
    if len(indices) != len(self.queries):
      raise ValueError(
          f'task {self.name!r}: `{field}` has {len(indices)} entries for '
          f'{len(self.queries)} queries; wanted one per query')
    if not indices:
      return
    flat = np.concatenate([np.asarray(i, np.int64) for i in indices])
    wrong = np.flatnonzero((flat < 0) | (flat >= len(self.candidates)))
    if wrong.size:
      ends = np.cumsum([len(i) for i in indices])
      raise self._wrong(
          int(np.searchsorted(ends, wrong[0], 'right')),
          f'the index {flat[wrong[0]]} in `{field}`',
          f'0 to {len(self.candidates) - 1}')

  def _wrong(self, query, got, wanted):
    return ValueError(f'task {self.name!r}, query {query} '
                      f'({self.queries[query].id!r}): got {got}, wanted '
                      f'{wanted}')


@dataclasses.dataclass(frozen=True)
class Split:
  """One split of a video-text data set.

  videos: unique media, in order of first appearance in the source.
  texts: one entry per caption, in the order of the source.
  text_video: int32 [T], the index of the video that each text describes.
  left_out: what its files hold besides and cannot be used.
  files: paths of the data files that it was read from.
  """
  dataset: str
  name: str
  videos: tuple[Item, ...]
  texts: tuple[Item, ...]
  text_video: np.ndarray
  left_out: tuple[LeftOut, ...] = dataclasses.field(default=(), kw_only=True)
  files: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)

  def without(self, video_ids: Iterable[str]) -> Self:
    """This split less the videos named in `video_ids` and their texts."""
    drop = set(video_ids)
    if not drop:
      return self
    keep = [i for i, video in enumerate(self.videos) if video.id not in drop]
    new_index = np.full(len(self.videos), -1, np.int32)
    new_index[keep] = np.arange(len(keep))
    text_video = new_index[self.text_video]
    return dataclasses.replace(
        self,
        videos=tuple(self.videos[i] for i in keep),
        texts=tuple(t for t, v in zip(self.texts, text_video) if v >= 0),
        text_video=text_video[text_video >= 0])

  def text_to_video(self) -> Task:
    relevant = tuple(np.array([v], np.int32) for v in self.text_video)
    return Task('text_to_video', self.texts, self.videos, relevant,
                left_out=self.left_out, files=self.files)

  def video_to_text(self) -> Task:
    order = np.argsort(self.text_video, kind='stable').astype(np.int32)
    ends = np.cumsum(np.bincount(self.text_video, minlength=len(self.videos)))
    relevant = tuple(np.split(order, ends[:-1]))
    return Task('video_to_text', self.videos, self.texts, relevant,
                left_out=self.left_out, files=self.files)


class Visuals(Protocol):
  """Random access to what the model sees of each video, `videos[i]` -> [i].

  Frames are uint8 [F, H, W, 3]; features float16 [clips, tokens, width].
  """

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> np.ndarray: ...
