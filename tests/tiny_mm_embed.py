"""Whole runs of MM-Embed through the command line, small enough for a test."""
import functools

from jaxret import main
from tests import tiny_runs

CONFIG = tiny_runs.ROOT / 'configs' / 'mm_embed.py'
flags, run = tiny_runs.flags, functools.partial(tiny_runs.run, config=CONFIG)
# Of the default config: one layer everywhere, two steps of each stage.
FIELDS = {
    'model.width': 16, 'model.mlp_width': 32, 'model.layers': 1,
    'model.heads': 2, 'model.kv_heads': 1, 'model.head_width': 8,
    'model.vocab_size': 400, 'vision.encoder.width': 16,
    'vision.encoder.layers': 1, 'vision.encoder.heads': 2,
    'vision.encoder.mlp_width': 32, 'latent.latents': 4,
    'latent.head_width': 8, 'train.batch_size': 8, 'train.steps': 2,
    'start.train.steps': 2, 'random.train.steps': 2, 'hard.train.steps': 2,
    'data.renderings': 2,
    'data.images.train': 24, 'data.images.validation': 24,
    'data.images.test': 24, 'data.texts.train': 12,
    'data.texts.validation': 2, 'data.texts.test': 8,
    'data.shape': (160, 56), 'data.candidate_shape': (),
    'eval.shape': (160, 56), 'rerank.shape': (),
    'eval.gallery_queries': 2, 'mine.k': 10, 'mine.offset': 6,
    'rerank.train.batch_size': 8, 'rerank.train.steps': 2,
    'rerank.train_shape': (150, 1, 4, 100, 1)}


@functools.cache
def questions():
  """{(modality of the query, of the candidate): what a published run asks}."""
  asked = main.load_config(f'{CONFIG}:mbeir').rerank.questions.to_dict()
  return {tuple(part.replace('image_text', 'image,text')
                for part in name.split('_to_')): question
          for name, question in asked.items()}
