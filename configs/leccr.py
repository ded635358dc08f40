"""LECCR: cross-lingual retrieval on shapes world, and on the authors' data."""
from ml_collections import ConfigDict

from configs import common, plans

# The authors' scripts: slots, layers that read the description, layers of the
# interaction; weights of regularization, slots, softened matching and
# description; epochs. VATEX's were not released: MSR-VTT's stand there.
_VIDEO = (2, 2, 2, 0.03, 0.01, 0.3, 0.01, 50)
RECIPES = {
    'multi30k_de': (4, 3, 2, 0.05, 0.01, 0.0, 0.01, 50),
    'multi30k_fr': (4, 3, 2, 0.01, 0.01, 0.5, 0.01, 70),
    'multi30k_cs': (4, 3, 2, 0.01, 0.01, 0.5, 0.01, 50),
    'mscoco_zh': (4, 3, 2, 0.01, 0.01, 0.5, 0.01, 70),
    'mscoco_ja': (4, 3, 2, 0.01, 0.05, 0.3, 0.01, 50),
    'cclm': (4, 3, 2, 0.01, 0.01, 0.5, 0.01, 50),
    'vatex_zh': _VIDEO, 'msrvtt_zh': _VIDEO}
VARIANTS = {
    '': 'tiny models of four languages and a captioner, on shapes world',
    **{name: f'{name} by the published recipe' for name in RECIPES}}
VARIANTS |= {f'{name}_released'.lstrip('_'): f'{line}, as released'
             for name, line in VARIANTS.items()}
# Layouts of video sets and the width of their published frame features.
FEATURE_WIDTHS = {'vatex': 1024, 'msrvtt': 4096}


def get_config(variant=''):
  common.check('leccr', variant, VARIANTS)
  config, name = base(), variant.removesuffix('released').rstrip('_')
  if name:
    benchmark(config, *name.partition('_')[::2], *RECIPES[name])
  else:
    shapes_world(config)
  if variant.endswith('released'):
    config.recipe.update(preset='released', gpus=2)
  return config


def shapes_world(config):
  """Everything from scratch, and two models with a part taken out."""
  config.data.augment = False  # half an image may lack an object
  # One shape for all languages: a step compiles longer than padding costs.
  config.data.tokens.update(caption=20, description=20)
  config.compare = ('without_slots', 'without_softened_matching')
  config.without_slots = ConfigDict({'model': {'slots': 0}})
  config.without_softened_matching = ConfigDict(
      {'loss': {'softened_weight': 0.0}})
  config.model.dropout, config.optim.learning_rate = 0.0, 2e-3
  config.train.update(batch_size=64, steps=120, log_every_steps=40,
                      checkpoint_every_steps=40, keep_checkpoints=3)


def benchmark(config, name, language, slots, readers, interactions,
              regularization, slot, softened, description, epochs):
  """A published data set by its recipe, mBERT and CLIP fine-tuned whole."""
  config.data.update(name={'msrvtt': 'msrvttcn'}.get(name, name),
                     languages=(language or 'de',))
  config.loss.update(regularization_weight=regularization, slot_weight=slot,
                     softened_weight=softened, description_weight=description)
  config.model.update(
      text_pretrained='bert-base-multilingual-cased', embedding_width=256,
      slots=slots, reader_layers=readers, interaction_layers=interactions)
  config.model.text.max_tokens = 200
  if name in FEATURE_WIDTHS:
    config.model.update(visual_width=FEATURE_WIDTHS[name], frame_layers=1)
  else:
    config.model.update(vision_pretrained='openai/clip-vit-base-patch32',
                        visual_width=512, image_px=384)
  config.train.update(batch_size=128, epochs=float(epochs),
                      checkpoint_every_steps=5000, keep_checkpoints=12)
  qwen2_vl(config.captioner)


def qwen2_vl(section, name='Qwen/Qwen2-VL-2B-Instruct'):
  """A published instruct model, greedy, at most 256 tokens."""
  token = common.TOKEN
  section.update(max_new_tokens=256, batch_size=32, max_tokens=4096, shape=())
  section.model.update(pretrained=name, dtype='bfloat16',
                       param_dtype='bfloat16')
  section.media.update(
      read_image=(4 * token, 1280 * token), read_video=(4 * token, 384 * token),
      processor=(4 * token, 1280 * token), min_frames=4, max_frames=16,
      n_frames=0)


def videochat_flash(section,
                    name='OpenGVLab/VideoChat-Flash-Qwen2-7B_res448'):
  """The successor of the VideoChat2 that LECCR's authors used."""
  qwen2_vl(section, name)
  section.model.family = 'videochat_flash'
  section.media = ConfigDict({'clips': 4})  # clips of a video


def base():
  config = common.base('leccr')
  config.data = data()
  common.add_images(config)
  plans.add_cross_lingual(config)
  config.data.update(renderings=6, images=common.splits(400, 70, 80))
  config.update({
      'compare': (),  # sections that are trained beside it, to compare
      'captioner': captioner(), 'model': model(), 'optim': optim(),
      'loss': {
          'softened_weight': 0.5,  # weight of softened matching
          'softened_alpha': 0.8,  # share of texts and visuals in its targets
          'slot_weight': 0.01,  # weight of the slots' contrast
          'regularization_weight': 0.01,  # weight of what keeps slots apart
          'description_weight': 0.01},  # weight of description-vision matching
      # Where '' is given, what the preset has.
      'recipe': {
          'preset': 'corrected',  # as the paper says, or 'released'
          'gpus': 1,  # GPUs of the authors' run, where a loss is local to each
          # What the description-vision loss norms: 'feature' or 'sequence'.
          'norm_axis': '',
          'slot_rows': '',  # rows of the softened targets: 'text' or 'image'
          'query_init': '',  # start of the slots' queries: 'normal' or 'zeros'
          'slot_scope': '',  # of slots' contrast: 'global', or 'local' to a GPU
          'padded_frames': '',  # of videos, in the losses: 'skip' or 'count'
          'select_on': ''},  # split that chooses steps: 'validation' or 'test'
      'eval': {
          'split': 'test',  # the split that is reported
          'batch_size': 128,  # items of a batch, over all devices
          'visual_weight': 0.9,  # of a video; its best slot has the rest
          'gallery_queries': 4,  # queries of a language in report.html
          'embed_media': False}})  # report.html holds their files, not links
  return config


def data():
  section = common.data()
  section.update({
      # 'shapes'; multi30k, mscoco, vatex or msrvttcn, in the layout of NRCCR
      # and LECCR; or 'cclm', JSON files.
      'name': 'shapes',
      'languages': ('de', 'fr', 'cs', 'zh'),  # one model is trained for each
      'files': {
          'train': '',  # of cclm, in root: captions to train on
          'translated': '',  # translations of these
          'validation': '',  # captions to choose on
          'test': ''},  # captions to report
      'media': '',  # directory of images or videos; '' = root
      'features': '',  # directory of BigFile features of videos' frames
      'max_frames': 0,  # the most frames of a video, 0 = all
      # A cache of descriptions, or <id>.txt files; '' = the captioner's.
      'descriptions': '',
      'tokens': {
          'caption': 0,  # tokens that captions are padded to, 0 = the longest
          'description': 0},  # tokens of a description, padded, 0 = the longest
      'augment': True,  # random crops of images, in training
      'captions_per_image': 1})  # captions of an image of shapes world
  section.sizes = common.splits(1, 1, 1)  # its clips are not used here
  return section


def model():
  return ConfigDict({
      'text_pretrained': '',  # directory or hub model of BERT; '' = `text`
      'vision_pretrained': '',  # directory or hub model of CLIP; '' = `vision`
      'tokenizer': '',  # directory or hub model; '' = BERT's, or trained here
      'vocab_size': 1200,  # tokens of the tokenizer that is trained here
      'text': {
          **common.encoder(192),
          'max_tokens': 48},  # tokens of a text, at most
      'vision': {
          **common.encoder(192),
          'patch_px': 12},  # side of a patch, pixels
      'image_px': 48,  # side of an image, pixels
      'visual_width': 64,  # numbers of a visual feature
      'embedding_width': 64,  # numbers of an embedding
      'slots': 4,  # multi-view semantic slots, 0 = no descriptions
      'reader_layers': 2,  # layers of slots that read the description
      'interaction_layers': 1,  # layers of slots and vision reading each other
      'frame_layers': 0,  # layers over frame features, 0 = images
      'temperature': 0.07,  # similarities are divided by it; learned from here
      'dropout': 0.1,  # share of activations left out
      'dtype': 'float32',  # of computation: 'float32' or 'bfloat16'
      'param_dtype': 'float32',  # of weights: 'float32' or 'bfloat16'
      'remat': 'none'})  # computed again backward: 'none', 'dots' or 'full'


def optim():
  """AdamW as the authors have it; its rate is that of pretrained encoders."""
  return ConfigDict({
      'learning_rate': 1e-5,  # the highest, after the warm-up
      'betas': (0.9, 0.98),  # decay of the means of gradients and of squares
      'eps': 1e-8,  # added to the root of the squares' mean
      'weight_decay': 0.01,  # of parameters, times the learning rate
      'schedule': 'linear',  # of the rate: a line up, then one down to 0
      'warmup_fraction': 0.1,  # share of the updates on the line up
      'gradient_clip_norm': 0.0,  # the largest norm of a gradient, 0 = any
      # Regexes of parameter paths that weight decay spares.
      'no_decay': (
          '.*/bias',
          'params/(text_encoder|frames|description_to_slots|slots_to_vision|'
          'vision_to_slots)/.*norm/scale')})


def captioner():
  """A small Qwen2-VL, trained on English captions in the same run."""
  section = ConfigDict({
      'max_new_tokens': 20,  # tokens of a description, at most
      'batch_size': 128,  # media described at a time
      'max_tokens': 160,  # tokens of question, media and answer, at most
      # (tokens, rows, patches) that all are padded to, () = their own buckets.
      'shape': (48, 1, 16),
      'questions': {
          # Asked about an image, as VideoChat2 is; LECCR's is not published.
          'image': 'Describe the following image in details.',
          'video': 'Describe the video in details.'},  # asked about a video
      'model': {
          'family': 'qwen2_vl',  # whose code runs: that, or 'videochat_flash'
          'pretrained': '',  # an instruct model of it; '' = trained here
          'rope_sections': (4, 4, 4),  # pairs that turn by time, row, column
          **common.model()},
      'vision': common.encoder(192), 'media': common.media(),
      'optim': common.optim(3e-3), 'train': common.train()})
  section.model.update(vocab_size=560, width=96, head_width=24)
  section.optim.update(warmup_epochs=0.5, gradient_clip_norm=1.0)
  section.train.update(batch_size=32, steps=400, keep_checkpoints=1)
  return section
