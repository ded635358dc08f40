"""Which MLLM describes images and videos, and how it is asked."""
from ml_collections import ConfigDict

from configs import common

TOKEN = 28 ** 2  # pixels of a visual token


def captioner():
  """A small Qwen2-VL, trained on English captions in the same run."""
  section = ConfigDict({
      'method': 'captioner', 'max_new_tokens': 20, 'batch_size': 128,
      # Of question, visual tokens and answer; (tokens, rows, patches) that all
      # are padded to, () = their own buckets.
      'max_tokens': 160, 'shape': (48, 1, 16),
      # VideoChat2's demonstration asks so; LECCR's prompt was not published.
      'questions': {'image': 'Describe the following image in details.',
                    'video': 'Describe the video in details.'},
      'model': {
          # 'qwen2_vl' or 'videochat_flash', and an instruct model of it;
          # empty = trained here.
          'family': 'qwen2_vl', 'pretrained': '', 'vocab_size': 560,
          'width': 96, 'mlp_width': 256, 'layers': 2, 'heads': 4,
          'kv_heads': 2, 'head_width': 24, 'rope_theta': 1e4,
          'rope_sections': (4, 4, 4), 'norm_eps': 1e-6, 'tie_embeddings': True,
          'dtype': 'float32', 'param_dtype': 'float32'},
      'vision': {'width': 96, 'layers': 2, 'heads': 4, 'mlp_width': 192},
      # See jaxret.data.qwen2_vl.Resolution; videochat_flash reads clips.
      'media': {
          'released': False, 'read_image': (TOKEN, 4 * TOKEN),
          'read_video': (TOKEN, 4 * TOKEN), 'processor': (TOKEN, 4 * TOKEN),
          'fps': 1.0, 'min_frames': 2, 'max_frames': 2, 'n_frames': 2},
      'optim': common.optim(3e-3), 'train': common.train()})
  section.optim.update(warmup_epochs=0.5, gradient_clip_norm=1.0)
  section.train.update(batch_size=32, steps=400, keep_checkpoints=1)
  return section


def qwen2_vl(section, name='Qwen/Qwen2-VL-2B-Instruct'):
  """A published instruct model, greedy, at most 256 tokens."""
  section.update(max_new_tokens=256, batch_size=32, max_tokens=4096, shape=())
  section.model.update(pretrained=name, dtype='bfloat16',
                       param_dtype='bfloat16')
  section.media.update(
      read_image=(4 * TOKEN, 1280 * TOKEN), read_video=(4 * TOKEN, 384 * TOKEN),
      processor=(4 * TOKEN, 1280 * TOKEN), min_frames=4, max_frames=16,
      n_frames=0)


def videochat_flash(section,
                    name='OpenGVLab/VideoChat-Flash-Qwen2-7B_res448'):
  """The successor of the VideoChat2 that LECCR's authors used."""
  qwen2_vl(section, name)
  section.model.family = 'videochat_flash'
  section.media = ConfigDict({'clips': 4})
