"""Videos to frames by FFmpeg: exact frames, as a player shows them.

Frame i of a video is the i-th in order of presentation, also where the frame
rate varies; what an edit list cuts away is none. The time stamps come from the
packets; a frame is reached from its keyframe by decoding until the time stamps
match. The display matrix is applied. A video that cannot be decoded is a
MediaError with its reason.
"""
import bisect
import collections
import contextlib
import dataclasses
import functools
import io
import itertools
import math
import os

import numpy as np

from jaxret.data import clips, sources
from jaxret.data.sources import MediaError

# What FFmpeg may open: no playlist and no list of files, which lead elsewhere.
CONTAINERS = (
    'mov,matroska,avi,flv,asf,mpegts,mpeg,mpegvideo,m4v,h264,hevc,vvc,av1,obu,'
    'ivf,ogg,nut,mjpeg,jpeg_pipe,dv,mxf,rm,gxf,wtv,swf,yuv4mpegpipe,vc1,nsv,'
    'flic,dirac,h263,h261,cavsvideo,avs2,avs3,amv,'
    # Sound alone, so that its message says so.
    'wav,w64,aiff,caf,mp3,aac,ac3,eac3,flac,amr')
STILL = 'jpeg_pipe'  # what FFmpeg calls one JPEG, where several are a video


@dataclasses.dataclass(frozen=True)
class VideoInfo:
  """What a video holds. Width and height are as shown, after rotation.

  rotation is in degrees counter-clockwise, of a picture that, if `mirrored`,
  is mirrored left to right before; fps is the average over the file.
  """
  n_frames: int
  fps: float
  width: int
  height: int
  duration_s: float
  rotation: int
  mirrored: bool = False


@dataclasses.dataclass(frozen=True)
class _Index:
  """Time stamps of all frames and of keyframes, ascending.

  pts is None where time stamps cannot be trusted: frames are then counted.
  tick_s: the unit of the time stamps.
  """
  n_frames: int
  fps: float
  pts: list | None
  key_pts: list
  tick_s: float = 0.0

  @functools.cached_property
  def times_s(self):
    """When each frame is shown, in seconds since the first."""
    if self.pts is None or not self.tick_s:
      return clips.Even(self.n_frames, self.fps)
    return [(pts - self.pts[0]) * self.tick_s for pts in self.pts]


class _UntrustedTimestamps(Exception):
  """Decoded frames contradict the time stamps of the packets."""


def _name(source):
  return sources.name_of(source, 'video')


@contextlib.contextmanager
def _opened(source):
  """Opens a path or encoded bytes -> (container, its first video stream)."""
  import av
  av.logging.set_level(av.logging.PANIC)
  source, name = sources.checked(source, 'video'), _name(source)
  file = io.BytesIO(source) if isinstance(source, bytes) else f'file:{source}'
  # FFmpeg itself decodes some frames to see what a stream is.
  limit = {'max_pixels': str(min(sources.most_pixels(), 2 ** 31 - 1))}
  with sources.blamed(name, 'not a readable video'):
    try:
      container = av.open(file, options={
          'format_whitelist': CONTAINERS, 'protocol_whitelist': 'file',
          **limit})
    except av.ArgumentError:
      raise MediaError(name, 'not a readable video (of no kind of file that '
                       'is opened: playlists and such are not)') from None
  with container:
    # A cover picture of an audio file counts as a video stream for FFmpeg.
    streams = [s for s in container.streams.video
               if not s.disposition & s.disposition.attached_pic]
    if not streams or streams[0].codec_context is None:
      raise MediaError(name, 'its codec is unknown' if streams
                       else 'no video stream')
    context = streams[0].codec_context
    if context.width * context.height:  # some say it with the first frame
      with sources.blamed(name, 'not a readable video'):
        sources.check_pixels(context.width, context.height)
    context.thread_count = 1  # threads work on whole files
    context.options = limit
    yield container, streams[0]


def is_still(source):
  """Whether a JPEG is one image, not the first of a video of many."""
  try:
    with _opened(source) as (container, _):
      return container.format.name == STILL
  except MediaError:
    return True


def _demux_index(source):
  """The index of a video from its packets alone, nothing decoded."""
  with _opened(source) as (container, stream):
    with sources.blamed(_name(source), 'cannot be read to its end'):
      packets = [(p.pts, p.is_keyframe, p.is_discard)
                 for p in container.demux(stream) if p.size]
      _check_all_there(source, container, stream, len(packets))
    packets = _from_first_keyframe(packets) if packets else []
    pts = [p for p, _, discard in packets if not discard]
    fps = float(stream.average_rate or stream.guessed_rate or 0)
    tick_s = float(stream.time_base or 0)
    profile = stream.codec_context.profile or ''
    # AVI stores no presentation times: FFmpeg's are guesses.
    trusted = (container.format.name != 'avi' and len(set(pts)) == len(pts)
               and all(p is not None for p, _, _ in packets))
  if not pts:
    raise MediaError(_name(source), 'no frame in its video stream')
  keys = sorted(p for p, key, _ in packets if key) if trusted else []
  if '4:4:4' in profile:
    # x264 wrote these otherwise before build 151, which the first packet alone
    # tells: from another keyframe on FFmpeg decodes rubbish.
    keys = keys[:1]
  return _Index(len(pts), fps, sorted(pts) if trusted else None, keys, tick_s)


def _check_all_there(source, container, stream, n_packets):
  """Raises for an MP4 whose index names packets that the file does not hold.

  The index is what the edit list leaves. The count in the header is of what
  was recorded, and says nothing of a clip that was trimmed. A recording in
  fragments, whose header has no frames, is what there is of it.
  """
  if 'mov' not in container.format.name or not stream.frames:
    return
  n_indexed = sum(1 for entry in stream.index_entries if entry.size)
  if n_packets < n_indexed:
    raise MediaError(_name(source), f'truncated: it holds {n_packets} of '
                     f'{n_indexed} frames')


def _from_first_keyframe(packets):
  """Drops what cannot be decoded at the start of a cut-out broadcast."""
  first = next((i for i, p in enumerate(packets) if p[1]), 0)
  start = packets[first][0]
  return [p for p in packets[first:]
          if start is None or p[0] is None or p[0] >= start or p[2]]


def _count_index(source, fps):
  """The index of a video whose time stamps lie: decodes all, counts frames."""
  with _opened(source) as (container, stream):
    with sources.blamed(_name(source), 'decoding failed'):
      n_frames = sum(1 for _ in container.decode(stream))
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


def _orientation(frame):
  """(rotation in degrees counter-clockwise, mirrored) of a decoded frame."""
  try:
    matrix = _side_data(frame)['DISPLAYMATRIX']
  except KeyError:
    return 0, False
  # x' = a x + c y, y' = b x + d y, in 16.16 fixed point.
  a, b, _, c, d = map(int, np.frombuffer(bytes(matrix), np.int32)[:5])
  mirrored = a * d < b * c
  if mirrored:
    a, b = -a, -b
  return round(-math.degrees(math.atan2(b, a))), mirrored


def _side_data(frame):
  """What is said of a frame besides its pixels."""
  try:
    return frame.side_data
  except ValueError:
    # PyAV has no name for some kinds that its FFmpeg gives, for EXIF and for
    # stereo videos say, and then refuses all of a frame's.
    from av.sidedata.sidedata import Type
    Type._missing_ = classmethod(_unnamed)
    return frame.side_data


def _unnamed(kinds, value):
  """A kind of side data that has no name, for Enum's hook `_missing_`."""
  kind = object.__new__(kinds)
  kind._name_, kind._value_ = f'UNNAMED_{value}', value
  return kind


def _to_rgb(frame, reformatter, alpha):
  """A decoded frame as shown -> uint8 [H, W, 3]."""
  form = 'rgb24'
  if alpha == 'white' and any(
      component.is_alpha for component in frame.format.components):
    form = 'rgba'
  rgb = reformatter.reformat(frame, format=form, threads=1).to_ndarray()
  if form == 'rgba':
    opacity = rgb[..., 3:].astype(np.uint16)
    rgb = ((rgb[..., :3] * opacity + 255 * (255 - opacity) + 127)
           // 255).astype(np.uint8)
  rotation, mirrored = _orientation(frame)
  rgb = rgb[:, ::-1] if mirrored else rgb
  return np.ascontiguousarray(np.rot90(rgb, round(rotation / 90)))


def _decode(source, index, indices, alpha):
  """Frames at `indices` (any order, repeats allowed) -> list of [H, W, 3]."""
  from av.video.reformatter import VideoReformatter
  wanted = sorted({int(i) for i in indices})
  if not wanted or wanted[0] < 0 or wanted[-1] >= index.n_frames:
    raise ValueError(f'{_name(source)}: frames {wanted[:1]}..{wanted[-1:]} '
                     f'asked of {index.n_frames}, want 0 <= index < n_frames')
  found, reformatter = {}, VideoReformatter()
  with _opened(source) as (container, stream):
    try:
      for i, frame in _walk(container, stream, index, wanted):
        found[i] = _to_rgb(frame, reformatter, alpha)
    except _UntrustedTimestamps:
      raise
    except Exception as error:
      after = max(found) if found else 0
      raise MediaError(
          _name(source), f'decoding failed after frame {after} of '
          f'{index.n_frames} ({sources.cause(error)})') from error
  missing = [i for i in wanted if i not in found]
  if missing and index.pts is not None:
    raise _UntrustedTimestamps
  if missing:
    raise MediaError(_name(source), f'frame {missing[0]} of {index.n_frames} '
                     'could not be decoded')
  return [found[int(i)] for i in indices]


def sample(source, choose, alpha='white'):
  """Reads the frames that `choose(n_frames, fps)` names -> list [H, W, 3].

  source: also a clips.Clip. alpha: what becomes of transparent pixels, as
  images.shown has it.
  """
  clip = source if isinstance(source, clips.Clip) else None
  source = clip.source if clip else source
  index = _index_of(source, clip)
  try:
    return _decode(source, index, _chosen(index, choose, clip), alpha)
  except _UntrustedTimestamps:
    index = _count_index(source, index.fps)
    return _decode(source, index, _chosen(index, choose, clip), alpha)


def _chosen(index, choose, clip):
  if clip:
    choose = clip.within(choose, lambda n_frames, fps: index.times_s)
  return choose(index.n_frames, index.fps)


def _index_of(source, clip):
  """The index of a video; of those that clips are cut from it is kept."""
  if clip is None or isinstance(source, bytes):
    return _demux_index(source)
  path = sources.checked(source, 'video')
  if isinstance(path, bytes):  # inside of a file
    return _demux_index(source)
  state = os.stat(path)
  return _kept_index(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _kept_index(path, size, mtime_ns):
  """The windows of a long video would each read all of its packets."""
  return _demux_index(path)


def probe(source):
  """What a video (a path or encoded bytes, or a clips.Clip) holds -> VideoInfo.

  Counts packets and decodes the first frame; a video without a usable frame
  is a MediaError.
  """
  clip = source if isinstance(source, clips.Clip) else None
  source = clip.source if clip else source
  index = _index_of(source, clip)
  with _opened(source) as (container, stream):
    with sources.blamed(_name(source), 'decoding failed'):
      frame = next(container.decode(stream), None)
    if frame is None:
      raise MediaError(_name(source), 'no frame could be decoded')
    size = frame.width, frame.height
    rotation, mirrored = _orientation(frame)
    turned = round(rotation / 90) % 2
    n_frames = index.n_frames
    if clip:
      first, stop = clip.span(index.times_s)
      n_frames = stop - first
    duration_s = n_frames / index.fps if index.fps else 0.0
    return VideoInfo(n_frames, index.fps, size[turned], size[1 - turned],
                     duration_s, rotation, mirrored)
