"""LLaVA-NeXT through jaxret.rerank: the scores of MM-Embed's own run."""
import pathlib
import shutil

import numpy as np
import pytest

import jaxret
from configs import mm_embed as mm_embed_config
from jaxret.data import types
from jaxret.data.llava import pairs
from jaxret.methods.mm_embed import rerank_run
from tests import tiny_generators, tiny_rerankers

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'mm_embed'
pixels = tiny_generators.pixels
QUERIES = (types.Item('q0', text='a dog'),
           types.Item('q1', text='two cats', image=pixels(0, 20, 40)))
CANDIDATES = tuple(
    types.Item(f'c{i}', image=pixels(1 + i, 30, 20 + i)) for i in range(3))
KINDS = 'text_to_image', 'image_text_to_image'


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  """The golden reranker and the tokenizer that it was asked with."""
  path = tmp_path_factory.mktemp('reranker')
  for part in ('model', 'rerank'):
    for file in (GOLDEN / part).iterdir():
      if part == 'rerank' or 'token' in file.name:
        shutil.copy(file, path)
  return path


@pytest.fixture(scope='module')
def model(directory):
  return jaxret.load_reranker(
      directory, mesh=tiny_rerankers.one_device(), queries_at_once=2,
      candidates_at_once=2)


@pytest.mark.slow
def test_scores_are_those_of_the_method(directory, model):
  settings = mm_embed_config.get_config('mbeir').rerank
  settings.update(pretrained=str(directory), dtype='float32')
  own = rerank_run.published(settings, model.mesh)
  want = [own.p_true([query], [CANDIDATES], pairs.QUESTIONS[kind], False)[0]
          for query, kind in zip(QUERIES, KINDS)]
  found = jaxret.rerank(QUERIES, CANDIDATES, model, show_progress=False)
  assert np.ptp(want) > 1e-3
  np.testing.assert_allclose(found.scores, want, atol=1e-6)
  alone = jaxret.rerank(QUERIES[0], [CANDIDATES[2], 'a cat', CANDIDATES[0]],
                        model, show_progress=False)
  np.testing.assert_allclose(alone.scores[::2], found.scores[0, ::-2],
                             atol=1e-6)
  assert isinstance(model, jaxret.Reranker)


@pytest.mark.slow
def test_a_frame_is_calibrated_by_an_empty_candidate(model):
  found = jaxret.rerank('a dog', ['a cat'], model, frame='true_false',
                        calibrate=True, show_progress=False)
  again = jaxret.rerank('a dog', ['NULL', 'a cat'], model, frame='true_false',
                        show_progress=False)
  np.testing.assert_allclose(found.prior, again.log_odds[0], atol=1e-5)
  np.testing.assert_allclose(found.calibrated[0], np.diff(again.log_odds)[0],
                             atol=1e-5)


@pytest.mark.slow
def test_what_cannot_be_used_is_told_and_left_out(model):
  told = []
  found = jaxret.rerank(
      QUERIES, [CANDIDATES[0], {'id': 'v', 'video': pixels(0, 2, 8, 8)},
                {'id': 'gone', 'image': '/nowhere.png'}], model,
      on_error=told.append, show_progress=False)
  assert [str(error).split(':')[0] for error in told] == ['v', 'gone']
  np.testing.assert_array_equal(np.isnan(found.scores),
                                [[False, True, True]] * 2)


@pytest.mark.parametrize('options, said', [
    ({'features': 'kept'}, "features = 'kept' has no effect"),
    ({'calibrate': True}, 'calibrate = True'),
    ({'instruction': 'find'}, "instruction = 'find' has no effect"),
    ({'frame': 'yes_no'}, 'speaks as the system')])
def test_what_does_not_go_together_is_refused(model, options, said):
  with pytest.raises(ValueError, match=said) as error:
    jaxret.rerank('a dog', ['a cat'], model, **options)
  assert '\n' not in str(error.value)


def test_options_without_effect_are_refused(directory):
  from jaxret.data.qwen2_vl import pixels as qwen2_vl
  with pytest.raises(ValueError, match='resolution = .* has no effect'):
    jaxret.load_reranker(directory, resolution=qwen2_vl.Resolution())
  with pytest.raises(ValueError, match='anyres = True has no effect'):
    jaxret.load_reranker(GOLDEN.parent / 'qwen3_vl' / 'model', anyres=True)
