"""What is seen of an item: its images and videos to frames, sampled.

Files, bytes, PIL images and pixels give the same frames; a list of stills is
one video. What cannot be read is a MediaError with its reason.
"""
import concurrent.futures
import os
import threading

import numpy as np

from jaxret.data import clips, images, sources, videos
from jaxret.data.images import read as read_image
from jaxret.data.sources import MediaError
from jaxret.data.videos import VideoInfo

# Of what pixels a file gives. Stored embeddings, features, descriptions and
# answers of the first one know no edit list, mirrored picture, 16-bit image,
# orientation of an image in memory, or white behind transparent pixels; those
# of the second saw rubbish behind a seek in lossless 4:4:4 video of old x264.
READING = 3


def sample_frames(source, choose, alpha='white'):
  """Reads the frames that `choose(n_frames, fps)` names -> list [H, W, 3].

  source: a path or encoded bytes of a video, an animation or a still, a
  clips.Clip of one, or a list of stills, which are its frames; they state no
  rate, fps is None then.
  alpha: what becomes of transparent pixels, as images.shown has it.
  """
  if isinstance(source, (tuple, list)):
    return _listed(source, choose(len(source), None), alpha)
  if not _is_image(source):
    return videos.sample(source, choose, alpha)
  if isinstance(source, clips.Clip):
    source, choose = source.source, source.within(choose, clips.Even)
  return images.sample(source, choose, alpha)


def probe(source):
  """What a video (a path or encoded bytes, or a clips.Clip) holds -> VideoInfo.

  A first frame is decoded; one without a usable frame is a MediaError.
  """
  if not _is_image(source):
    return videos.probe(source)
  clip = source if isinstance(source, clips.Clip) else None
  n_frames, fps, (height, width) = images.probe(clip.source if clip else source)
  if clip:
    first, stop = clip.span(clips.Even(n_frames, fps))
    n_frames = stop - first
  return VideoInfo(n_frames, fps, width, height, n_frames / fps, 0)


def as_videos(given, name):
  """The videos that a `video` of an Item stands for, a tuple.

  One: a path, bytes, a clips.Clip or pixels [F, H, W, 3]. A list of stills
  (images, PIL images, pixels [H, W, 3], mixed as one likes) is one video, a
  tuple of its frames; a list of lists and videos is several. Errors: MediaError
  `name` for a list of both.
  """
  if not isinstance(given, (tuple, list)):
    return (given,)
  given = tuple(one for one in given if one is not None)
  stills = [not isinstance(one, (tuple, list)) and images.is_still(one)
            for one in given]
  if given and all(stills):
    return (given,)
  if any(stills):
    other = given[stills.index(False)]
    if isinstance(other, (str, os.PathLike)) and not (
        os.path.exists(path := sources.located(other))
        or sources.is_file(path)):
      raise MediaError(name, f'its frame {os.fspath(other)}: no such file')
    raise MediaError(
        name, f'its list of videos has an image (entry {stills.index(True)}) '
        f'and what is none (entry {stills.index(False)}); give each video its '
        'own list of frames')
  return tuple(tuple(one) if isinstance(one, list) else one for one in given)


def size_of(frame, name):
  """(height, width) of a still as shown, from its header; MediaError.

  name: what a message calls one that has none.
  """
  if isinstance(frame, np.ndarray):
    return frame.shape[:2]
  if images.is_pil(frame):
    return images.size_of_pil(frame, name)
  return read_image(frame, size_only=True)


def frame_sizes(frames, indices):
  """The one (height, width) of the chosen frames of a list; MediaError."""
  sizes = {}
  for i in dict.fromkeys(map(int, indices)):
    sizes.setdefault(size_of(frames[i], f'its frame {i}'), i)
  _check_sizes(sizes)
  return next(iter(sizes))


def _check_sizes(sizes):
  if len(sizes) > 1:
    (one, i), (other, k) = list(sizes.items())[:2]
    raise MediaError('a list of frames', 'they are of two sizes, '
                     f'{one[1]}x{one[0]} (frame {i}) and {other[1]}x{other[0]} '
                     f'(frame {k}); give frames of one size')


def _listed(frames, indices, alpha):
  found, sizes = {}, {}
  for i in map(int, indices):
    if i not in found:
      try:
        found[i] = read_still(frames[i], 'a PIL image', alpha)
      except MediaError as error:
        raise MediaError('a list of frames',
                         f'frame {i}, {error}') from error
      sizes.setdefault(found[i].shape[:2], i)
  _check_sizes(sizes)
  return [found[int(i)] for i in indices]


def read_still(source, name, alpha='white'):
  """A still of any kind -> uint8 [H, W, 3]; MediaError.

  source: a path, encoded bytes, a PIL image, or such pixels; name: what a
  message calls one that has none.
  """
  if isinstance(source, (str, bytes, os.PathLike)):
    return read_image(source, alpha=alpha)
  if images.is_pil(source):
    return images.of_pil(source, name, alpha)
  if (not isinstance(source, np.ndarray) or source.dtype != np.uint8
      or source.ndim != 3 or source.shape[-1] != 3 or not source.size):
    got = (f'{source.dtype} {source.shape}' if isinstance(source, np.ndarray)
           else type(source).__name__)
    raise MediaError(name, f'got {got}; want a path, encoded bytes, a PIL '
                     'image, or uint8 pixels [H, W, 3]')
  return source


def _is_image(source):
  """Whether a source that stands for a video is an image or an animation."""
  source = source.source if isinstance(source, clips.Clip) else source
  form = images.form_of(sources.head(source))
  return form is not None and (form != 'JPEG' or videos.is_still(source))


def frame_indices(n_frames, n_samples, fps=None, limit_s=None):
  """The frames that are looked at, evenly spread -> int64 [n_samples].

  The authors' sampling (extract.py): linspace from 0 to n_frames - 2, cut to
  integers. Short videos repeat frames. With `limit_s` (DiDeMo: 30 s) a longer
  video, its duration being n_frames / fps, is sampled within that time only.
  """
  if n_frames < 1 or n_samples < 1:
    raise ValueError(f'{n_samples} samples of {n_frames} frames: want at least '
                     'one of each')
  if limit_s is not None:
    if not fps:
      raise ValueError(f'limit_s needs the frame rate, got fps={fps}')
    if n_frames / fps > limit_s:
      n_frames = limit_s * fps
  # One frame would give -1 there, which the authors read as the last frame.
  return np.linspace(0, max(n_frames - 2, 0), n_samples, dtype=np.int64)


def resize(frames, image_px):
  """uint8 [F, H, W, 3] -> [F, image_px, image_px, 3], PIL's bicubic.

  Straight to the square, aspect ratio not kept, as the authors do.
  """
  from PIL import Image
  return np.stack([
      np.asarray(Image.fromarray(frame).resize(
          (image_px, image_px), Image.Resampling.BICUBIC))
      for frame in frames])


def load_frames(item, n_frames, image_px, limit_s=None, alpha='white'):
  """The sampled frames of an item -> uint8 [n_frames, image_px, image_px, 3].

  A video gives evenly spread frames (see frame_indices), a still image gives
  its one frame repeated. alpha: of transparent pixels, as images.shown has it.
  Errors: MediaError that names the item, whatever is wrong with it.
  """
  if item.video is None and item.image is None:
    raise MediaError(item.id, 'neither a video nor an image')

  def choose(count, fps):
    if limit_s is not None and not fps:
      raise MediaError(item.id, 'it does not state its frame rate, which the '
                       f'limit of {limit_s} s needs')
    return frame_indices(count, n_frames, fps, limit_s)

  try:
    with sources.blamed(item.id, 'cannot be read'):
      if item.video is None:
        image = read_still(item.image, 'its image', alpha)
        return np.repeat(resize([image], image_px), n_frames, axis=0)
      source, *more = as_videos(item.video, item.id)
      if more:
        raise MediaError(item.id, f'it has {1 + len(more)} videos, want one')
      if isinstance(source, np.ndarray):
        return resize(source[choose(len(source), None)], image_px)
      return resize(sample_frames(source, choose, alpha), image_px)
  except MediaError as error:
    raise MediaError(item.id, error.reason) from error


class Frames:
  """The frames of many videos, `frames[i]` -> uint8 [F, px, px, 3] (Visuals).

  Decoded at first use, kept in memory up to `cache_bytes`; any number of
  threads may read at once. A bad video raises its MediaError when asked for.
  videos: sequence of Items, read one by one: a store of many files may be
  larger than the memory. alpha: of transparent pixels, as images.shown has it.
  """

  def __init__(self, videos, n_frames, image_px, limit_s=None,
               cache_bytes=2 << 30, alpha='white'):
    self.videos, self.alpha = videos, images.check_alpha(alpha)
    self.n_frames, self.image_px, self.limit_s = n_frames, image_px, limit_s
    self._cache, self._lock = {}, threading.Lock()
    clip_bytes = n_frames * image_px * image_px * 3
    self._cache_clips = cache_bytes // clip_bytes

  def __len__(self):
    return len(self.videos)

  def __getitem__(self, index):
    index = range(len(self))[index]
    frames = self._cache.get(index)
    if frames is None:
      frames = load_frames(self.videos[index], self.n_frames, self.image_px,
                           self.limit_s, self.alpha)
      frames.flags.writeable = False
      with self._lock:
        if len(self._cache) < self._cache_clips:
          self._cache[index] = frames
    return frames

  def scan(self, indices=None, progress=True, n_threads=None):
    """Reads videos once -> {index: why it cannot be used}, bad ones only.

    indices: which to read, default all. Fills the cache as far as it reaches.
    """
    indices = range(len(self)) if indices is None else indices
    return scan(self.__getitem__, indices, progress, n_threads)


def scan(read, indices, progress=True, n_threads=None):
  """{index: why it cannot be used} of what raises a MediaError when read.

  read: (index) -> anything, called once for each by many threads.
  """
  from tqdm import tqdm

  def reason(index):
    try:
      read(index)
    except MediaError as error:
      return error.reason
    return None

  n_threads = n_threads or os.cpu_count() or 1
  with concurrent.futures.ThreadPoolExecutor(n_threads) as pool:
    reasons = list(tqdm(pool.map(reason, indices), 'decoding', len(indices),
                        unit='file', disable=not progress))
  return {int(i): r for i, r in zip(indices, reasons) if r is not None}
