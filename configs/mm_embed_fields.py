"""Fields of MM-Embed's configs, with the sizes of the tiny model.

Where the paper leaves a point open, the comment says so: [open].
"""
from ml_collections import ConfigDict

from configs import embedding, mm_embed_rerank

# The paper counts eleven; these are the first of NV-Embed-v1's list.
TEXT_SETS = ('msmarco', 'hotpotqa', 'nq', 'paq', 'stackexchange', 'nli',
             'squad', 'arguana', 'bioasq', 'fiqa', 'fever')


def splits(train, validation, test):
  return {'train': train, 'validation': validation, 'test': test}


def base():
  config = embedding.base('mm_embed')
  config.update({'model': model(), 'vision': vision(), 'latent': latent()})
  # A stage of this run that mines negatives for this one, or directories that
  # task=mine wrote, with commas between; empty = those in the batch alone.
  config.negatives = ''
  config.loss = ConfigDict({
      'temperature': 0.05,  # [open]; the released card hints at 0.01
      # Whether a query's own document is no negative where the batch holds it
      # once more [open].
      'mask_duplicates': True})
  config.mine = ConfigDict({
      # The first k candidates; those of the right modality count after rank
      # `offset` (k'). Queries that are searched for at a time.
      'k': 50, 'offset': 45, 'part_queries': 65536})
  config.rerank = mm_embed_rerank.fields()
  config.data.update({
      # data.name 'mbeir': sets in BEIR's layout, in folders of text_root, that
      # are trained on besides; texts and instructions as UniIR tidies [open].
      'text_sets': (), 'text_root': '', 'tidy': False,
      # data.shape of candidates and negatives; () = that of queries.
      'candidate_shape': (),
      # Of shapes world: scenes that text is compared on.
      'texts': splits(0, 0, 0)})
  # What queries of CIRCO are told; ours [open].
  config.eval.circo_instruction = (
      'Retrieve a day-to-day image that aligns with the modification '
      'instructions of the provided image.')
  return config


def model():
  return ConfigDict({
      # Weights: nvidia/MM-Embed or nvidia/NV-Embed-v1. With `llava`, what
      # training starts from: the latter with LLaVA-NeXT's tower and projector.
      'pretrained': '', 'llava': '', 'tokenizer': '',
      # Where its retriever's config.json lies, if not at the name it gives;
      # rope_theta 0 = as that says, or must say where weights are given.
      'retriever': '', 'rope_theta': 1e4, 'vocab_size': 768,
      'width': 128, 'mlp_width': 256, 'layers': 2, 'heads': 4, 'kv_heads': 2,
      'head_width': 32, 'norm_eps': 1e-5, 'tie_embeddings': True,
      'dtype': 'float32', 'param_dtype': 'float32', 'remat': False,
      # Add 'params/latent_attention/.*' to train that too [open]; targets and
      # dropout of LoRA are open as well.
      'trainable': ('.*',),
      'lora': {'rank': 0, 'alpha': 64, 'dropout': 0.0, 'targets': ()}})


def vision():
  return ConfigDict({
      'encoder': {'width': 96, 'mlp_width': 288, 'layers': 2, 'heads': 4,
                  'activation': 'quick_gelu'}, 'image_px': 56, 'patch_px': 14})


def latent():
  return ConfigDict({'latents': 32, 'heads': 2, 'head_width': 64,
                     'expansion': 1})
