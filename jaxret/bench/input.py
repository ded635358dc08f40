"""How many images and videos a core of this host gets ready for a device.

  python -m jaxret.bench.input [--height=480] [--width=640] [--frames=16]
      [--processes=2] [--seconds=2]

A JPEG and an H.264 video of 10 s, of which `frames` are looked at, made here,
are read as each backbone reads them: decoded, resized, cut into patches. CPU
time of all threads counts, in one process; then `processes` of them read at
once, and so do as many threads of one, in turns, by the clock. Progress goes
to standard error, the last thing on standard output is one JSON object.
`*_per_s_per_core` are items; `process_scaling` and `thread_scaling` say what
several of them make of one alone.
"""
import concurrent.futures
import functools
import json
import multiprocessing
import os
import time

from jaxret import input_speed
from jaxret.bench import machine
from jaxret.data import media
from jaxret.data.llava import images as llava_images
from jaxret.data.qwen2_vl import pixels as qwen2_vl
from jaxret.data.qwen2_vl import seen

_COUNTS = (
    ('height', 480, 'pixels of a picture'),
    ('width', 640, 'pixels of a picture'),
    ('frames', 16, 'of a video, that are looked at'),
    ('processes', 2, 'that read at once'),
    ('seconds', 2, 'of each measurement'))
CLIP_PX, VIDEO_PX = 336, 224


def reads(px, frames):
  """{name: () -> what is ready for a device} of one medium each."""
  image = input_speed.medium(1, px)
  video = input_speed.medium(frames, px)
  policy = qwen2_vl.Resolution(n_frames=frames)
  return {
      'image qwen2_vl': functools.partial(_patches, image, policy),
      'video qwen2_vl': functools.partial(_patches, video, policy),
      f'image clip {CLIP_PX}': functools.partial(_squashed, image),
      f'video frames {VIDEO_PX}': functools.partial(
          media.load_frames, video, frames, VIDEO_PX)}


def measure(px, frames, processes, seconds):
  """The numbers that are printed, as a dict."""
  found, scaling = {}, {}
  for name, read in reads(px, frames).items():
    machine.log(f'reading: {name}')
    found[name] = 1 / input_speed.core_seconds(read, seconds)
    if name.startswith('video'):
      scaling[name] = _scaling(read, processes, seconds)
  return {
      'cores': len(os.sched_getaffinity(0)), 'px': list(px), 'frames': frames,
      'items_per_s_per_core': found, 'processes': processes, **{
          f'{kind}_scaling': {name: both[kind] for name, both in
                              scaling.items()}
          for kind in ('process', 'thread')}}


def _patches(item, policy):
  kind = 'image' if item.image is not None else 'video'
  frames, _ = seen.frames(item.id, kind, getattr(item, kind), policy, 'white')
  return qwen2_vl.patchify(frames, qwen2_vl.PATCH_PX)


def _squashed(item):
  return llava_images.squash(llava_images.read(item.image, item.id), CLIP_PX)


def _scaling(read, count, seconds):
  """{'process', 'thread': items per second of `count`, over those of one}."""
  alone = _per_second(read, seconds)
  context = multiprocessing.get_context('spawn')
  with context.Pool(count) as pool:
    pool.map(_call, [read] * count)  # what is imported once is not counted
    together = sum(pool.map(functools.partial(_per_second, seconds=seconds),
                            [read] * count, 1))
  with concurrent.futures.ThreadPoolExecutor(count) as threads:
    threaded = sum(threads.map(functools.partial(
        _per_second, seconds=seconds), [read] * count))
  return {'process': together / alone, 'thread': threaded / alone}


def _call(read):
  read()


def _per_second(read, seconds):
  count, start = 0, time.perf_counter()
  while time.perf_counter() - start < seconds:
    read()
    count += 1
  return count / (time.perf_counter() - start)


def main(argv=None):
  o = machine.counts(argv, 'input', _COUNTS)
  print(json.dumps(measure((o.height, o.width), o.frames, o.processes,
                           o.seconds)))


if __name__ == '__main__':
  main()
