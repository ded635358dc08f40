"""What a config of cross-lingual retrieval holds, at a size trained on CPU."""
from ml_collections import ConfigDict

from configs import captioning, common


def base():
  config = ConfigDict({
      'task': 'train_and_evaluate', 'method': 'leccr', 'seed': 0,
      'mesh': {'data': -1, 'fsdp': 1, 'tensor': 1},
      # Sub-configs that are trained beside the method, to compare.
      'compare': (), 'captioner': captioning.captioner(),
      'data': data(), 'model': model(), 'optim': optim(),
      'train': common.train(),
      'loss': {'softened_weight': 0.5, 'softened_alpha': 0.8,
               'slot_weight': 0.01, 'regularization_weight': 0.01,
               'description_weight': 0.01},
      # '' = the preset's, see jaxret.losses_cross_lingual.Recipe. gpus: of the
      # authors' run, where a loss is local to each.
      'recipe': {'preset': 'corrected', 'gpus': 1, 'norm_axis': '',
                 'slot_rows': '', 'query_init': '', 'slot_scope': '',
                 'padded_frames': '', 'select_on': ''},
      # visual_weight: of videos' scores, the rest is their best slot's.
      'eval': {'split': 'test', 'batch_size': 128, 'visual_weight': 0.9,
               'gallery_queries': 4}})
  return config


def data():
  return ConfigDict({
      # 'shapes', a layout of jaxret.data.parallel, or 'cclm'; one model is
      # trained for each language.
      'name': 'shapes', 'root': '', 'languages': ('de', 'fr', 'cs', 'zh'),
      # Of 'cclm', in root: captions, and translations of the first.
      'files': {'train': '', 'translated': '', 'validation': '', 'test': ''},
      # Images or videos, '' = in root; BigFile features of videos' frames and
      # the most frames of them, 0 = all.
      'media': '', 'features': '', 'max_frames': 0,
      # A cache of descriptions, or <id>.txt files; '' = the captioner's.
      'descriptions': '',
      # Tokens that texts are padded to, 0 = the longest.
      'tokens': {'caption': 0, 'description': 0},
      'augment': True, 'cache_gb': 2.0,  # random crops; images in memory
      # Of shapes world; it has clips, too, which are not used here.
      'sizes': {'train': 1, 'validation': 1, 'test': 1}, 'seed': 0,
      'images': {'train': 400, 'validation': 70, 'test': 80},
      'renderings': 6, 'captions_per_image': 1})


def model():
  return ConfigDict({
      # Directories or hub models; '' = from scratch, by the sizes below.
      'text_pretrained': '', 'vision_pretrained': '', 'tokenizer': '',
      'vocab_size': 1200,  # of the tokenizer that is trained then
      'text': {'width': 96, 'mlp_width': 192, 'layers': 2, 'heads': 4,
               'max_tokens': 48},
      'vision': {'width': 96, 'mlp_width': 192, 'layers': 2, 'heads': 4,
                 'patch_px': 12},
      'image_px': 48, 'visual_width': 64, 'embedding_width': 64, 'slots': 4,
      'reader_layers': 2, 'interaction_layers': 1, 'frame_layers': 0,
      'temperature': 0.07, 'dropout': 0.1, 'dtype': 'float32',
      'param_dtype': 'float32', 'remat': False})


def optim():
  """AdamW as the authors have it; its rate is that of pretrained encoders."""
  return ConfigDict({
      'learning_rate': 1e-5, 'betas': (0.9, 0.98), 'eps': 1e-8,
      'weight_decay': 0.01, 'schedule': 'linear', 'warmup_fraction': 0.1,
      'gradient_clip_norm': 0.0, 'no_decay': (
          '.*/bias',
          'params/(text_encoder|frames|description_to_slots|slots_to_vision|'
          'vision_to_slots)/.*norm/scale')})
