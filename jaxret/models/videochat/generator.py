"""VideoChat-Flash, or Qwen2 alone, opened to continue prompts with it.

The videos of a prompt go through the tower where it is read.
"""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxret import sharding
from jaxret.data import types
from jaxret.models import adapter_import, adapters, model_files, names
from jaxret.models import decoder as decoder_lib
from jaxret.models import pretrained as pretrained_lib
from jaxret.models.videochat import files
from jaxret.models.videochat import model as vlm
from jaxret.models.videochat import vision as vision_lib

CLIPS = 4  # of a video, as BLiM samples it


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
  """Sizes of decoder and tower.

  vision: None where texts are all that is read, and the others count for
  nothing. A video is `clips` clips of vision.n_frames frames, an image one of
  one frame; each is tokens_per_clip tokens.
  """
  decoder: decoder_lib.DecoderConfig
  vision: vision_lib.VisionConfig | None = None
  visual_width: int = 0
  tokens_per_clip: int = 0
  clips: int = CLIPS

  name = 'videochat_flash'

  def module(self):
    return VideoChat(self.decoder, self.visual_width, self.vision,
                     self.tokens_per_clip)


class VideoChat(vlm.Vlm):
  """Continues prompts of texts and frames; see jaxret.models."""
  tower: vision_lib.VisionConfig | None = None
  tokens_per_clip: int = 0

  def start(self, batch):
    """Reads prompts that are to be continued; see models.generation.

    batch: tokens int [B, T], right-padded, length int [B], positions int
    [B, T], and frames uint8 [B, F, px, px, 3] where anything is seen.
    """
    visual = None
    if 'frames' in batch:
      visual = self.visual_tokens(vision_lib.encode_clips(
          self.tower, self.get_variable('params', 'vision'), batch['frames'],
          self.tokens_per_clip))
    x = self.embed(batch['tokens'], visual)
    positions, length = batch['positions'], batch['length']
    end = jnp.take_along_axis(positions, (length - 1)[:, None], 1)[:, 0]
    return *self.prefix(x, positions, length), end + 1


def open_generator(path, mesh, dtype='float32', adapter=None, clips=CLIPS):
  """(GeneratorConfig, {'params': ...} on the mesh) of a directory or hub model.

  adapter: a directory or hub name of a PEFT adapter, merged into the weights.
  clips: of a video, four frames each.
  """
  _, whole = model_files.read_json(path)
  numerics = {'dtype': dtype, 'param_dtype': dtype}
  if whole['model_type'] == 'qwen2':
    if clips != CLIPS:
      raise ValueError(f'{path}: clips = {clips} has no effect on a model that '
                       'reads text alone: leave it out')
    config = GeneratorConfig(decoder_lib.DecoderConfig(
        **files.read_decoder(path), **numerics))
  else:
    config = _whole(path, files.read_config(path), clips, numerics)
  params = load(path, config.module(), config.vision, mesh)
  if adapter is not None:
    params = adapters.merge(params, adapter_import.import_peft(
        adapter, names.VIDEOCHAT_FLASH, params))
  return config, params


def _whole(path, sizes, clips, numerics):
  if sizes['vision'] is None:
    raise ValueError(f'{path} has no vision tower (no mm_vision_tower in its '
                     'config.json): it cannot see what it is to continue')
  if clips < 1:
    raise ValueError(f'got clips = {clips}, want 1 at least')
  return GeneratorConfig(
      decoder_lib.DecoderConfig(**sizes['decoder'], **numerics),
      vision_lib.VisionConfig(**sizes['vision'], **numerics),
      sizes['visual_width'], sizes['tokens_per_clip'], clips)


def load(name, module, tower, mesh):
  """{'params': decoder and, of what sees, projector and tower}, on the mesh.

  module: a Vlm. tower: its VisionConfig or None. The rest is not read.
  """
  def init(key):
    if tower is None:
      return {'params': {'decoder': decoder_lib.Decoder(module.config).init(
          key, np.zeros((1, 1), np.int32), method=touched)['params']}}
    tokens = np.full((1, 2), types.VISUAL)
    features = np.zeros((1, 1, 1, module.visual_width), np.float32)
    pixels = np.zeros((1, tower.n_frames, tower.image_px, tower.image_px, 3),
                      np.float32)
    whole = module.init(key, features, tokens)['params']
    return {'params': {
        'decoder': whole['decoder'],
        'projector': {'vtg': whole['projector']['vtg']},
        'vision': vision_lib.VisionTower(tower).init(key, pixels)['params']}}
  abstract = jax.eval_shape(init, jax.random.key(0))
  places = sharding.shardings(mesh, abstract)
  params, _ = pretrained_lib.load(
      pretrained_lib.open_checkpoint(name), names.VIDEOCHAT_FLASH,
      abstract['params'], places['params'], module.config.tie_embeddings,
      generates=True)
  return {'params': params}


def touched(decoder, tokens):
  """Every parameter of a decoder, for `init`."""
  hidden = decoder(decoder.embed_tokens(tokens), tokens,
                   decoder_lib.causal(tokens.shape[1]))
  return decoder.vocabulary_terms(hidden)
