"""A part of a video, which stands wherever a video does."""
import bisect
import dataclasses
import os


@dataclasses.dataclass(frozen=True)
class Clip:
  """What a video shows from `start_s` to before `end_s`.

  source: its path or encoded bytes. Frame i of a Clip is the i-th of these; one
  at least, so that a Clip between two frames shows the one before it.
  Errors: ValueError for times that are no such span.
  """
  source: str | bytes | os.PathLike
  start_s: float
  end_s: float

  def __post_init__(self) -> None:
    if not 0 <= self.start_s < self.end_s:
      raise ValueError(f'a clip from {self.start_s} to {self.end_s} s; want 0 '
                       'at least, and an end behind the start')

  def span(self, times_s):
    """(first, stop) of the frames that are shown at `times_s`, ascending.

    times_s: a sequence of the seconds since the first frame.
    """
    # What was rounded to a millisecond is of the frame that it was made of.
    first, stop = (bisect.bisect_left(times_s, t - 1e-3)
                   for t in (self.start_s, self.end_s))
    first = max(0, min(first, len(times_s) - 1))
    if first < stop or not times_s:
      return first, stop
    first = max(0, stop - 1)
    return first, first + 1

  def within(self, choose, times_of):
    """The frames that `choose` names of the Clip, as those of the video.

    choose: as media.sample_frames has it. times_of: (n_frames, fps) -> times_s.
    """
    def chosen(n_frames, fps):
      first, stop = self.span(times_of(n_frames, fps))
      return [first + int(i) for i in choose(stop - first, fps)]
    return chosen


class Even:
  """The times of frames that are shown at an even rate, as a sequence."""

  def __init__(self, n_frames, fps):
    self._n_frames, self._fps = n_frames, fps or 25.0

  def __len__(self):
    return self._n_frames

  def __getitem__(self, index):
    return index / self._fps
