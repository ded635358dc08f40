"""Videos and still images to frames: exact frames, authors' sampling.

Frame i of a video is the i-th in order of presentation, also where the frame
rate varies. The time stamps come from the packets; a frame is reached from
its keyframe by decoding until the time stamps match. Rotation metadata is
applied. A medium that cannot be decoded is a MediaError with its reason.
"""
import bisect
import collections
import concurrent.futures
import dataclasses
import io
import itertools
import os
import threading

import numpy as np


class MediaError(ValueError):
  """A medium that cannot be read: which one, and why, in one line."""

  def __init__(self, name, reason):
    self.name = name
    self.reason = ' '.join(str(reason).split())
    super().__init__(f'{name}: {self.reason}')


@dataclasses.dataclass(frozen=True)
class VideoInfo:
  """What a video holds. Width and height are as shown, after rotation.

  rotation is in degrees counter-clockwise; fps is the average over the file.
  """
  n_frames: int
  fps: float
  width: int
  height: int
  duration_s: float
  rotation: int


@dataclasses.dataclass(frozen=True)
class _Index:
  """Time stamps of all frames and of keyframes, ascending.

  pts is None where time stamps cannot be trusted: frames are then counted.
  """
  n_frames: int
  fps: float
  pts: list | None
  key_pts: list


class _UntrustedTimestamps(Exception):
  """Decoded frames contradict the time stamps of the packets."""


def _name(source, kind='video'):
  return f'{kind} bytes' if isinstance(source, bytes) else os.fspath(source)


def _open(source):
  """Opens a path or encoded bytes -> (container, its first video stream)."""
  import av
  av.logging.set_level(av.logging.PANIC)
  name = _name(source)
  if isinstance(source, bytes):
    size, file = len(source), io.BytesIO(source)
  elif not os.path.isfile(source):
    raise MediaError(name, 'a directory, not a file' if os.path.isdir(source)
                     else 'no such file')
  else:
    size, file = os.path.getsize(source), name
  if not size:
    raise MediaError(name, 'the file is empty')
  try:
    container = av.open(file)
  except (av.FFmpegError, ValueError) as error:
    raise MediaError(name, f'not a readable video ({_cause(error)})') from None
  # A cover picture of an audio file counts as a video stream for FFmpeg.
  streams = [s for s in container.streams.video
             if not s.disposition & s.disposition.attached_pic]
  if not streams or streams[0].codec_context is None:
    container.close()
    reason = 'its codec is unknown' if streams else 'no video stream'
    raise MediaError(name, reason)
  streams[0].codec_context.thread_count = 1  # threads work on whole files
  return container, streams[0]


def _cause(error):
  """FFmpeg's own words for an error, without its numbers and functions."""
  return getattr(error, 'strerror', None) or str(error)


def _demux_index(source):
  """The index of a video from its packets alone, nothing decoded."""
  import av
  container, stream = _open(source)
  with container:
    try:
      packets = [(p.pts, p.is_keyframe, p.is_discard)
                 for p in container.demux(stream) if p.size]
    except av.FFmpegError as error:
      raise MediaError(_name(source),
                       f'cannot be read to its end ({_cause(error)})') from None
    if 'mov' in container.format.name and len(packets) < stream.frames:
      if not any(discard for _, _, discard in packets):  # no edit list
        raise MediaError(_name(source), f'truncated: it holds {len(packets)} '
                         f'of {stream.frames} frames')
    packets = _from_first_keyframe(packets) if packets else []
    pts = [p for p, _, discard in packets if not discard]
    fps = float(stream.average_rate or stream.guessed_rate or 0)
    # AVI stores no presentation times: FFmpeg's are guesses.
    trusted = (container.format.name != 'avi' and len(set(pts)) == len(pts)
               and all(p is not None for p, _, _ in packets))
  if not pts:
    raise MediaError(_name(source), 'no frame in its video stream')
  keys = sorted(p for p, key, _ in packets if key) if trusted else []
  return _Index(len(pts), fps, sorted(pts) if trusted else None, keys)


def _from_first_keyframe(packets):
  """Drops what cannot be decoded at the start of a cut-out broadcast."""
  first = next((i for i, p in enumerate(packets) if p[1]), 0)
  start = packets[first][0]
  return [p for p in packets[first:]
          if start is None or p[0] is None or p[0] >= start or p[2]]


def _count_index(source, fps):
  """The index of a video whose time stamps lie: decodes all, counts frames."""
  import av
  container, stream = _open(source)
  with container:
    try:
      n_frames = sum(1 for _ in container.decode(stream))
    except av.FFmpegError as error:
      raise MediaError(_name(source),
                       f'decoding failed ({_cause(error)})') from None
  if not n_frames:
    raise MediaError(_name(source), 'no frame could be decoded')
  return _Index(n_frames, fps, None, [])


def _walk(container, stream, index, wanted):
  """Yields (i, frame) for i in `wanted`, which ascends; seeks to keyframes."""
  if index.pts is None:
    frames = itertools.islice(container.decode(stream), wanted[-1] + 1)
    remaining = set(wanted)
    yield from ((i, f) for i, f in enumerate(frames) if i in remaining)
    return
  wanted = collections.deque(wanted)
  while wanted:
    target = index.pts[wanted[0]]
    k = bisect.bisect_right(index.key_pts, target)
    if k > 1:  # the first keyframe is where a fresh container stands
      container.seek(index.key_pts[k - 1], stream=stream)
    previous = None
    for frame in container.decode(stream):
      late = frame.pts is None or frame.pts > index.pts[wanted[0]]
      if late or (previous is not None and frame.pts <= previous):
        raise _UntrustedTimestamps
      previous = frame.pts
      if frame.pts == index.pts[wanted[0]]:
        yield wanted.popleft(), frame
        # Only here, so that every seek brings at least one wanted frame.
        if not wanted or _next_keyframe_is_nearer(index, previous, wanted[0]):
          break
    else:
      return


def _next_keyframe_is_nearer(index, at_pts, i):
  keys = index.key_pts
  return (bisect.bisect_right(keys, index.pts[i]) >
          bisect.bisect_right(keys, at_pts))


def _to_rgb(frame, reformatter):
  """A decoded frame as shown -> uint8 [H, W, 3]."""
  rgb = reformatter.reformat(frame, format='rgb24', threads=1).to_ndarray()
  return np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90)))


def _decode(source, index, indices):
  """Frames at `indices` (any order, repeats allowed) -> list of [H, W, 3]."""
  import av
  from av.video.reformatter import VideoReformatter
  wanted = sorted({int(i) for i in indices})
  if not wanted or wanted[0] < 0 or wanted[-1] >= index.n_frames:
    raise ValueError(f'{_name(source)}: frames {wanted[:1]}..{wanted[-1:]} '
                     f'asked of {index.n_frames}, want 0 <= index < n_frames')
  container, stream = _open(source)
  found, reformatter = {}, VideoReformatter()
  with container:
    try:
      for i, frame in _walk(container, stream, index, wanted):
        found[i] = _to_rgb(frame, reformatter)
    except (av.FFmpegError, ValueError) as error:
      after = max(found) if found else 0
      raise MediaError(_name(source), f'decoding failed after frame {after} of '
                       f'{index.n_frames} ({_cause(error)})') from None
  missing = [i for i in wanted if i not in found]
  if missing and index.pts is not None:
    raise _UntrustedTimestamps
  if missing:
    raise MediaError(_name(source), f'frame {missing[0]} of {index.n_frames} '
                     'could not be decoded')
  return [found[int(i)] for i in indices]


def sample_frames(source, choose):
  """Reads the frames that `choose(n_frames, fps)` names -> list [H, W, 3]."""
  index = _demux_index(source)
  try:
    return _decode(source, index, choose(index.n_frames, index.fps))
  except _UntrustedTimestamps:
    index = _count_index(source, index.fps)
    return _decode(source, index, choose(index.n_frames, index.fps))


def probe(source):
  """What a video (a path or encoded bytes) holds -> VideoInfo.

  Counts packets and decodes the first frame; a video without a usable frame
  is a MediaError.
  """
  import av
  index = _demux_index(source)
  container, stream = _open(source)
  with container:
    try:
      frame = next(container.decode(stream), None)
    except av.FFmpegError as error:
      raise MediaError(_name(source),
                       f'decoding failed ({_cause(error)})') from None
    if frame is None:
      raise MediaError(_name(source), 'no frame could be decoded')
    size = frame.width, frame.height
    turned = round(frame.rotation / 90) % 2
    duration_s = index.n_frames / index.fps if index.fps else 0.0
    return VideoInfo(index.n_frames, index.fps, size[turned], size[1 - turned],
                     duration_s, int(frame.rotation))


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


def read_image(source, size_only=False):
  """A still image (a path or encoded bytes) as shown -> uint8 [H, W, 3].

  size_only: its (height, width) instead, from the header.
  """
  from PIL import Image, ImageOps
  name = _name(source, 'image')
  try:
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    with Image.open(file) as image:
      if size_only:  # the size of the file; orientations from 5 lie on a side
        return image.size[::1 if image.getexif().get(0x0112, 1) > 4 else -1]
      return np.array(ImageOps.exif_transpose(image).convert('RGB'))
  except FileNotFoundError:
    raise MediaError(name, 'no such file') from None
  except (OSError, ValueError, SyntaxError,
          Image.DecompressionBombError) as error:
    reason = str(error).partition(' <')[0]  # PIL shows where bytes lie
    raise MediaError(name, f'not a readable image ({reason})') from None


def load_frames(item, n_frames, image_px, limit_s=None):
  """The sampled frames of an item -> uint8 [n_frames, image_px, image_px, 3].

  A video gives evenly spread frames (see frame_indices), a still image gives
  its one frame repeated. Errors: MediaError that names the item.
  """
  if item.video is None and item.image is None:
    raise MediaError(item.id, 'neither a video nor an image')

  def choose(count, fps):
    if limit_s is not None and not fps:
      raise MediaError(item.id, 'it does not state its frame rate, which the '
                       f'limit of {limit_s} s needs')
    return frame_indices(count, n_frames, fps, limit_s)

  try:
    if item.video is None:
      frame = resize([read_image(item.image)], image_px)
      return np.repeat(frame, n_frames, axis=0)
    frames = sample_frames(item.video, choose)
  except MediaError as error:
    raise MediaError(item.id, error.reason) from None
  return resize(frames, image_px)


class Frames:
  """The frames of many videos, `frames[i]` -> uint8 [F, px, px, 3] (Visuals).

  Decoded at first use, kept in memory up to `cache_bytes`; any number of
  threads may read at once. A bad video raises its MediaError when asked for.
  videos: sequence of Items, read one by one: a store of many files may be
  larger than the memory.
  """

  def __init__(self, videos, n_frames, image_px, limit_s=None,
               cache_bytes=2 << 30):
    self.videos = videos
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
                           self.limit_s)
      frames.flags.writeable = False
      with self._lock:
        if len(self._cache) < self._cache_clips:
          self._cache[index] = frames
    return frames

  def scan(self, indices=None, progress=True, n_threads=None):
    """Reads videos once -> {index: why it cannot be used}, bad ones only.

    indices: which to read, default all. Fills the cache as far as it reaches.
    """
    from tqdm import tqdm

    def reason(index):
      try:
        self[index]
      except MediaError as error:
        return error.reason
      return None

    indices = range(len(self)) if indices is None else indices
    n_threads = n_threads or os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(n_threads) as pool:
      reasons = list(tqdm(pool.map(reason, indices), 'decoding', len(indices),
                          unit='file', disable=not progress))
    return {int(i): r for i, r in zip(indices, reasons) if r is not None}
