"""Searches to look at: some queries of each task, with every row's answers."""
import base64
import dataclasses
import io
import mimetypes
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike

from jaxret import metrics

if TYPE_CHECKING:
  from PIL import Image

TILE_PX = 160  # longer side of the frames of one gallery tile
SHOWN_CANDIDATES = 5  # of each row


@dataclasses.dataclass(frozen=True)
class Shown:
  """A query or a candidate in the gallery: its text, its frames, or both.

  frames: uint8 [F, H, W, 3] in temporal order; at most four are shown.
  path: of the file of its medium, where that is one, to enlarge or to play.
  """
  id: str
  text: str | None = None
  frames: np.ndarray | None = None
  path: str | None = None

  @property
  def seen(self) -> str:
    """'picture' where there is one frame alone, else 'frames'."""
    one = self.frames is not None and len(self.frames) == 1
    return 'picture' if one else 'frames'

  @property
  def is_image(self) -> bool:
    """Whether its file is an image, as the name of the file says."""
    kind = mimetypes.guess_type(self.path or '')[0]
    return bool(kind and kind.startswith('image/'))


def path_of(medium: object) -> str | None:
  """The file that a medium of an Item is, or a clip is of; None = no file."""
  medium = getattr(medium, 'source', medium)
  if isinstance(medium, tuple) and len(medium) == 1:
    return path_of(medium[0])
  if isinstance(medium, (str, os.PathLike)):
    return os.fspath(medium)
  return None


@dataclasses.dataclass(frozen=True)
class Ranked:
  """What one row of results answers to a query.

  rank: 1-based rank of the best relevant candidate. top: the first
  candidates, best first. hits: bool per candidate of `top`, is it relevant.
  scores: of `top`, () where they are not known.
  """
  rank: int
  top: tuple[Shown, ...]
  hits: tuple[bool, ...]
  scores: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class GalleryQuery:
  """One query with the answers of every row.

  direction: that, or the task. truth: a relevant candidate. rows: {row:
  Ranked}, in the order to show; the last one is the main row.
  """
  direction: str
  query: Shown
  truth: Shown
  rows: Mapping[str, Ranked]

  @property
  def missed(self) -> bool:
    """True where the main row ranks another one first."""
    return list(self.rows.values())[-1].rank > 1


@dataclasses.dataclass(frozen=True)
class Written:
  """Texts that were written about one query, side by side.

  truth: what it might say, or None. texts: {what wrote it: the text}, in the
  order to show.
  """
  query: Shown
  truth: str | None
  texts: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Row:
  """What one row of results answers to all Q queries of a task.

  Indices are those of the row's own candidates: rows may differ in what they
  left out.

  ranks: int [Q], the 1-based ranks of the best relevant candidates.
  relevant: Q sequences of the indices of relevant candidates; one without any
    is not shown.
  top: index of a query -> indices of its first candidates, best first.
  show: index of a candidate -> Shown.
  score: (query, indices of candidates) -> their scores; None = not known.
  """
  ranks: np.ndarray
  relevant: Sequence[Sequence[int]]
  top: Callable[[int], Sequence[int]]
  show: Callable[[int], Shown]
  score: Callable[[int, list[int]], ArrayLike] | None = None

  @classmethod
  def of_scores(cls, scores: np.ndarray, relevant: Sequence[Sequence[int]],
                show: Callable[[int], Shown]) -> Self:
    """From scores [Q, C], higher is better; ties count against the row."""
    def top(query):
      return metrics.top(scores[query], relevant[query], SHOWN_CANDIDATES)
    return cls(metrics.ranks(scores, relevant), relevant, top, show,
               lambda query, indices: scores[query][indices])

  def ranked(self, query: int) -> Ranked:
    """Ranked of one query."""
    first = [int(index) for index in self.top(query)[:SHOWN_CANDIDATES]]
    scores = () if self.score is None or not first else np.asarray(
        self.score(query, first), np.float64).tolist()
    return Ranked(int(self.ranks[query]), tuple(map(self.show, first)),
                  tuple(np.isin(first, self.relevant[query]).tolist()),
                  tuple(scores))


def gallery_queries(
    direction: str, show_query: Callable[[int], Shown],
    rows: Mapping[str, Row], n_missed: int = 6, n_found: int = 6
    ) -> list[GalleryQuery]:
  """GalleryQuery of some queries of one direction or task, misses first.

  show_query: index of a query -> Shown. rows: {row: Row} of the same queries,
  in the order to show; the last one is the main row.
  """
  main = list(rows.values())[-1]
  chosen = choose_queries(
      {name: row.ranks for name, row in rows.items()}, n_missed, n_found)
  return [
      GalleryQuery(direction, show_query(query),
                   main.show(int(main.relevant[query][0])),
                   {name: row.ranked(query) for name, row in rows.items()})
      for query in chosen if len(main.relevant[query])]


def choose_queries(ranks: Mapping[str, ArrayLike], n_missed: int = 6,
                   n_found: int = 6) -> list[int]:
  """Indices of queries for the gallery: misses first, then hits.

  ranks: {row: int [Q]}, 1-based; the last one is the main row. Of the hits
  those come first that most rows miss, since they show what the main row adds;
  misses are spread evenly over how bad they are. Returns a list of at most
  n_missed + n_found indices.
  """
  main = np.asarray(list(ranks.values())[-1])
  missed = np.flatnonzero(main > 1)
  missed = missed[np.argsort(main[missed], kind='stable')]
  spread = np.linspace(0, len(missed) - 1, min(n_missed, len(missed)))
  found = np.flatnonzero(main == 1)
  n_rows_missing = np.sum([np.asarray(r) > 1 for r in ranks.values()], 0)
  found = found[np.argsort(-n_rows_missing[found], kind='stable')][:n_found]
  return [*missed[spread.astype(int)].tolist(), *found.tolist()]


def grouped(gallery: Sequence[GalleryQuery], directions: Sequence[str]
            ) -> list[tuple[str, list[tuple[str, list[GalleryQuery]]]]]:
  """[(direction, [(heading, queries)])] with the misses before the hits."""
  groups = []
  for direction in directions:
    of_direction = [q for q in gallery if q.direction == direction]
    halves = [('Missed', [q for q in of_direction if q.missed]),
              ('Found', [q for q in of_direction if not q.missed])]
    if of_direction:
      groups.append((direction, [(h, q) for h, q in halves if q]))
  return groups


def naming(gallery: Sequence[GalleryQuery]) -> Callable[[str], str]:
  """The words of a direction or size: 'text_to_video' -> 'text to video'.

  Where all media that are shown are images, they are not called videos.
  """
  media = [one for query in gallery for one in (query.query, query.truth)
           if one.frames is not None]
  images = bool(media) and all(one.is_image for one in media)
  def words(name):
    name = name.replace('_', ' ')
    return name.replace('video', 'image') if images else name
  return words


class Tiles:
  """Frames as JPEG data, each stored once in the page, named by a class."""

  def __init__(self) -> None:
    self._names: dict[tuple[str, int], str] = {}
    # (name, width, height, base64 JPEG)
    self.used: list[tuple[str, int, int, str]] = []

  def name(self, shown: Shown) -> str:
    """The CSS class that shows the frames of `shown`."""
    assert shown.frames is not None
    key = shown.id, hash(shown.frames.tobytes())
    if key not in self._names:
      self._names[key] = f'tile-{len(self._names)}'
      image = mosaic(shown.frames)
      self.used.append((self._names[key], *image.size, _jpeg(image)))
    return self._names[key]


def mosaic(frames: np.ndarray) -> 'Image.Image':
  """Up to four of frames [F, H, W, 3], two by two, as one PIL image."""
  from PIL import Image
  n_frames = min(4, len(frames))
  chosen = np.linspace(0, len(frames) - 1, n_frames).round().astype(int)
  n_columns = 1 if n_frames == 1 else 2
  n_rows = -(-n_frames // n_columns)
  height, width = frames.shape[1:3]
  scale = TILE_PX / n_columns / max(height, width)
  size = max(1, round(width * scale)), max(1, round(height * scale))
  gap = 2
  canvas = Image.new('RGB', (size[0] * n_columns + gap * (n_columns - 1),
                             size[1] * n_rows + gap * (n_rows - 1)), 'white')
  for i, index in enumerate(chosen):
    row, column = divmod(i, n_columns)
    frame = Image.fromarray(frames[index]).resize(
        size, Image.Resampling.BICUBIC)
    canvas.paste(frame, (column * (size[0] + gap), row * (size[1] + gap)))
  return canvas


def _jpeg(image):
  buffer = io.BytesIO()
  image.save(buffer, 'JPEG', quality=82)
  return base64.b64encode(buffer.getvalue()).decode('ascii')
