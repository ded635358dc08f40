"""Answers: multiple choice and generation, less what language alone says."""
from ml_collections import ConfigDict

from configs import common

VARIANTS = {
    '': 'a tiny Qwen2-VL, trained on questions about shapes world',
    'qwen2_vl': 'a published Qwen2-VL as it is, on the questions in data.root',
}


def get_config(variant=''):
  common.check('answers', variant, VARIANTS)
  config = base()
  if variant:
    qwen2_vl(config)
  return config


def qwen2_vl(config, name='Qwen/Qwen2-VL-2B-Instruct'):
  """A published instruct model on mteb's video questions, without training."""
  token = common.TOKEN
  config.task = 'evaluate'
  config.model.update(pretrained=name, dtype='bfloat16',
                      param_dtype='bfloat16')
  config.media.update(
      read_image=(4 * token, 1280 * token), read_video=(4 * token, 384 * token),
      processor=(4 * token, 1280 * token), min_frames=4, max_frames=16,
      n_frames=0)
  config.data.update(name='mteb_questions', shape=(), max_tokens=8192)
  # mteb's sets have no other split: alpha is given, none is chosen.
  config.eval.update(splits=('test',), alpha=0.0)


def base():
  config = common.base('answers')
  config.update({
      'init_from': '',  # workdir of a run whose result is taken as the start
      'data': common.data(), 'model': common.model(),
      'vision': common.encoder(128), 'media': common.media(),
      'optim': common.optim(2e-3)})
  config.data.update({
      'sizes': common.splits(1000, 150, 300),  # clips of shapes world
      'max_tokens': 160,  # tokens of media, question and answer, at most
      # (tokens, rows, patches) that all are padded to, () = measured.
      'shape': ()})
  config.vision.width = 64
  config.model.update(vocab_size=560, width=64, mlp_width=128, head_width=16)
  config.model.update({
      'rope_sections': (2, 3, 3),  # pairs that turn by time, row, column
      'pretrained': '',  # directory or hub model, '' = by the sizes given here
      # Directory or hub model; '' = the model's, or one trained here.
      'tokenizer': '',
      # What is computed again backward, to save memory: 'none', 'dots', 'full'
      # (all of a layer), or 'offload' (products are kept on the host).
      'remat': 'none',
      # Kernel: 'xla', 'cudnn', 'splash', 'heads' (for CPUs) or 'auto'.
      'attention': 'xla',
      'trainable': ('.*',)})  # regexes of whole parameter paths
  config.optim.update(weight_decay=0.05, warmup_epochs=0.3,
                      gradient_clip_norm=1.0)
  config.train.update(batch_size=32, steps=1500, log_every_steps=50)
  config.train.update({
      # Chance that a row is read without its video, as P(answer | question)
      # reads it. It stands in for the pre-training on texts that a real model
      # brings along: one from scratch would never have seen what CPN asks.
      'text_prior_share': 0.25})
  config.eval = ConfigDict({
      # The last one is reported; alpha is chosen on 'validation'.
      'splits': ('validation', 'test'),
      'alpha': 0.0,  # share of the prior, where nothing is chosen
      # Score a choice by its mean over tokens, else by their sum.
      'length_normalized': True,
      'score_end': True,  # the token that ends an answer is scored with it
      'rows': 32,  # questions of a tile of scores
      'columns': 64,  # choices of a tile of scores
      'captions': 12,  # items described with and without CPN in report.html
      'prompt': 'Describe the video.',  # what is asked for these
      'max_new_tokens': 32,  # tokens of a description, at most
      'plausibility': 0.1,  # tokens less likely than this x the best are cut
      'gallery_queries': 4,  # questions of each kind shown in report.html
      'embed_media': False})  # report.html holds their files, not links
  return config
