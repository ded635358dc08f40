"""UNITE: trained in two stages and evaluated on shapes world; on benchmarks."""
from ml_collections import ConfigDict

from configs import common, folders, objectives, plans, qwen3_vl, unite_claims

QWEN2_VL = 'Qwen/Qwen2-VL-{}-Instruct'
BASE = 'friedrichor/Unite-Base-Qwen2-VL-{}'  # the result of stage 1, merged
INSTRUCT = 'friedrichor/Unite-Instruct-Qwen2-VL-{}'
RECIPES = {
    'stage1': 'the published first stage, 2B, on JSON in data.root',
    'stage2': 'the published second stage, 2B',
    'stage1_7b': 'the published first stage, 7B',
    'stage2_7b': 'the published second stage, 7B',
    'stage1_qwen3vl': 'the first stage on Qwen3-VL, 2B',
    'stage1_qwen3vl_8b': 'the first stage on Qwen3-VL, 8B',
}
# Those whose published weights are of stage 2, and the others.
INSTRUCTED = {
    'webvid_covr': 'the published weights on WebVid-CoVR',
    'mmeb': 'the published weights on MMEB',
}
PUBLISHED = INSTRUCTED | {
    'folder_2b': 'the published weights on the media in data.root',
    'flickr30k': 'the published weights on Flickr30K',
    'mscoco': 'the published weights on MS-COCO',
    'msrvtt_1ka': 'the published weights on MSR-VTT 1k-A',
    'msvd': 'the published weights on MSVD',
    'didemo': 'the published weights on DiDeMo',
    'sharegpt4v': 'the published weights on ShareGPT4V',
    'urban1k': 'the published weights on Urban1k',
    'docci': 'the published weights on DOCCI',
    'carebench': 'the published weights on CaReBench',
}
VARIANTS = {
    '': 'a tiny model, trained in two stages on shapes world',
    'folder': 'the tiny model, trained on the media in data.root',
    **unite_claims.VARIANTS, **RECIPES, **PUBLISHED,
}
TOKEN = common.TOKEN


def get_config(variant=''):
  common.check('unite', variant, VARIANTS)
  config = base()
  if variant in RECIPES:
    stage, _, size = variant.replace('_qwen3vl', '').partition('_')
    recipe(config, stage, size)
    if 'qwen3vl' in variant:
      qwen3_vl.embedder(config, size.upper() or '2B')
  elif variant in PUBLISHED:
    published(config, variant)
  elif variant == 'folder':  # the tiny model learns the media in data.root
    config.data.update(name='folder', train_on_all=True)
    config.eval.benchmarks = ('folder',)
    config.train.update(batch_size=8, epochs=60.0)
  else:
    shapes_world(config)
    if variant:
      unite_claims.change(config, variant)
  return config


def shapes_world(config):
  """Stage 1 on text with each modality; stage 2 on all tasks, two losses."""
  config.data.update(
      renderings=3, images={'train': 400, 'validation': 70, 'test': 80})
  config.data.shape = config.eval.shape = (56, 1, 16)  # one compilation
  config.update(before=('stage1',), compare=('plain',), starts_from='stage1')
  config.train.update(batch_size=64, steps=190)
  config.loss.modality_mask = True
  config.plain = ConfigDict({'loss': {'modality_mask': False}})
  config.stage1 = ConfigDict({
      'loss': {'dual': True, 'modality_mask': False}, 'train': {'steps': 240},
      'pairs': {'sources': ('text_to_video', 'text_to_image', 'text_to_text'),
                'weights': (3.0, 1.0, 0.5), 'per_source': True}})
  config.pairs.update(
      sources=('text_to_video', 'video_to_text', 'text_to_image',
               'image_to_text', 'text_to_text', 'image_text_to_image',
               'video_text_to_video'),
      weights=(2.0, 2.0, 1.0, 1.0, 0.5, 2.0, 3.0))


def published(config, name):
  """Published weights as they are, on a benchmark or on own media."""
  weights = INSTRUCT if name in INSTRUCTED else BASE
  full_qwen2_vl(config, weights.format('2B'))
  config.task, config.eval.max_tokens = 'evaluate', 16384
  config.data.name = 'folder' if name == 'folder_2b' else 'pairs'
  config.eval.benchmarks = (name.removesuffix('_2b'),)


def recipe(config, stage, size):
  """The authors' training, 64 GPUs' global batch, from JSON in data.root."""
  first = stage == 'stage1'
  full_qwen2_vl(config, (QWEN2_VL if first else BASE).format(
      size.upper() or '2B'))
  config.model.lora.alpha = 16 if first else 64
  config.data.update(
      name='pairs', pairs=(f'{stage}.json',), shape=(2048, 2, 5120))
  config.loss.update(dual=first, modality_mask=not first)
  config.eval.benchmarks = ()  # later, by task=evaluate
  config.optim.update(learning_rate=1e-4 if first else 2e-5,
                      betas=(0.9, 0.999), warmup_epochs=0.03)
  config.train.update(batch_size=1024 if size else 4096, epochs=1.0,
                      accumulation_steps=64)


def full_qwen2_vl(config, name):
  """A published Qwen2-VL, LoRA on its decoder, media as UNITE is released."""
  config.data.max_tokens = 2048
  config.model.update(
      pretrained=name, vocab_size=0, dtype='bfloat16', param_dtype='bfloat16',
      remat='full', trainable=('lora/.*',))
  config.model.lora.update(
      rank=8, dropout=0.05, targets=(
          'decoder/layers/attention/[qkvo]',
          'decoder/layers/mlp/(gate|up|down)'))
  config.media.update(
      released=True, read_image=(4 * TOKEN, 16384 * TOKEN),
      read_video=(128 * TOKEN, 240 * 320),
      processor=(256 * TOKEN, 1280 * TOKEN), min_frames=4, max_frames=12,
      n_frames=0)
  config.mesh.update(data=1, fsdp=-1)
  config.plan.update(topology='v5e:4x4', candidate_px=(480, 640))


def base():
  """A Qwen2-VL that is trained from scratch on CPU in minutes."""
  config = common.base_embedder('unite')
  folders.add_folder(config)
  objectives.add_objectives(config)
  objectives.add_graded(config)
  # Training files in data.root, where data.name is 'pairs': JSON of UNITE, or
  # tables, 'data/train-*.parquet'.
  config.data.pairs = ()
  # Captions of shapes world besides its own: 'coarse', 'fine', as sources of
  # pairs and tasks of their own (coarse_text_to_video, ...).
  config.data.grains = ()
  config.update({'model': common.model(), 'vision': common.encoder(),
                 'media': common.media()})
  plans.add_embedding(config)
  common.add_weights(config, lora_alpha=16)
  config.model.update({
      'rope_sections': (4, 6, 6),  # pairs that turn by time, row, column
      # As UNITE is trained, or 'mrope' as Qwen2-VL; of Qwen3-VL 'mrope'.
      'position_mode': 'sequential',
      # Of Qwen2-VL and Qwen2.5-VL: whose prompt, 'unite', 'gme' or 'gve', or a
      # text with {content} where an item stands; '' = UNITE's.
      'prompt': '',
      'pooling': 'last'})  # of the last states, 'last' or 'mean' of all
  return config
