"""What an item shows: its media, their frames, sizes and times.

Everything here names the item in its errors: MediaError for a medium that
cannot be read, else ValueError.
"""
import contextlib
import os
from typing import NamedTuple

import numpy as np

from jaxret.data import clips, images, media, sources
from jaxret.data.qwen2_vl import pixels as qwen2_vl

MODALITIES = ('text', 'image', 'video')
KINDS = ('image', 'video')
FRAMES_PER_S = 2.0  # of a list of frames, as the authors' code takes them


class Sampled(NamedTuple):
  """Which of a video's frames are looked at.

  indices: int64. n_frames: how many it has. fps: how many a second, None where
  nothing says it.
  """
  indices: np.ndarray
  n_frames: int
  fps: float | None

  @property
  def rate(self):
    """Frames per second of those that are looked at."""
    return len(self.indices) / self.n_frames * (self.fps or FRAMES_PER_S)


def media_of(item):
  """(kinds, sources) of an item's media, images first."""
  if all(getattr(item, modality) is None for modality in MODALITIES):
    raise ValueError(f'{item.id}: it has no text, image or video; give it one')
  if item.text is not None and not isinstance(item.text, str):
    raise ValueError(f'{item.id}: its text is {type(item.text).__name__}; '
                     'want a string')
  kinds, found = [], []
  for kind in KINDS:
    value = getattr(item, kind)
    several = value if isinstance(value, (tuple, list)) else (value,)
    if kind == 'video':
      several = media.as_videos(value, item.id)
    several = [one for one in several if one is not None]
    if value is not None and not several:
      raise ValueError(f'{item.id}: its list of {kind}s is empty; give it one '
                       'or leave it out')
    kinds += [kind] * len(several)
    found += several
  return tuple(kinds), found


def _check(name, kind, source):
  """Raises for what is no path, bytes, PIL image, frames, or uint8 pixels."""
  if isinstance(source, (str, bytes, os.PathLike)) or (
      images.is_pil(source) if kind == 'image'
      else isinstance(source, (tuple, clips.Clip))):
    return
  rank = 3 if kind == 'image' else 4
  if (not isinstance(source, np.ndarray) or source.dtype != np.uint8
      or source.ndim != rank or source.shape[-1] != 3 or not source.size):
    got = (f'{source.dtype} {source.shape}' if isinstance(source, np.ndarray)
           else type(source).__name__)
    raise ValueError(
        f'{name}: its {kind} is {got}; want a path, encoded bytes, or uint8 '
        f'pixels {"[H, W, 3]" if rank == 3 else "[frames, H, W, 3]"}')


def frames(name, kind, source, resolution, alpha):
  """(frames at their final size, uint8 [F, H, W, 3]; their Sampled, if any).
  """
  _check(name, kind, source)
  found = None
  def choose(n_frames, fps):
    nonlocal found
    indices = (resolution.choose_listed(n_frames)
               if isinstance(source, tuple)
               else resolution.choose_frames(n_frames, fps))
    found = Sampled(indices, n_frames, fps)
    return indices
  with _blamed(name, kind):
    if kind == 'image':
      shown = [media.read_still(source, 'a PIL image', alpha)]
    elif isinstance(source, np.ndarray):
      found = Sampled(
          resolution.choose_listed(len(source)), len(source), None)
      shown = source[found.indices]
    else:
      shown = media.sample_frames(source, choose, alpha)
    listed = isinstance(source, (np.ndarray, tuple))
    return resolution.resize(kind, shown, listed), found


@contextlib.contextmanager
def _blamed(name, kind):
  """Whatever is raised inside becomes the MediaError of the item `name`."""
  try:
    yield
  except media.MediaError as error:
    raise media.MediaError(
        name, f'its {kind} cannot be read: {error}') from error
  except ValueError as error:
    raise media.MediaError(name, f'its {kind} has {error}') from error
  except Exception as error:
    raise media.MediaError(
        name, f'its {kind} cannot be used ({sources.cause(error)})') from error


def grid(name, kind, source, resolution, patch_px=qwen2_vl.PATCH_PX):
  """(the grid, the Sampled) that `frames` will give, from headers alone."""
  _check(name, kind, source)
  with _blamed(name, kind):
    sampled, size = _header(kind, source, resolution)
    n_frames = 1 if sampled is None else len(sampled.indices)
    listed = isinstance(source, (np.ndarray, tuple))
    sizes = resolution.sizes(kind, *size, n_frames, listed)
    return qwen2_vl.grid_of(n_frames, *sizes[-1], patch_px), sampled


def _header(kind, source, resolution):
  """(the Sampled of a video or None, (height, width)) of a medium."""
  if kind == 'image':
    return None, media.size_of(source, 'a PIL image')
  if isinstance(source, (np.ndarray, tuple)):
    chosen = resolution.choose_listed(len(source))
    return Sampled(chosen, len(source), None), (
        source.shape[1:3] if isinstance(source, np.ndarray)
        else media.frame_sizes(source, chosen))
  info = media.probe(source)
  chosen = resolution.choose_frames(info.n_frames, info.fps)
  return Sampled(chosen, info.n_frames, info.fps), (info.height, info.width)
