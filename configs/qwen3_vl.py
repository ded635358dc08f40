"""Qwen3-VL in place of Qwen2-VL: what the config of an embedder has then."""
from ml_collections import ConfigDict

TOKEN = 32 ** 2  # pixels of a visual token


def media():
  """What Qwen3-VL sees; the defaults are those of its embedder's script."""
  return ConfigDict({
      'image': (4 * TOKEN, 1800 * TOKEN),  # least and most pixels of an image
      'frame': (128 * TOKEN, 768 * TOKEN),  # least and most pixels of a frame
      # Of all frames of a list, and of a file: where there are many, twice
      # their share is the most pixels of each.
      'listed_total': 7680.0 * TOKEN,  # pixels
      'file_total': 0.9 * 128000 * TOKEN,  # pixels
      'fps': 1.0,  # frames of a second that are looked at
      'min_frames': 4,  # frames of a video, at least
      'max_frames': 64,  # frames of a video, at most
      # Frames of any video, an even number; 0 = as the three before have it.
      'n_frames': 0,
      'listed_px': 64})  # frames of a list are made multiples of it first


def embedder(config, size):
  """Qwen3-VL of that size ('2B', ...), its prompt and what it sees."""
  config.model.update(pretrained=f'Qwen/Qwen3-VL-{size}-Instruct',
                      position_mode='mrope')
  config.media = media()
  # What `data.shape` holds: a video of 12 frames is six slices.
  config.media.update(image=(4 * TOKEN, 1280 * TOKEN),
                      frame=(128 * TOKEN, 256 * TOKEN), max_frames=12)
