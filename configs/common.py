"""Sections that several methods' configs have, with their defaults.

`--config=FILE --help` shows the comment beside or above a field. A function has
the name of its section; `base*`, and what takes a `config`, is of a whole one.
"""
from ml_collections import ConfigDict

TOKEN = 28 ** 2  # pixels of a visual token of Qwen2-VL


def check(file, variant, variants):
  """Raises ValueError for what is no variant of a file."""
  if variant not in variants:
    raise ValueError(f'configs/{file}.py has no variant {variant!r}: use one '
                     f'of {", ".join(filter(None, variants))}, or none')


def splits(train, validation, test):
  return {'train': train, 'validation': validation, 'test': test}


def base(method):
  """What every config has."""
  return ConfigDict({
      # What is done; `jaxret configs` lists the tasks of each file.
      'task': 'train_and_evaluate',
      'method': method,  # the paper whose models are trained and evaluated
      'seed': 0,  # of initial weights, the order of examples, and dropout
      # Devices: their product is the number there is, -1 takes what is left.
      'mesh': {
          'data': -1,  # shards of the batch, weights in each whole
          'fsdp': 1,  # shards of both the batch and the weights
          'tensor': 1},  # shards of the weights within a layer
      'log': {
          'to': ()},  # trackers besides metrics.jsonl: 'tensorboard', 'wandb'
      'train': train(),  # steps, batches, checkpoints
  })


def train():
  return ConfigDict({
      'batch_size': 32,  # examples of an update, over all devices
      'epochs': 10.0,  # passes over the training split
      'steps': 0,  # updates instead of epochs, 0 = as epochs says
      'accumulation_steps': 1,  # micro-batches of an update, one at a time
      'log_every_steps': 20,  # updates between two lines of metrics.jsonl
      'checkpoint_every_steps': 200,  # updates between two checkpoints
      'keep_checkpoints': 2,  # how many of the latest checkpoints stay
  })


def optim(learning_rate=1e-3):
  """AdamW, its rate warmed up and then lowered by half a cosine."""
  return ConfigDict({
      'learning_rate': learning_rate,  # the highest, after the warm-up
      'betas': (0.9, 0.95),  # decay of the means of gradients and of squares
      'eps': 1e-8,  # added to the root of the squares' mean
      'weight_decay': 0.0,  # of matrices, times the learning rate
      'warmup_epochs': 1.0,  # epochs of the line up from 0
      'min_learning_rate': 0.0,  # where the cosine ends
      'gradient_clip_norm': 0.0,  # the largest norm of a gradient, 0 = any
  })


def data():
  return ConfigDict({
      'name': 'shapes',  # the data set; 'shapes' is rendered here
      'root': '',  # directory of the data set; '' = the cache, for shapes
      'strict': False,  # refuse unusable entries; False lists them as skipped
      'sizes': {  # of shapes world
          'train': 1500,  # clips to train on
          'validation': 200,  # clips to choose weights on
          'test': 200},  # clips to report
      'seed': 0,  # of what shapes world shows and says
      'cache_gb': 2.0,  # GiB of decoded media that are kept in memory
      'max_pixels': 89478485,  # of an image or frame; larger ones are left out
      'alpha': 'white',  # behind images; 'released' = hidden colours show
  })


def add_images(config):
  """Still images of shapes world."""
  config.data.update({
      'images': {  # of shapes world
          'train': 0,  # still images to train on
          'validation': 0,  # still images to choose on
          'test': 0},  # still images to report
      'renderings': 1})  # how often each scene of shapes world is drawn


def model():
  """A decoder that is trained from scratch on CPU in minutes."""
  return ConfigDict({
      'vocab_size': 640,  # tokens, 0 = as many as the tokenizer has
      'width': 128,  # of the residual stream
      'mlp_width': 256,  # hidden units of an MLP
      'layers': 2,  # transformer blocks
      'heads': 4,  # attention heads of queries
      'kv_heads': 2,  # attention heads of keys and values
      'head_width': 32,  # numbers of a head
      'rope_theta': 1e4,  # base of the rotary frequencies
      'norm_eps': 1e-6,  # added to the mean square in RMS norms
      'tie_embeddings': True,  # the head is the token table
      'dtype': 'float32',  # of computation: 'float32' or 'bfloat16'
      'param_dtype': 'float32',  # of weights: 'float32' or 'bfloat16'
  })


def add_weights(config, lora_alpha):
  """Where a model's weights come from, and which of them are trained."""
  config.model.update({
      'pretrained': '',  # directory or hub model, '' = by the sizes given here
      # Directory or hub model; '' = the model's, or one trained here.
      'tokenizer': '',
      # What is computed again backward, to save memory: 'none', 'dots', 'full'
      # (all of a layer), or 'offload' (products are kept on the host).
      'remat': 'none',
      # Kernel: 'xla', 'cudnn', 'splash', 'heads' (for CPUs) or 'auto'.
      'attention': 'xla',
      'trainable': ('.*',),  # regexes of whole parameter paths
      'lora': {
          'rank': 0,  # rank of the factors, 0 = no LoRA
          'alpha': lora_alpha,  # the factors are scaled by alpha / rank
          'dropout': 0.0,  # share of inputs left out in training
          'targets': ()}})  # regexes of the linears that get factors


def encoder(mlp_width=288):
  """A small transformer."""
  return ConfigDict({
      'width': 96,  # of the residual stream
      'mlp_width': mlp_width,  # hidden units of an MLP
      'layers': 2,  # transformer blocks
      'heads': 4,  # attention heads
  })


def media():
  """What Qwen2-VL sees; of a video two frames, a slice of 4 x 4 patches."""
  return ConfigDict({
      'released': False,  # resize twice, as UNITE's code does
      'read_image': (TOKEN, 4 * TOKEN),  # least and most pixels of an image
      'read_video': (TOKEN, 4 * TOKEN),  # least and most pixels of a frame
      'processor': (TOKEN, 4 * TOKEN),  # least and most, resized once more
      'fps': 1.0,  # frames of a second that are looked at
      'min_frames': 2,  # frames of a video, at least
      'max_frames': 2,  # frames of a video, at most
      'n_frames': 2,  # of any video, 0 = by fps, min_frames and max_frames
  })


def base_embedder(method):
  """Of a method that embeds: its loss, its pairs, what it is evaluated on."""
  config = base(method)
  config.update({
      'before': (),  # sections that are trained first, in this order
      'init_from': '',  # workdir of a run whose result is taken as the start
      'starts_from': '',  # the stage that it goes on from
      'compare': (),  # sections that are trained beside it, to compare
      # In-batch contrast (UNITE section 3).
      'loss': {
          'temperature': 0.03,  # similarities are divided by it
          'dual': False,  # contrast candidates with queries, too
          'modality_mask': False,  # negatives of the target modality: MAMCL
          'multi_positive': False,  # equal candidates are all positives
          'released': True},  # as in the authors' code
      # What a stage is trained on.
      'pairs': {
          'sources': (),  # names of sources of pairs, () = all
          'weights': (),  # shares of the sources, () = by size
          'per_source': False},  # whether each batch is of one source
      'data': data(), 'optim': optim(2e-3),
      'eval': {
          # 'shapes', 'folder', or benchmarks by name; () = none.
          'benchmarks': ('shapes',),
          # Of the benchmarks, of several in <root>/<name>; '' = data.root.
          'root': '',
          'split': 'test',  # the split that is reported
          'tasks': (),  # tasks of a benchmark, () = all
          'batch_size': 32,  # items of a batch, over all devices
          'max_tokens': 0,  # tokens of an item, 0 = as in training
          # What all items are padded to, as data.shape; () = their own buckets.
          'shape': (),
          'gallery_queries': 4,  # queries shown in report.html
          'embed_media': False}})  # report.html holds their files, not links
  add_images(config)
  config.data.update({
      'max_tokens': 512,  # tokens of an item, visual ones included
      # (tokens, rows, patches), or (tokens, pixels of a side) of MM-Embed, that
      # all items are padded to; () = measured from the headers of all media.
      'shape': ()})
  config.optim.update(warmup_epochs=0.1, gradient_clip_norm=1.0)
  return config
