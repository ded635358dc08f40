"""What travels from sources to methods: items, splits and retrieval tasks."""
import dataclasses
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Item:
  """One thing that can be a query or a candidate.

  A medium (`image`, `video`) is a path or the encoded bytes; where a method
  can read them also pixels, uint8 [H, W, 3] or [F, H, W, 3], or a tuple of
  several media. An item carries one modality or a mixture; `id` is unique
  within its collection. `order` is that of its modalities, where the prompt
  names them.
  """
  id: str
  text: str | None = None
  image: str | bytes | np.ndarray | tuple | None = None
  video: str | bytes | np.ndarray | tuple | None = None
  order: tuple[str, ...] = ('text', 'image', 'video')


@dataclasses.dataclass(frozen=True)
class Task:
  """Queries, candidates and which candidates are relevant to which query.

  `relevant[q]` is an int32 array of candidate indices, at least one long.
  """
  name: str
  queries: tuple[Item, ...]
  candidates: tuple[Item, ...]
  relevant: tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Split:
  """One split of a video-text data set.

  videos: unique media, in order of first appearance in the source.
  texts: one entry per caption, in the order of the source.
  text_video: int32 [T], the index of the video that each text describes.
  """
  dataset: str
  name: str
  videos: tuple[Item, ...]
  texts: tuple[Item, ...]
  text_video: np.ndarray

  def without(self, video_ids):
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

  def text_to_video(self):
    relevant = tuple(np.array([v], np.int32) for v in self.text_video)
    return Task('text_to_video', self.texts, self.videos, relevant)

  def video_to_text(self):
    order = np.argsort(self.text_video, kind='stable').astype(np.int32)
    ends = np.cumsum(np.bincount(self.text_video, minlength=len(self.videos)))
    relevant = tuple(np.split(order, ends[:-1]))
    return Task('video_to_text', self.videos, self.texts, relevant)


class Visuals(Protocol):
  """Random access to what the model sees of each video, `videos[i]` -> [i].

  Frames are uint8 [F, H, W, 3]; features float16 [clips, tokens, width].
  """

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> np.ndarray: ...
