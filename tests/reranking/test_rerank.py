"""jaxret.rerank and jaxret.load_reranker, of directories."""
import json
import pathlib
import shutil

import numpy as np
import pytest

import jaxret
from jaxret.data.qwen3_vl import pixels
from tests import tiny_rerankers, tiny_unite

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
POLICY = pixels.Resolution(image=(1024, 4096))
GIVEN = ('a dog', [{'image': tiny_unite.pixels(1, 64, 96)}, 'a cat'])


@pytest.mark.slow
@pytest.mark.parametrize('name', ['qwen3_vl', 'qwen25_vl'])
def test_a_directory_reranks(name):
  options = {'resolution': POLICY} if name == 'qwen3_vl' else {}
  mesh = tiny_rerankers.one_device()
  model = jaxret.load_reranker(
      GOLDEN / name / 'model', mesh=mesh, **options)
  found = jaxret.rerank(*GIVEN, model, show_progress=False)
  want = tiny_rerankers.whole_pairs(model, [GIVEN[0]], GIVEN[1])[0]
  np.testing.assert_allclose(found.log_odds, want, atol=1e-4)
  assert isinstance(model, jaxret.Reranker)


@pytest.mark.slow
def test_a_model_may_be_named_by_its_directory():
  path = GOLDEN / 'qwen3_vl' / 'model'
  items = 'a dog', ['a cat', 'a dog']
  found = jaxret.rerank(*items, path, 'find it', show_progress=False)
  again = jaxret.rerank(*items, jaxret.load_reranker(path), 'find it',
                        show_progress=False)
  np.testing.assert_array_equal(found.scores, again.scores)


@pytest.mark.parametrize('change, options, said', [
    ({'model_type': 'clip'}, {},
     "got model_type 'clip', want llava_next or qwen2_5_vl or qwen2_vl"),
    ({'method': 'blim'}, {}, 'it is the workdir of a run'),
    ({}, {'frame': 'maybe'}, "frame: got 'maybe'"),
    ({}, {'alpha': 'released'}, "alpha = 'released' has no effect")])
def test_what_cannot_be_opened_is_one_line(change, options, said, tmp_path):
  for file in (GOLDEN / 'qwen3_vl' / 'model').iterdir():
    shutil.copy(file, tmp_path)
  path = tmp_path / 'config.json'
  path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
  with pytest.raises(ValueError, match=said) as error:
    jaxret.load_reranker(tmp_path, **options)
  assert '\n' not in str(error.value)
