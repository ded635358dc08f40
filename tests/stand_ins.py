"""What the examples of README and docs name, tiny: models, runs, media.

Models lie in a cache of the hub of their own under the names that the examples
say, so that an example runs as it is printed.
"""
import json
import os
import pathlib
import shutil

import numpy as np

from jaxret.exporting import export as exporting
from tests import (
  hub_caches,
  numbered_videos,
  tables,
  tiny_exports,
  tiny_index,
  tiny_runs,
  tiny_sentence_bert,
)

GOLDEN = pathlib.Path(__file__).parent / 'golden'
# {name of a model in an example: what stands for it}; callables write it.
MODELS = {
    'google/siglip2-base-patch16-224': GOLDEN / 'siglip2' / 'model',
    'openai/clip-vit-base-patch32': GOLDEN / 'clip' / 'model',
    'Qwen/Qwen3-VL-2B-Instruct': GOLDEN / 'qwen3_vl' / 'model',
    'Qwen/Qwen3-VL-Embedding-2B': GOLDEN / 'qwen3_vl' / 'model',
    'Qwen/Qwen3-VL-Reranker-2B': GOLDEN / 'qwen3_vl' / 'model',
    'Alibaba-NLP/GVE-3B': GOLDEN / 'qwen25_vl' / 'model',
    'Qwen/Qwen2-VL-2B-Instruct': 'qwen2_vl',
    'friedrichor/Unite-Base-Qwen2-VL-2B': 'qwen2_vl',
    'sentence-transformers/all-MiniLM-L6-v2': 'bert'}
# {what an example says: what a tiny model can do}.
SMALLER = {'truncate_dim=512': 'truncate_dim=8'}
IMAGES = ('photo.jpg', 'dog.jpg', 'a.jpg', 'c.jpg', 'f0.png', 'f1.png',
          'clips/a.png', 'DIR/bridge.jpg')
VIDEOS = ('clips/b.mp4', 'kitchen.mp4', 'dog.mp4', 'b.mp4', 'DIR/kitchen.mp4',
          'DIR/dog.mp4')
# What examples leave to the reader, by page.
_MEDIA = {'videos': ['kitchen.mp4', 'dog.mp4'],
          'texts': ['a man cuts an onion', 'a dog runs'],
          'items': [{'video': 'dog.mp4'}],
          'prompts': ['It shows'],
          'questions': ['What runs?'],
          'choices': [['a dog', 'a cat']],
          'right': [0]}
_RANKS = {'values': np.arange(8.0), 'baseline': np.arange(8.0)[::-1],
          'ranks': np.array([1, 1, 2, 4]), 'others': np.array([1, 3, 2, 9])}
GIVEN = {
    'blim': _MEDIA | {'model': 'Qwen/Qwen2-VL-2B-Instruct'},
    'likelihood': _MEDIA | _RANKS}


def smaller(text):
  """An example, less what the models here are too small for."""
  for said, done in SMALLER.items():
    text = text.replace(said, done)
  return text


def models(root):
  """A cache of the hub with MODELS, below a directory; (cache, unite's run)."""
  made = {'bert': root / 'bert', 'qwen2_vl': root / 'qwen2_vl'}
  made['bert'].mkdir()
  tiny_sentence_bert.save(made['bert'])
  run, _ = tiny_exports.unite(root / 'unite')
  exporting.export(run, made['qwen2_vl'])
  (made['qwen2_vl'] / 'jaxret.json').unlink()  # as others publish it
  cache = root / 'hub'
  for name, directory in MODELS.items():
    hub_caches.model(cache, name, made.get(directory, directory))
  return cache, run


def workdirs(root, unite, cache):
  """The runs that examples name, in root/workdirs."""
  base = root / 'base'
  shutil.copytree(cache.parent / 'qwen2_vl', base)
  (base / 'README.md').write_text('---\nlicense: mit\n---\n')
  runs = root / 'workdirs'
  runs.mkdir()
  shutil.copytree(unite, runs / 'unite')
  tiny_exports.unite(runs / 'unite-lora', **{
      'model.pretrained': str(base), 'model.tokenizer': '',
      'model.vocab_size': 0})
  tiny_exports.leccr(runs / 'leccr')
  assert tiny_runs.run('', runs / 'blim', *tiny_runs.shapes_flags(
      root / 'corpus')) == 0
  shutil.copytree(runs / 'blim', runs / 'blim-seed1')
  exporting.export(runs / 'unite-lora', root / 'WORKDIR' / 'adapter', 'peft')


def media(root, captions):
  """Files of all names; captions: the captions.json of the folder DIR."""
  for number, name in enumerate(IMAGES):
    tiny_index.picture(root / name, number)
  for number, name in enumerate(VIDEOS):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(numbered_videos.video(30 + number))
  (root / 'DIR' / 'captions.json').write_text(json.dumps(captions))


def data_sets(cache):
  """hf://owner/name, a table of pictures, and hf://mteb/NAME."""
  pictures = [tables.medium(tables.png(i)) for i in range(4)]
  part = cache.parent / 'part.parquet'
  def written(**columns):
    tables.parquet(part, **columns)
    return part.read_bytes()
  said = ['red', 'blue', 'up', 'left']
  hub_caches.snapshot(cache, 'owner/name', {
      'data/test-0.parquet': written(image=(tables.MEDIUM, pictures),
                                     caption=said)})
  names = [str(i) for i in range(4)]
  hub_caches.snapshot(cache, 'mteb/NAME', {
      'corpus/test-0.parquet': written(id=names, image=(
          tables.MEDIUM, pictures)),
      'queries/test-0.parquet': written(id=names, text=said),
      'qrels/test-0.parquet': written(**{
          'query-id': names, 'corpus-id': names, 'score': [1] * 4})})


def environment(monkeypatch, cache):
  """Nothing is asked of a hub, and nothing of the user's own is read."""
  hub_caches.use(monkeypatch, cache)
  for name in ('HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE'):
    monkeypatch.setenv(name, '1')
  for name in ('XDG_CACHE_HOME', 'JAXRET_CACHE', 'MTEB_CACHE'):
    monkeypatch.setenv(name, str(cache.parent / name.lower()))
  assert os.environ['HF_HUB_OFFLINE'] == '1'
