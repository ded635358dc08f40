"""Qwen3-VL-Reranker as its authors' script scores pairs."""
import functools

import jax
import numpy as np
import pytest

import jaxret
from jaxret import sharding
from jaxret.data.qwen2_vl import pairs as pairs_lib
from jaxret.data.qwen2_vl import reader as inputs_lib
from jaxret.data.qwen3_vl import pairs
from jaxret.models import reranking
from tests.parity import qwen3_vl_reference as reference
from tests.parity import test_qwen3_vl_embedding as embedding

LOG_ODDS, SCORES = 1e-4, 2e-5


@pytest.fixture(scope='module')
def golden(qwen3_vl_golden):
  return reference.table(qwen3_vl_golden, 'reranker/cases.json')


@pytest.fixture(scope='module')
def inputs(qwen3_vl_golden, golden):
  """[(case, number of the document, reader.Inputs)]; and the words' ids."""
  tokenizer, found = reference.tokenizer(qwen3_vl_golden), []
  for name, case in golden['cases'].items():
    given = case['input']
    options = {key: given[key] for key in ('fps', 'max_frames') if key in given}
    read = pairs.PairReader(
        tokenizer, embedding.settings(
            {'options': case['options'], 'qwen_vl_utils': ''}, options),
        case['options'].get('max_length', golden['defaults']['max_length']))
    query = embedding.item_of(qwen3_vl_golden, given['query'], name)
    for i, document in enumerate(given['documents']):
      candidate = embedding.item_of(qwen3_vl_golden, document, f'document {i}')
      found.append((name, i, read(query, candidate, given.get('instruction'))))
  return found, read.words(pairs_lib.DEFAULT_FRAME)


def arrays_of(folder, golden, name):
  return reference.read(folder, f'reranker/{golden["cases"][name]["file"]}')


def test_qwen3_vl_reranker_tokens(qwen3_vl_golden, golden, inputs):
  found, words = inputs
  special = reference.table(qwen3_vl_golden, 'cases.json')['special_tokens']
  assert words == (special['yes'], special['no'])
  for name, i, row in found:
    arrays = arrays_of(qwen3_vl_golden, golden, name)
    np.testing.assert_array_equal(
        row.tokens, arrays[f'in/{i}/input_ids'][0], err_msg=f'{name} {i}')


@pytest.mark.slow
def test_qwen3_vl_reranker_scores(qwen3_vl_golden, golden, inputs):
  model, (found, words) = reference.model(qwen3_vl_golden), inputs
  score = jax.jit(functools.partial(
      reranking.log_odds_of_pairs, model.config, words=np.array(words)))
  groups = {}
  for name, i, row in found:
    shape = inputs_lib.shape_of(len(row.tokens), row.grids)
    groups.setdefault(shape, []).append((name, i, row))
  for shape, group in groups.items():
    batch = embedding.reader_lib.pad(
        [row for *_, row in group], shape, model.special)
    for (name, i, _), got in zip(group, score(model.params, batch)):
      arrays = arrays_of(qwen3_vl_golden, golden, name)
      np.testing.assert_allclose(
          got, arrays[f'out/{i}/logit'].item(), atol=LOG_ODDS,
          err_msg=f'{name} {i}')
      np.testing.assert_allclose(
          jax.nn.sigmoid(got), arrays['out/scores'][i], atol=SCORES,
          err_msg=f'{name} {i}')


@pytest.mark.slow
def test_qwen3_vl_reranker_by_the_front_door(qwen3_vl_golden, golden):
  """jaxret.load_reranker and rerank: a query once, all its documents."""
  checked = 0
  for name, case in golden['cases'].items():
    given = case['input']
    options = {key: given[key] for key in ('fps', 'max_frames') if key in given}
    model = jaxret.load_reranker(
        qwen3_vl_golden / 'model', resolution=embedding.settings(
            {'options': case['options'], 'qwen_vl_utils': ''}, options),
        max_tokens=case['options'].get(
            'max_length', golden['defaults']['max_length']),
        mesh=sharding.make_mesh(devices=jax.devices()[:1]))
    found = jaxret.rerank(
        embedding.item_of(qwen3_vl_golden, given['query'], name),
        [embedding.item_of(qwen3_vl_golden, document, f'document {i}')
         for i, document in enumerate(given['documents'])],
        model, given.get('instruction'), show_progress=False)
    arrays = arrays_of(qwen3_vl_golden, golden, name)
    np.testing.assert_allclose(found.log_odds, [
        arrays[f'out/{i}/logit'].item() for i in range(len(found.log_odds))],
                               atol=LOG_ODDS, err_msg=name)
    np.testing.assert_allclose(found.scores, np.ravel(arrays['out/scores']),
                               atol=SCORES, err_msg=name)
    checked += len(found.scores)
  assert checked
