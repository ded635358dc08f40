"""MM-Embed from pixels and tokens to embeddings, and NV-Embed-v1 on text."""
import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxret import sharding
from jaxret.models.llava import files as llava_next_files
from jaxret.models.llava import mm_embed, mm_embed_files
from tests.parity import mm_embed_reference as reference
from tests.parity.mm_embed_reference import EMBEDDINGS, HIDDEN


@pytest.fixture(scope='module')
def model(mm_embed_golden):
  return reference.model(mm_embed_golden)


@pytest.fixture(scope='module')
def cases(mm_embed_golden):
  """{name: arrays} of all cases."""
  listed = reference.table(mm_embed_golden, 'encode/cases.json')['cases']
  return {case['name']: reference.read(
      mm_embed_golden, f'encode/{case["file"]}') for case in listed}


@pytest.fixture(scope='module')
def length(model, cases):
  """One length for all cases: one program."""
  return max(reference.batch(arrays, model)['tokens'].shape[1]
             for arrays in cases.values())


def whole(module, batch):
  """(input embeddings, hidden states, latent outputs, embeddings)."""
  x = module.inputs(batch['tokens'], batch.get('pixels'),
                    batch.get('visual_index'))
  keys = np.arange(x.shape[1]) < batch['length'][:, None]
  hidden = module.hidden(x, keys)
  return x, hidden, module.token_outputs(hidden), module(batch)


def projected(module, pixels):
  return module.projector(module.patches(pixels))


def golden_pixels(arrays):
  """Crop 0 of every image, [images, S, S, 3]."""
  return reference.channels_last(arrays['pixel_values'][:, 0])


def test_mm_embed_sizes_come_from_the_retriever(mm_embed_golden, model):
  """text_config of config.json describes a decoder that does not run."""
  live = reference.table(mm_embed_golden, 'model/retriever_config.json')
  text, latent = live['text_config'], live['latent_attention_config']
  decoder = model.config.decoder
  assert (decoder.rope_theta, decoder.vocab_size, decoder.layers,
          decoder.norm_eps) == (
      text['rope_theta'], text['vocab_size'], text['num_hidden_layers'],
      text['rms_norm_eps'])
  assert (model.config.latent.latents, model.config.latent.heads) == (
      latent['num_latents_value'], latent['num_cross_heads'])


def test_mm_embed_vision_features(model, cases):
  checked = 0
  for name, arrays in cases.items():
    if 'pixel_values' not in arrays:
      continue
    pixels = golden_pixels(arrays)
    for method, key in ((mm_embed.MmEmbed.patches, 'clip_hidden_m2_nocls'),
                        (projected, 'projector_out')):
      np.testing.assert_allclose(
          reference.apply(model, method, pixels), arrays[key], atol=HIDDEN,
          err_msg=f'{name} {key}')
    tokens = np.asarray(reference.apply(
        model, mm_embed.MmEmbed.visual_tokens, pixels[:, None]))
    assert [len(one) for one in tokens] == arrays['feature_lens'].tolist()
    packed = np.concatenate([tokens[:, 1:], tokens[:, :1]], 1)
    np.testing.assert_allclose(
        packed.reshape(-1, packed.shape[-1]), arrays['image_features_packed'],
        atol=HIDDEN, err_msg=name)
    checked += 1
  assert checked


@pytest.mark.slow
def test_mm_embed_encoding(model, cases, length):
  """Merged inputs, hidden states, latent outputs and embeddings."""
  for name, arrays in cases.items():
    batch = reference.batch(arrays, model, length=length)
    *states, embedding = reference.apply(model, whole, batch)
    mask = arrays['merged_attention_mask'].astype(bool)
    np.testing.assert_array_equal(batch['length'], mask.sum(1), err_msg=name)
    for got, key in zip(states, ('merged_embeds', 'llm_last_hidden',
                                 'latent_tokens')):
      np.testing.assert_allclose(
          np.asarray(got)[:, :mask.shape[1]][mask], arrays[key][mask],
          atol=HIDDEN, err_msg=f'{name} {key}')
    pooled = pooled_places(batch)[:, :mask.shape[1]]
    np.testing.assert_array_equal(
        pooled, arrays['pool_mask'].astype(bool), err_msg=name)
    np.testing.assert_array_equal(
        np.broadcast_to(np.arange(mask.shape[1]), mask.shape)[mask],
        arrays['position_ids'][mask], err_msg=name)
    np.testing.assert_allclose(embedding, arrays['embedding'],
                               atol=EMBEDDINGS, err_msg=name)


def pooled_places(batch):
  place = np.arange(batch['tokens'].shape[1])
  return ((place >= batch['pool_start'][:, None])
          & (place < batch['length'][:, None]))


@pytest.mark.slow
def test_mm_embed_folded_attention_gives_the_same_embeddings(
    model, cases, length):
  config, params = mm_embed.fold(model.config, model.params)
  folded = model._replace(config=config, params=params)
  for name, arrays in cases.items():
    batch = reference.batch(arrays, model, length=length)
    embedding = reference.apply(folded, '__call__', batch)
    np.testing.assert_allclose(embedding, arrays['embedding'],
                               atol=EMBEDDINGS, err_msg=name)


@pytest.mark.slow
def test_mm_embed_does_not_depend_on_padding_or_neighbours(
    model, cases, length):
  """Every row alone and shorter, and among others: one embedding."""
  name, arrays = max(
      cases.items(), key=lambda case: len(np.unique(
          case[1]['merged_attention_mask'].sum(1))))
  batch = reference.batch(arrays, model)
  for row, size in enumerate(batch['length']):
    alone = {key: array[row:row + 1] for key, array in batch.items()}
    for key in ('tokens', 'visual_index'):
      if key in alone:
        alone[key] = alone[key][:, :size]
    embedding = reference.apply(model, '__call__', alone)
    np.testing.assert_allclose(embedding[0], arrays['embedding'][row],
                               atol=EMBEDDINGS, err_msg=f'{name} {row}')


def test_mm_embed_pads_right_where_the_authors_pad_left(
    mm_embed_golden, model):
  """Equally long rows, one of text alone: theirs pools instruction tokens."""
  arrays = reference.read(
      mm_embed_golden, 'defects/equal_rows_left_merge.npz')
  batch = reference.batch(arrays, model)
  embedding = reference.apply(model, '__call__', batch)
  np.testing.assert_allclose(
      embedding, arrays['correct_embedding_per_row'], atol=EMBEDDINGS)
  theirs = arrays['reference_attention_mask']
  assert (theirs[:, 0] == 0).any()  # padded on the left, where ours never is
  np.testing.assert_array_equal(theirs.sum(1), batch['length'])
  defect = np.abs(embedding - arrays['reference_embedding_defective']).max()
  assert defect > 100 * EMBEDDINGS


def nv_embed_directory(folder, out):
  """The golden model as NV-Embed-v1 is published: renamed, without a tower."""
  tensors = reference.tensors(folder / 'model')
  kept = {key.replace('language_model.', 'embedding_model.'): array
          for key, array in tensors.items()
          if key.startswith(('language_model.', 'latent_attention_model.'))}
  safetensors.numpy.save_file(kept, out / 'model.safetensors')
  shutil.copy(folder / 'model' / 'retriever_config.json', out / 'config.json')
  return out


def test_mm_embed_nv_embed_v1_on_text(mm_embed_golden, tmp_path):
  directory = nv_embed_directory(mm_embed_golden, tmp_path)
  config = mm_embed_files.read_config(directory).config
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  params = mm_embed_files.load(directory, config, mesh)
  assert config.vision is None
  model = reference.Model(config, params, None, None)
  arrays = reference.read(mm_embed_golden, 'encode/nvembed_v1_text.npz')
  for side in ('query', 'passage'):
    rows = reference.rows(arrays, f'{side}.')
    start = int(arrays[f'{side}.instruction_length'])
    batch = {'tokens': reference.stack(rows),
             'length': reference.lengths(rows),
             'pool_start': np.full(len(rows), start, np.int32)}
    np.testing.assert_array_equal(
        pooled_places(batch), arrays[f'{side}.pool_mask'].astype(bool))
    np.testing.assert_allclose(
        reference.apply(model, '__call__', batch),
        arrays[f'{side}.embedding'], atol=EMBEDDINGS, err_msg=side)


def llava_directory(folder, model, out):
  """The golden tower as LLaVA-NeXT is published, with a decoder that is not
  the one that runs."""
  tensors = reference.tensors(folder / 'model')
  kept = {key: array for key, array in tensors.items() if key.startswith(
      ('vision_tower.', 'multi_modal_projector.', 'image_newline'))}
  kept |= {f'language_model.{name}': np.zeros((3, 2), np.float32)
           for name in ('lm_head.weight', 'model.embed_tokens.weight')}
  safetensors.numpy.save_file(kept, out / 'model.safetensors')
  shutil.copy(folder / 'model' / 'config.json', out / 'config.json')
  return out


def test_mm_embed_training_starts_from_two_models(
    mm_embed_golden, model, tmp_path):
  directories = []
  for name in ('llava', 'nv_embed'):
    (tmp_path / name).mkdir()
  directories = (
      llava_directory(mm_embed_golden, model, tmp_path / 'llava'),
      nv_embed_directory(mm_embed_golden, tmp_path / 'nv_embed'))
  found = mm_embed_files.read_start_config(*directories)
  assert found.config == model.config
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  params = mm_embed_files.load_start(*directories, found.config, mesh)
  jax.tree.map(np.testing.assert_array_equal, params, model.params)


def test_mm_embed_weights_are_checked_both_ways(
    mm_embed_golden, model, tmp_path):
  tensors = reference.tensors(mm_embed_golden / 'model')
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  def load(changed):
    safetensors.numpy.save_file(changed, tmp_path / 'model.safetensors')
    return mm_embed_files.load(tmp_path, model.config, mesh)
  key = min(tensors)
  with pytest.raises(ValueError, match='these tensors are missing'):
    load({name: tensors[name] for name in tensors if name != key})
  with pytest.raises(ValueError, match='these tensors fit no parameter'):
    load({**tensors, 'language_model.head.weight': np.zeros(2, np.float32)})
  with pytest.raises(ValueError, match='want .* for'):
    load({**tensors, key: np.zeros((3, 5), np.float32)})
  # The one buffer that some of its files hold, and a head that is not read.
  buffer = 'vision_tower.vision_model.embeddings.position_ids'
  load({**tensors, buffer: np.zeros((1, 4), np.int64),
        'language_model.lm_head.weight': np.zeros(2, np.float32)})


def test_mm_embed_rope_theta_is_never_a_default(mm_embed_golden, tmp_path):
  for name in ('config.json', 'retriever_config.json'):
    shutil.copy(mm_embed_golden / 'model' / name, tmp_path / name)
  retriever = reference.table(tmp_path, 'retriever_config.json')
  del retriever['text_config']['rope_theta']
  path = tmp_path / 'retriever_config.json'
  path.write_text(json.dumps(retriever))
  with pytest.raises(ValueError, match='retriever_config.json: .* no rope_the'):
    mm_embed_files.read_config(tmp_path)
  found = mm_embed_files.read_config(tmp_path, rope_theta=5.0)
  assert found.config.decoder.rope_theta == 5.0


def test_mm_embed_config_names_its_retriever(mm_embed_golden, tmp_path):
  whole = reference.table(mm_embed_golden, 'model/config.json')
  del whole['retriever']
  (tmp_path / 'config.json').write_text(json.dumps(whole))
  with pytest.raises(ValueError, match='no field `retriever`'):
    mm_embed_files.read_config(tmp_path)
  given = mm_embed_files.read_config(
      tmp_path, retriever=mm_embed_golden / 'model' / 'retriever_config.json')
  assert given == mm_embed_files.read_config(mm_embed_golden / 'model')
  with pytest.raises(ValueError, match="got model_type 'nvembed'"):
    (tmp_path / 'config.json').write_text('{"model_type": "nvembed"}')
    llava_next_files.read_config(tmp_path)
