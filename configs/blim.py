"""BLiM: trained and evaluated on shapes world; on a folder; on benchmarks.

Those of the 7B run on a TPU slice v5e:4x4 or v5p:2x2x2 at least, which
--config.task=plan compiles for, the others on any machine.
"""
from ml_collections import ConfigDict

from configs import common, folders, plans, towers

VARIANTS = {
    '': 'a tiny model and its video tower, trained on shapes world',
    'folder': 'the tiny model, trained on the clips and captions in data.root',
    'folder_7b': 'the published 7B as it is, on the clips in data.root',
    'folder_qwen3vl': 'Qwen3-VL as it is, on the images or clips there',
    'folder_qwen3vl_train': 'Qwen3-VL and a visual head, trained on them',
    'didemo': 'the 7B with LoRA on DiDeMo, by the published recipe',
    'activitynet': 'the same on ActivityNet Captions',
    'lsmdc': 'the same on LSMDC',
    'msrvtt': 'the same on MSR-VTT',
}
# The authors' recipes: rate, epochs, global batch, accumulation, alpha (text
# to video, video to text), c, and both for zero-shot scoring.
RECIPES = {
    'didemo': (2e-4, 5, 32, 1, (0.0, 0.8), (0.9, 0.2, 0.9, 0.9),
               (0.0, 0.9), (1.0, 0.0, 0.9, 0.9)),
    'activitynet': (2e-4, 5, 32, 2, (0.2, 0.9), (1.0, 0.4, 0.9, 0.8),
                    (0.0, 0.9), (1.0, 0.0, 0.9, 0.8)),
    'lsmdc': (1e-4, 3, 256, 8, (0.2, 1.0), (1.0, 0.6, 0.9, 0.6),
              (0.0, 0.9), (1.0, 0.0, 0.9, 0.8)),
    'msrvtt': (1e-4, 3, 512, 16, (0.0, 0.9), (1.0, 0.6, 0.8, 0.4),
               (0.0, 0.8), (1.0, 0.0, 0.8, 0.6)),
}
# Videos and captions to train on, videos to test on (one caption each), tokens
# of a caption, about: the mean, and one that few or none exceed.
PLANS = {
    'didemo': (8395, 8395, 1003, 35, 256),
    'activitynet': (10009, 10009, 4917, 60, 512),
    'lsmdc': (101079, 101079, 1000, 11, 128),
    'msrvtt': (9000, 180000, 1000, 11, 80),
}


def get_config(variant=''):
  common.check('blim', variant, VARIANTS)
  config = base()
  if variant == 'folder':
    own_clips(config)
    config.tower.train.update(batch_size=8, epochs=60.0)
  elif variant:
    full_size(config)
    if variant in RECIPES:
      benchmark(config, variant)
    else:
      own_clips_7b(config)
    if variant.startswith('folder_qwen3vl'):
      config.model.update(backbone='qwen3_vl',
                          pretrained='Qwen/Qwen3-VL-2B-Instruct')
      config.eval.nonzero_denominator = False
    if variant == 'folder_qwen3vl_train':
      trained_on_own_clips(config)
  return config


def own_clips(config):
  """The clips and captions.json in data.root; the tiny model learns them."""
  config.data.update(name='folder', train_on_all=True, store_videos=False)
  config.eval.splits = ('test',)
  config.train.update(batch_size=8, epochs=60.0)


def own_clips_7b(config):
  """The same by the published 7B as it is, without training."""
  own_clips(config)
  config.task, config.eval.zero_shot = 'evaluate', True
  config.data.train_on_all = False


def trained_on_own_clips(config):
  """LoRA and the visual head, by the authors' recipe for MSR-VTT."""
  config.task, config.eval.zero_shot = 'train_and_evaluate', False
  config.data.update(train_on_all=True, extract_batch_size=8)
  config.model.lora.targets = (  # the head where it is not the token table
      'decoder/(layers/attention/[qkvo]|lm_head)',)
  config.optim.update(learning_rate=1e-4, weight_decay=1.0, warmup_epochs=1.0,
                      gradient_clip_norm=0.0)
  config.train.update(batch_size=32, epochs=3.0)


def benchmark(config, name):
  """A benchmark from the authors' files in data.root, by their recipe."""
  (rate, epochs, batch, accumulation, alpha, c, zero_shot_alpha,
   zero_shot_c) = RECIPES[name]
  config.data.update(name=name, validation_fraction=0.02,
                     limit_s=30.0 if name == 'didemo' else 0.0)
  config.optim.update(learning_rate=rate, weight_decay=1.0,
                      warmup_epochs=1.0, gradient_clip_norm=0.0)
  config.train.update(batch_size=batch, epochs=float(epochs),
                      accumulation_steps=accumulation)
  config.eval.update(alpha=alpha, c=c, zero_shot_alpha=zero_shot_alpha,
                     zero_shot_c=zero_shot_c)
  train_videos, train_texts, test, mean, longest = PLANS[name]
  config.plan.update(
      train_videos=train_videos, train_texts=train_texts, videos=test,
      texts=test, caption_tokens=mean, longest_caption_tokens=longest)


def full_size(config):
  """VideoChat-Flash-Qwen2-7B with LoRA, as the authors train it (spec §3)."""
  config.before, config.tower = (), ConfigDict()
  config.train.text_prior_share = 0.0  # its pre-training gave it P(text)
  config.data.store_videos = False
  config.model.update(
      pretrained='OpenGVLab/VideoChat-Flash-Qwen2-7B_res448',
      # As in its own config.json, which is read where weights are.
      vocab_size=152064, width=3584, mlp_width=18944, layers=28, heads=28,
      kv_heads=4, head_width=128, rope_theta=1e6, tokens_per_clip=64,
      visual_width=1024, dtype='bfloat16', param_dtype='bfloat16', remat='full',
      trainable=('lora/.*', 'params/visual_head/.*'))
  config.model.lora.update(
      rank=8, alpha=32, dropout=0.05, targets=(
          'decoder/layers/attention/[qkvo]', 'decoder/lm_head',
          'projector/(vtg|tvg)/(in|out)'))
  config.vision.update(
      tokens_per_clip=64, n_frames=4, image_px=448, patch_px=16, width=1024,
      layers=23, heads=16, mlp_width=4096, table_frames=4, table_grid=14,
      dtype='bfloat16', param_dtype='bfloat16')
  config.mesh.update(data=-1, fsdp=-1)
  config.plan.topology = 'v5e:4x4,v5p:2x2x2'


def base():
  """A model and its video tower that are trained on CPU in minutes."""
  config = common.base('blim')
  config.update({
      'before': ('tower',),  # sections that are trained first, in order
      # Workdir of a run whose parameters, tokenizer and tower are taken.
      'init_from': '',
      'data': common.data(), 'model': common.model(),
      'vision': towers.vision(),
      # The dual encoder whose video tower gives the tiny model its features.
      'tower': towers.tower(),
      'optim': common.optim(2e-3)})
  plans.add_scoring(config)
  common.add_weights(config, lora_alpha=32)
  config.model.update({
      'backbone': 'blim',  # or 'qwen3_vl', 'qwen2_5_vl', 'qwen2_vl'
      'visual_width': 96,  # numbers of a feature that it sees
      'clips': 4,  # clips of a video
      'tokens_per_clip': 6,  # features of a clip
  }, layers=3, tie_embeddings=False)
  folders.add_folder(config)
  # Enough to choose weights on and to tell rows apart; as many candidates in
  # both, which what is guaranteed for new queries supposes.
  config.data.sizes.update(train=3000, validation=400, test=400)
  config.data.update({
      'max_caption_tokens': 512,  # tokens of a caption; longer is refused
      'limit_s': 0.0,  # seconds of a video that are sampled from, 0 = all
      # Read media from one array_record data set, made in the workdir.
      'store_videos': True,
      'extract_batch_size': 32,  # videos per step of the vision tower
      'features': '',  # directory of stored features; '' = in the workdir
      'missing_features': 'error'})  # of test videos, or 'zeros' as the authors
  config.optim.update(weight_decay=0.05, warmup_epochs=0.2,
                      gradient_clip_norm=1.0)
  # Share of the captions that are read without their video, as P(text) is
  # scored. It stands in for the pre-training on texts that a real model brings
  # along: this one would meet the mask of CPN without ever having seen it.
  config.train.update(batch_size=32, epochs=5.0, text_prior_share=0.25)
  config.eval = ConfigDict({
      # The last one is reported; weights are chosen on 'validation'.
      'splits': ('validation', 'test'),
      # What chooses candidates: 'clip', the likelihood of the first clip, is
      # free; 'tower', the dual encoder; an .npz file, '{split}' is replaced.
      'first_stage': '',  # '' = nothing
      'topk': 0,  # candidates of the first stage that are scored, 0 = all
      # Chooses that number on 'validation', which is then scored as a whole:
      # the share of queries whose best candidate is to be kept, 0 = as in topk.
      'agreement': 0.0,
      # Search the best so many of each query of the last split, with a proof,
      # in place of scoring all pairs: recall up to there, no more; 0 = off.
      'exact_topk': 0,
      'exact_directions': ('text_to_video', 'video_to_text'),  # searched
      # Nats below the k-th best at which pairs are left out; 0 = 1e-4, and
      # 0.03 in bfloat16, by which two ways to compute a score may differ.
      'bound_slack': 0.0,
      # Text given video only, for a model whose visual head is untrained.
      'zero_shot': False,
      'instruction': '',  # below a medium, of another backbone; '' = Describe
      'prior': 'mask',  # P(text) of another backbone, see jaxret.score_matrix
      # The paper's fixed weights (MSR-VTT's): alpha, text to video, then back.
      'alpha': (0.0, 0.9),
      # c0, c1 of the query's likelihood, c2, c3 against the first stage.
      'c': (1.0, 0.6, 0.8, 0.4),
      'zero_shot_alpha': (0.0, 0.8),  # alpha where zero_shot is set
      'zero_shot_c': (1.0, 0.0, 0.8, 0.6),  # c where zero_shot is set
      'nonzero_denominator': True,  # as released: labels of loss 0 count not
      # 'shared', 'canonical' or 'reference', see jaxret.score_matrix.
      'mode': 'shared',
      # Tiles of fixed shapes, not these: a pair's bits are those of any set.
      'invariant': False,
      'rows': 32,  # rows of a tile of scores
      'columns': 64,  # columns of a tile of scores
      'max_padding': 0.1,  # share of a length bucket that may be padding
      'gallery_queries': 12,  # queries shown in report.html
      'embed_media': False,  # report.html holds their files, not links to them
      'trec_depth': 0})  # candidates per query in runs/*.trec, 0 = no files
  return config
