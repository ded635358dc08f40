"""Reranking with LLaVA-NeXT: tiles, prompts, logits, P(True), new orders."""
import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxret import sharding
from jaxret.data import text as text_lib
from jaxret.data import types
from jaxret.data.llava import images as llava_images
from jaxret.data.llava import question_prompts as rerank_prompts
from jaxret.data.llava import questions as rerank_inputs
from jaxret.methods.mm_embed import ask as evaluator
from jaxret.models import clip
from jaxret.models.llava import files as llava_next_files
from jaxret.models.llava import model as llava_next
from jaxret.scoring.embeddings import rerank
from tests import tiny_mm_embed
from tests.parity import mm_embed_reference as reference
from tests.parity.mm_embed_reference import HIDDEN, LOGITS

PIXELS = 1e-5
PROBABILITY = 1e-5
RELEASED = '_442'  # what transformers 4.42.4 makes of tiles

p_true = jax.jit(llava_next.p_true, static_argnums=0)


@pytest.fixture(scope='module')
def model(mm_embed_golden):
  return reference.reranker(mm_embed_golden)


@pytest.fixture(scope='module')
def table(mm_embed_golden):
  return reference.table(mm_embed_golden, 'rerank/cases.json')


@pytest.fixture(scope='module')
def images(mm_embed_golden):
  return reference.images(mm_embed_golden, 'rerank')


@pytest.fixture(scope='module')
def tokenizer(mm_embed_golden):
  return text_lib.load_tokenizer(mm_embed_golden / 'model')


@pytest.fixture(scope='module')
def cases(mm_embed_golden, table):
  return {name: reference.read(mm_embed_golden, f'rerank/{name}.npz')
          for name in table['cases']}


def prompts(case):
  """[(prompt, numbers of its images)] of a case."""
  if 'prompt' in case:
    return [(case['prompt'], [case['image']])]
  return [(prompt, its if isinstance(its, list) else [its])
          for prompt, its in zip(case['prompts'], case['images'])]


def has_tiles(arrays):
  return arrays['pixel_values'].shape[1] > 1


def grid_of(model, arrays, transposed=False):
  if not has_tiles(arrays):
    return reference.crop_0(model)
  return model.grid._replace(transposed=transposed)


def inputs(model, grid, ids, seen):
  """A prompt's golden tokens with its images, as rerank_inputs reads them."""
  orders = [llava_images.token_order(image.shape[:2], grid) for image in seen]
  is_image = ids == model.image_id
  counts = np.ones(len(ids), int)
  counts[is_image] = [len(order) for order in orders]
  tokens = np.repeat(np.where(is_image, rerank_inputs.VISUAL, ids), counts)
  image, patch = (np.full(len(tokens), rerank_inputs.TEXT) for _ in range(2))
  visual = tokens == rerank_inputs.VISUAL
  image[visual] = np.repeat(np.arange(len(orders)), counts[is_image])
  patch[visual] = np.concatenate(orders)
  return rerank_inputs.Inputs(
      'golden', tokens, image, patch,
      tuple(llava_images.crops(one, grid) for one in seen))


def padded(model, case, arrays, images, transposed=False):
  """A golden case as models.llava.model gets it, with the golden pixels."""
  grid = grid_of(model, arrays, transposed)
  rows = [inputs(model, grid, ids, [images[i] for i in numbers])
          for ids, (_, numbers) in zip(reference.rows(arrays), prompts(case))]
  crops = max(sum(map(len, row.images)) for row in rows)
  batch = rerank_inputs.pad(rows, rerank_inputs.Shape(
      max(len(row.tokens) for row in rows), crops), grid)
  golden = list(reference.channels_last(arrays['pixel_values']))
  batch['pixels'] = np.zeros(batch['pixels'].shape, np.float32)
  for row, pixels in zip(rows, batch['pixels']):
    own = np.concatenate([golden.pop(0)[:len(one)] for one in row.images])
    pixels[:len(own)] = own
  return batch


def states(module, batch):
  """(input embeddings, logits of the last token)."""
  x = module.inputs(batch['tokens'], batch['pixels'], batch['visual_index'])
  terms = module.vocabulary_terms(module.last(batch))
  return x, sum(left @ right for left, right in terms)


def all_logits(module, batch):
  x = module.inputs(batch['tokens'], batch['pixels'], batch['visual_index'])
  keys = np.arange(x.shape[1]) < batch['length'][:, None]
  return sum(left @ right for left, right in module.vocabulary_terms(
      module.hidden(x, keys)))


def projected(module, pixels):
  return module.projector(module.patches(pixels))


def words(table, kind):
  ids = table['token_ids']
  return np.array([ids[f'true_{kind}'], ids[f'false_{kind}']])


def kinds(table):
  return [key.removeprefix('true_') for key in table['token_ids']
          if key.startswith('true_')]


def test_mm_embed_rerank_crops_and_tiles(model, table, images, cases):
  for name, arrays in cases.items():
    numbers = [number for _, its in prompts(table['cases'][name])
               for number in its]
    for number, want, size in zip(
        numbers, arrays['pixel_values'], arrays['image_sizes']):
      crops = llava_images.crops(images[number], grid_of(model, arrays))
      np.testing.assert_array_equal(images[number].shape[:2], size)
      assert llava_images.n_crops(
          tuple(size), grid_of(model, arrays)) == len(crops)
      np.testing.assert_allclose(
          clip.pixel_values(crops),
          reference.channels_last(want[:len(crops)]), atol=PIXELS,
          err_msg=f'{name} {number}')
      assert not want[len(crops):].any()  # images of a batch differ in crops


@pytest.mark.parametrize('transposed', [False, True])
def test_mm_embed_rerank_visual_tokens(
    model, table, images, cases, transposed):
  """Projected patches, and their order with newlines; both tile grids."""
  suffix, checked = RELEASED if transposed else '', 0
  for name, arrays in cases.items():
    if f'image_features_packed{suffix}' not in arrays:
      continue
    pixels = reference.channels_last(arrays['pixel_values'])
    patches = reference.apply(model, projected, pixels.reshape(
        -1, *pixels.shape[2:]))
    counts = [llava_images.n_crops(tuple(size), grid_of(model, arrays))
              for size in arrays['image_sizes']]
    there = np.arange(pixels.shape[1]) < np.array(counts)[:, None]
    np.testing.assert_allclose(
        patches[there.ravel()], arrays['projector_out'], atol=HIDDEN,
        err_msg=name)
    tokens = np.asarray(reference.apply(
        model, llava_next.LlavaNext.visual_tokens, pixels))
    packed = []
    for row, size in zip(tokens, arrays['image_sizes']):
      order = llava_images.token_order(
          tuple(size), grid_of(model, arrays, transposed))
      packed.append(row[order + 1])
    if f'feature_lens{suffix}' in arrays:
      assert [len(one) for one in packed] == arrays[
          f'feature_lens{suffix}'].tolist()
    np.testing.assert_allclose(
        np.concatenate(packed), arrays[f'image_features_packed{suffix}'],
        atol=HIDDEN, err_msg=name)
    checked += 1
  assert checked


@pytest.mark.parametrize('transposed', [
    False, pytest.param(True, marks=pytest.mark.slow)])
def test_mm_embed_rerank_logits_and_probabilities(
    model, table, images, cases, transposed):
  suffix, checked = RELEASED if transposed else '', 0
  for name, arrays in cases.items():
    if f'last_logits{suffix}' not in arrays:
      continue
    batch = padded(model, table['cases'][name], arrays, images, transposed)
    x, logits = reference.apply(model, states, batch)
    np.testing.assert_allclose(logits, arrays[f'last_logits{suffix}'],
                               atol=LOGITS, err_msg=name)
    if f'last_logits_batched{suffix}' in arrays:
      np.testing.assert_allclose(
          logits, arrays[f'last_logits_batched{suffix}'], atol=LOGITS)
    if not transposed and 'merged_embeds' in arrays:
      for row, golden, keep in zip(
          np.asarray(x), arrays['merged_embeds'],
          arrays['merged_attention_mask'].astype(bool)):
        np.testing.assert_allclose(row[:keep.sum()], golden[keep], atol=HIDDEN)
    for kind in kinds(table):
      got = p_true(model.config, model.params, batch, words(table, kind))
      np.testing.assert_allclose(got, arrays[f'p_true_{kind}{suffix}'],
                                 atol=PROBABILITY, err_msg=f'{name} {kind}')
    checked += 1
  assert checked


def test_mm_embed_rerank_logits_of_all_tokens(model, table, images, cases):
  checked = 0
  for name, arrays in cases.items():
    if 'row0_all_logits' in arrays:
      batch = padded(model, table['cases'][name], arrays, images)
      logits = reference.apply(model, all_logits, batch)
      want = arrays['row0_all_logits']
      np.testing.assert_allclose(
          logits[0, :len(want)], want, atol=LOGITS, err_msg=name)
      checked += 1
  assert checked


def test_mm_embed_rerank_words(table, tokenizer):
  assert rerank_prompts.answer_ids(tokenizer) == tuple(
      words(table, 'leading_space'))
  unspaced = rerank_prompts.answer_ids(tokenizer, spaced=False)
  assert len(set(unspaced)) == 2
  assert set(unspaced).isdisjoint(words(table, 'leading_space'))


def template_of(body, n_images):
  """(template of ours, the text in its field) that give a golden prompt.

  A question that is none of ours is a template without a field.
  """
  for template in tiny_mm_embed.questions().values():
    before, field, after = template.partition('{query}')
    if (template.count(rerank_prompts.IMAGE) == n_images and field
        and body.startswith(before) and body.endswith(after)):
      return template, body.removeprefix(before).removesuffix(after)
  return body, ''


def questions(case, images):
  """[(query Item, candidate Item, template)]: what our reader makes of them
  is the golden prompt again.

  Of a prompt with several images the first is the query's; else the image is
  the candidate's and the text the query's.
  """
  for number, (prompt, its) in enumerate(prompts(case)):
    body = prompt.removeprefix('[INST] ').removesuffix(' [/INST]')
    template, text = template_of(body, len(its))
    query = types.Item(f'q{number}', text,
                       images[its[0]] if len(its) > 1 else None)
    yield query, types.Item(f'c{number}', None, images[its[-1]]), template


def test_mm_embed_rerank_prompts_and_tokens(
    model, table, images, cases, tokenizer):
  for name, arrays in cases.items():
    grid = grid_of(model, arrays)
    reader = rerank_inputs.Reader(
        tokenizer, grid, model.config.decoder.vocab_size)
    golden = reference.rows(arrays)
    for number, (query, candidate, template) in enumerate(
        questions(table['cases'][name], images)):
      assert rerank_prompts.prompt(template, query, candidate) == (
          prompts(table['cases'][name])[number][0])
      got = reader(query, candidate, template)
      want = inputs(model, grid, golden[number], [
          item.image for item in (query, candidate) if item.image is not None])
      for field in ('tokens', 'image', 'patch'):
        np.testing.assert_array_equal(
            getattr(got, field), getattr(want, field), err_msg=name)
      for ours, theirs in zip(got.images, want.images):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_mm_embed_rerank_shared_prefixes_change_nothing(
    model, table, images, cases, tokenizer):
  """Each query with its own candidate first, the others behind it."""
  for name, arrays in cases.items():
    reader = rerank_inputs.Reader(
        tokenizer, grid_of(model, arrays), model.config.decoder.vocab_size)
    asked = list(questions(table['cases'][name], images))
    candidates = [candidate for _, candidate, _ in asked]
    alike = all(template == asked[0][2] for _, _, template in asked)
    batches = [range(len(asked))] if alike else [
        [number] for number in range(len(asked))]
    kind = kinds(table)[0]
    reranker = evaluator.Reranker(
        model.config, model.params, reader, words(table, kind), batch_size=2)
    for numbers in batches:
      got = reranker.p_true(
          [asked[i][0] for i in numbers],
          [candidates[i:] + candidates[:i] for i in numbers],
          asked[numbers[0]][2], show_progress=False)
      np.testing.assert_allclose(
          got[:, 0], arrays[f'p_true_{kind}'][list(numbers)],
          atol=PROBABILITY, err_msg=name)


def test_mm_embed_rerank_weights_of_newer_names_are_the_same(
    mm_embed_golden, model, tmp_path):
  """As newer versions of transformers write them."""
  tensors = reference.tensors(mm_embed_golden / 'rerank')
  def renamed(key):
    if key.startswith('language_model.lm_head.'):
      return key.removeprefix('language_model.')
    return 'model.' + key.replace('language_model.model.', 'language_model.')
  safetensors.numpy.save_file(
      {renamed(key): tensor for key, tensor in tensors.items()},
      tmp_path / 'model.safetensors')
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  params = llava_next_files.load(tmp_path, model.config, mesh)
  jax.tree.map(np.testing.assert_array_equal, params, model.params)
  tensors['lm_head.weight'] = -tensors['language_model.lm_head.weight']
  safetensors.numpy.save_file(tensors, tmp_path / 'model.safetensors')
  with pytest.raises(ValueError, match='lm_head.weight are the same parameter'):
    llava_next_files.load(tmp_path, model.config, mesh)


def test_mm_embed_rerank_orders(mm_embed_golden):
  table = reference.table(mm_embed_golden, 'rerank/reorder.json')
  scores, p_true = table['retrieval_score'], table['p_true']
  np.testing.assert_array_equal(
      rerank.reorder(scores, p_true), table['order_replace'])
  prefix = 'order_interpolate_w'
  for name in (key for key in table if key.startswith(prefix)):
    weight = float(name.removeprefix(prefix))
    np.testing.assert_array_equal(
        rerank.reorder(scores, p_true, 'interpolate', weight), table[name])
