"""Reranking against the installed transformers; needs PyTorch."""
import jax
import numpy as np
import pytest

import jaxret
from jaxret.bench import rerank as bench
from jaxret.data.qwen3_vl import pixels
from tests import tiny_generators, tiny_rerankers, tiny_unite

pytestmark = pytest.mark.slow

RESOLUTION = pixels.Resolution(image=(1024, 6144), frame=(1024, 4096),
                               listed_px=32)
QUERIES = ('a dog runs', {'image': tiny_unite.pixels(3, 64, 64),
                          'text': 'two cats'})
CANDIDATES = ('a dog', {'image': tiny_unite.pixels(0, 40, 100)},
              {'image': tiny_unite.pixels(1, 96, 64), 'text': 'on the grass'},
              'two dogs run on the grass')


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """(directory, the model of transformers that it holds)."""
  torch = pytest.importorskip('torch')
  from jaxret.bench import torch_rerank
  directory = tmp_path_factory.mktemp('saved')
  tokenizer = tiny_generators.save_tokenizer(directory)
  config = bench.PRESETS['tiny'].config
  special = {kind: tokenizer.encode(f'<|{kind}_pad|>')[0]
             for kind in ('image', 'video')}
  params = bench.qwen3_vl.init(config, jax.random.key(1))
  params = jax.tree.map(lambda leaf: np.asarray(leaf) * (1 + leaf.ndim // 2),
                        params)
  model = torch_rerank.load(config, params, special).float().eval()
  model.config.vision_start_token_id = tokenizer.encode('<|vision_start|>')[0]
  model.config.vision_end_token_id = tokenizer.encode('<|vision_end|>')[0]
  model.save_pretrained(directory)
  return directory, model, torch


def test_a_saved_model_reranks_as_transformers(saved):
  directory, theirs, torch = saved
  model = jaxret.load_reranker(
      directory, resolution=RESOLUTION, mesh=tiny_rerankers.one_device())
  from jaxret.bench import torch_rerank
  read, frame = model.reader, model.frame
  want = np.empty((len(QUERIES), len(CANDIDATES)), np.float32)
  words = read.words(frame)
  for q, c in np.ndindex(want.shape):
    inputs = read(*(jaxret.embedder.as_item(one, 0) for one in (
        QUERIES[q], CANDIDATES[c])))
    with torch.no_grad():
      logits = theirs(
          **torch_rerank.batch([inputs], read.special)).logits[0, -1]
    want[q, c] = logits[words[0]] - logits[words[1]]
  found = jaxret.rerank(QUERIES, CANDIDATES, model, show_progress=False)
  assert want.std() > 0.1
  np.testing.assert_allclose(found.log_odds, want, atol=2e-4)
