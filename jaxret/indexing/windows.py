"""Long videos are cut into windows, so that a hit is a file and a time."""
import math

LENGTH_S = 10.0  # of a window, where nobody says it


def cut(duration_s: float, window_s: float, stride_s: float
        ) -> list[tuple[float, float]]:
  """[(start, end)] in seconds of a video's windows; one, if it is short.

  All are `window_s` long and start at multiples of `stride_s`, but for the
  last: it ends where the video does, so that no moment is left out.
  """
  if duration_s <= window_s:
    return [(0.0, duration_s)]
  last = duration_s - window_s
  n_before = math.ceil(last / stride_s - 1e-6)
  starts = [i * stride_s for i in range(n_before)] + [last]
  return [(round(start, 3), round(start + window_s, 3)) for start in starts]


def check(window_s: float, stride_s: float) -> None:
  """Raises ValueError for windows that leave something out, or are none."""
  if not (math.isfinite(window_s) and window_s >= 0.1):
    raise ValueError(f'window is {window_s:g} s; want 0.1 at least')
  if not 0.1 <= stride_s <= window_s:
    raise ValueError(f'stride is {stride_s:g} s; want 0.1 to the window, '
                     f'{window_s:g}: a longer one leaves moments out')
