"""Embedders of others, as they are published: on own media, on benchmarks."""
from ml_collections import ConfigDict

from configs import common, folders, unite

SMALL = 'google/siglip2-base-patch16-224'
# CLIP and SigLIP embed no text with an image: of other models WebVid-CoVR and
# MMEB go by eval.benchmarks.
BENCHMARKS = tuple(name for name in unite.PUBLISHED
                   if name not in (*unite.INSTRUCTED, 'folder_2b'))
VARIANTS = {
    '': 'SigLIP 2, 0.4 billion parameters, on the media in data.root',
    'shapes': 'the same, on images and clips of shapes world',
    **{name: unite.PUBLISHED[name].replace('the published weights', 'the same')
       for name in BENCHMARKS},
}


def get_config(variant=''):
  common.check('embedders', variant, VARIANTS)
  config = base()
  config.eval.benchmarks = (variant or 'folder',)
  if variant == 'shapes':
    config.data.name = 'shapes'
    config.data.images.update(validation=70, test=80)
  return config


def model():
  """What jaxret.load opens; what is empty is as it has it."""
  return ConfigDict({
      # Directory or hub model: CLIP, SigLIP 2, Qwen3-VL-Embedding, GME, ...
      'pretrained': SMALL,
      'adapter': '',  # directory or hub name of a PEFT adapter, merged
      'dtype': 'float32',  # of weights and computation, or 'bfloat16'
      'recipe': '',  # prompt, pooling and sizes of a known model on Qwen2-VL
      'prompt': '',  # of your own, on Qwen2-VL, with {content} for an item
      'pooling': '',  # of models on Qwen2-VL, 'last' or 'mean'
      'position_mode': '',  # of models on Qwen2-VL, 'sequential' or 'mrope'
      'max_tokens': 0,  # of an item, visual ones included, 0 = the model's
      'trim_text': False,  # cut longer texts; False leaves such items out
      'max_frames': 0,  # of a video, of CLIP and SigLIP 2, 0 = 12
  })


def base():
  config = ConfigDict({
      'task': 'evaluate',  # there is no other
      'method': 'embedders',  # whatever jaxret.load opens
      # Devices: their product is the number there is, -1 takes what is left.
      'mesh': {
          'data': -1,  # shards of the batch, weights in each whole
          'fsdp': 1,  # shards of both the batch and the weights
          'tensor': 1},  # shards of the weights within a layer
      'model': model(), 'data': common.data(),
      'eval': {
          'benchmarks': ('folder',),  # 'folder', 'shapes', benchmarks by name
          # Of the benchmarks, of several in <root>/<name>; '' = data.root.
          'root': '',
          'split': 'test',  # the split that is reported
          'tasks': (),  # tasks of a benchmark, () = all
          'batch_size': 32,  # items of a batch, over all devices
          'truncate_dim': 0,  # numbers of an embedding that are kept, 0 = all
          'gallery_queries': 4,  # queries shown in report.html
          'embed_media': False}})  # report.html holds their files, not links
  config.data.update(name='folder', sizes=common.splits(0, 200, 200))
  del config.data.cache_gb  # media are read once
  common.add_images(config)
  config.data.update({
      'validation_fraction': 0.0,  # share of the train media held out
      'test_fraction': 1.0,  # share of a folder's media that is test
      # Read files that a captions.json names elsewhere.
      'allow_outside': False})
  folders.add_tables(config)
  return config
