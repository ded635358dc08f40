"""What the configs of methods that embed have in common: fields and sizes."""
from ml_collections import ConfigDict

from configs import common


def base(method):
  """Of a method that embeds: its loss, its pairs, what it is evaluated on."""
  config = common.base(method)
  config.update({
      # The stage it goes on from; what is trained beside it, to compare.
      'starts_from': '', 'compare': (),
      # In-batch contrast (UNITE §3); dual adds candidates to queries,
      # modality_mask is MAMCL; released is as in the authors' code.
      'loss': {'temperature': 0.03, 'dual': False, 'modality_mask': False,
               'multi_positive': False, 'released': True},
      # Sources of pairs, () = all, and their shares, () = by size; whether
      # each batch is of one source.
      'pairs': {'sources': (), 'weights': (), 'per_source': False},
      'eval': {
          # 'shapes', 'folder', or benchmarks by name: files in `root` (empty
          # = data.root), of several in <root>/<name>. () = none.
          'benchmarks': ('shapes',), 'root': '', 'split': 'test',
          'tasks': (),  # of a benchmark, () = all
          # Rows of a batch; tokens of an item, 0 = as in training; (tokens,
          # rows, patches) that all are padded to, () = their own buckets.
          'batch_size': 32, 'max_tokens': 0, 'shape': (),
          'gallery_queries': 4}})
  config.data.update({
      'pairs': (),  # training files in data.root, where data.name is 'pairs'
      # Still images of shapes world, and how often each scene is drawn.
      'images': {'train': 0, 'validation': 0, 'test': 0}, 'renderings': 1,
      # Tokens of an item; (tokens, rows, patches) that all are padded to,
      # () = measured from the headers of all media.
      'max_tokens': 512, 'shape': ()})
  config.optim = common.optim(2e-3)
  config.optim.update(warmup_epochs=0.1, gradient_clip_norm=1.0)
  return config


def tiny_qwen2_vl():
  """A Qwen2-VL that is trained from scratch on CPU in minutes.

  Videos are two frames, which make one slice of 4 x 4 patches.
  """
  token = 28 ** 2
  return ConfigDict({
      'model': {
          'pretrained': '', 'tokenizer': '', 'vocab_size': 640, 'width': 128,
          'mlp_width': 256, 'layers': 2, 'heads': 4, 'kv_heads': 2,
          'head_width': 32, 'rope_theta': 1e4, 'rope_sections': (4, 6, 6),
          'norm_eps': 1e-6, 'tie_embeddings': True,
          'position_mode': 'sequential', 'dtype': 'float32',
          'param_dtype': 'float32', 'remat': False, 'trainable': ('.*',),
          'lora': {'rank': 0, 'alpha': 16, 'dropout': 0.0, 'targets': ()}},
      'vision': {'width': 96, 'layers': 2, 'heads': 4, 'mlp_width': 288},
      'media': {
          'released': False, 'read_image': (token, 4 * token),
          'read_video': (token, 4 * token), 'processor': (token, 4 * token),
          'fps': 1.0, 'min_frames': 2, 'max_frames': 2, 'n_frames': 2},
  })


def full_qwen2_vl(config, name):
  """A published Qwen2-VL, LoRA on its decoder, media as UNITE is released."""
  token = 28 ** 2
  config.data.max_tokens = 2048
  config.model.update(
      pretrained=name, vocab_size=0, dtype='bfloat16', param_dtype='bfloat16',
      remat=True, trainable=('lora/.*',))
  config.model.lora.update(
      rank=8, dropout=0.05, targets=(
          'decoder/layers/attention/[qkvo]',
          'decoder/layers/mlp/(gate|up|down)'))
  config.media.update(
      released=True, read_image=(4 * token, 16384 * token),
      read_video=(128 * token, 240 * 320),
      processor=(256 * token, 1280 * token), min_frames=4, max_frames=12,
      n_frames=0)
  config.mesh.update(data=1, fsdp=-1)
