"""Whole tiny runs of every paper, and all that they are about, to the bit."""
import hashlib
import json

import numpy as np

from jaxret.scoring.embeddings import store
from tests import (
  tiny_cross_lingual,
  tiny_embedding,
  tiny_mm_embed,
  tiny_runs,
)

SYSTEMS = 'blim', 'unite', 'mm_embed', 'leccr', 'answers'
OFTEN = {'train.checkpoint_every_steps': 1, 'train.keep_checkpoints': 2}
ANSWERS = {
    'data.sizes.train': 12, 'data.sizes.validation': 4, 'data.sizes.test': 5,
    'model.width': 24, 'model.mlp_width': 32, 'model.head_width': 8,
    'model.heads': 2, 'model.kv_heads': 2, 'model.layers': 1,
    'model.vocab_size': 400, 'model.rope_sections': (2, 1, 1),
    'vision.width': 16, 'vision.heads': 2, 'vision.layers': 1,
    'vision.mlp_width': 32, 'train.batch_size': 8, 'train.steps': 3,
    'eval.captions': 2, 'eval.max_new_tokens': 3, 'eval.rows': 8}


def command(system, root):
  """(config file, flags) of a system's default run at tiny size."""
  if system == 'blim':
    flags = tiny_runs.shapes_flags(root, **OFTEN)
  elif system == 'unite':
    flags = tiny_embedding.shapes_flags(root, **OFTEN, compare=())
  elif system == 'mm_embed':
    flags = tiny_runs.flags(
        {'data.root': root, **tiny_mm_embed.FIELDS, **OFTEN})
  elif system == 'leccr':
    flags = tiny_cross_lingual.shapes_flags(
        root, **{'data.languages': ('de',), 'compare': (),
                 'train.keep_checkpoints': 2})
  else:
    flags = tiny_runs.flags({'data.root': root, **ANSWERS, **OFTEN})
  return tiny_runs.ROOT / 'configs' / f'{system}.py', flags


def numbers(workdir):
  """{what: its bytes, or a digest}: results, scores, embeddings, parameters.

  Embeddings are told by their vectors alone, since where media lie and when
  they were written is in their keys; what is not as it was written is none.
  """
  found = {'results.json': (workdir / 'results.json').read_bytes()}
  vectors = set()
  for path in workdir.rglob('*.npy'):
    name = str(path.relative_to(workdir))
    if 'embeddings/' in name:
      block = np.load(path)
      vectors |= {row['vector'].tobytes()
                  for row in block[block['crc32'] == store._sums(block)]}
    elif '.crc32.' not in name:
      found[name] = np.load(path).tobytes()
  found['embeddings'] = hashlib.sha256(b''.join(sorted(vectors))).digest()
  for path in workdir.rglob('checkpoints/*/run/metadata'):
    sums = json.loads(path.read_bytes()).get('checksums')
    found[str(path.relative_to(workdir))] = (
        {name: one for name, one in sums.items() if name != 'run'}
        if isinstance(sums, dict) else sums)
  for path in [*workdir.rglob('mined/*.jsonl'), *workdir.glob(
      'descriptions/*.jsonl')]:
    lines = [json.loads(line) for line in path.read_bytes().splitlines()
             if line.endswith(b'}')]
    found[str(path.relative_to(workdir))] = sorted(
        json.dumps([line.get(name) for name in (
            'id', 'text', 'query', 'positive', 'negative')])
        for line in lines if 'settings' not in line or 'id' in line)
  return found


def differences(found, wanted):
  """Names of what is otherwise, or there in one alone."""
  return sorted(name for name in {*found, *wanted}
                if found.get(name) != wanted.get(name))
