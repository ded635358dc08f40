"""One model in every layout that files have; what its messages say."""
import json
import pathlib
import re
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxret import models, sharding
from jaxret.models import bert, clip, encoder_names, layouts, names, pretrained
from jaxret.models.llava import files as llava_files
from jaxret.models.llava import mm_embed_files
from jaxret.models.llava import names as llava_names

HERE = pathlib.Path(__file__).parent
SAVED = HERE / 'checkpoints' / '5.24.0'
GOLDEN = HERE.parent / 'golden'
MM_EMBED = GOLDEN / 'mm_embed' / 'model'
WRAPPERS = ('module.', '_orig_mod.', '_fsdp_wrapped_module.', 'model.',
            'module._orig_mod.', '_orig_mod.module.', 'module.model.',
            '_fsdp_wrapped_module._orig_mod.', 'model.model.')


@pytest.fixture(scope='module')
def mesh():
  return sharding.make_mesh(devices=jax.devices()[:1])


def copied(source, target, tensors, **config):
  """A model's directory with other tensors, or fields of config.json."""
  for file in source.glob('*.json'):
    shutil.copy(file, target)
  whole = json.loads((target / 'config.json').read_text()) | config
  (target / 'config.json').write_text(json.dumps(whole))
  safetensors.numpy.save_file(tensors, target / 'model.safetensors')
  return target


def tensors_of(directory):
  return safetensors.numpy.load_file(directory / 'model.safetensors')


def same(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


def load_qwen2_vl(directory, mesh, **options):
  files = models.files_of(directory)
  config = files.read_config(directory).config
  return files.load(directory, config, mesh, **options)


def load_llava(directory, mesh):
  config = llava_files.read_config(directory, rope_theta=1e4).config
  return llava_files.load(directory, config, mesh)


def load_mm_embed(directory, mesh):
  config = mm_embed_files.read_config(directory).config
  return mm_embed_files.load(directory, config, mesh)


def load_bert(directory, mesh):
  checkpoint, config = bert.open_bert(directory)
  abstract = jax.eval_shape(bert.Bert(config).init, jax.random.key(0),
                            np.zeros((1, 2), int), np.ones((1, 2), bool))
  return pretrained.load(checkpoint, encoder_names.BERT,
                         {'text_encoder': abstract['params']})[0]


def load_clip(directory, mesh):
  checkpoint, table, config = clip.open_clip(directory)
  abstract = jax.eval_shape(clip.ClipVision(config.vision).init,
                            jax.random.key(0), np.zeros((1, 8, 8, 3)))
  return clip.load(checkpoint, table, {'vision': abstract['params']})[0]


READERS = {
    'qwen2_vl': (SAVED / 'qwen2_vl_untied', load_qwen2_vl),
    'qwen25_vl': (GOLDEN / 'qwen25_vl' / 'model', load_qwen2_vl),
    'llava_next': (SAVED / 'llava_next', load_llava),
    'mm_embed': (MM_EMBED, load_mm_embed),
    'bert': (SAVED / 'bert_heads', load_bert),
    'xlmr': (SAVED / 'xlmr_heads', load_bert),
    'clip': (SAVED / 'clip', load_clip)}
TABLES = {
    'qwen2_vl': names.QWEN2_VL, 'qwen25_vl': names.QWEN25_VL,
    'llava_next': llava_names.LLAVA_NEXT,
    'mm_embed': llava_names.with_head(llava_names.MM_EMBED),
    'bert': encoder_names.BERT, 'xlmr': encoder_names.BERT,
    'clip': encoder_names.CLIP}


@pytest.fixture(scope='module')
def as_saved(mesh):
  """{reader: (directory, load, tensors, parameters)}"""
  return {name: (source, load, tensors_of(source), load(source, mesh))
          for name, (source, load) in READERS.items()}


def same_names(reader, renamed, tensors):
  """Names are the table's, whatever `renamed` makes of them, and no two one."""
  table = TABLES[reader]
  def fitted(keys):
    found = layouts.fitted(layouts.Checkpoint('', keys), table)
    assert not found.twins
    return found.tensors
  keys = {key: number for number, key in enumerate(tensors)}
  others = {renamed(key): number for key, number in keys.items()}
  assert set(others) != set(keys) and len(others) == len(keys)
  known = {key: number for key, number in fitted(keys).items()
           if any(key in _all(weight) for weight in table)}
  assert len(known) > 20
  assert {key: number for key, number in fitted(others).items()
          if key in known} == known


def _all(weight):
  return {weight.key.format(layer=layer) for layer in range(4)}


@pytest.mark.parametrize('prefix', WRAPPERS)
@pytest.mark.parametrize('reader', READERS)
def test_wrappers_change_nothing(reader, prefix, as_saved):
  same_names(reader, lambda key: prefix + key, as_saved[reader][2])


@pytest.mark.parametrize('name', [
    '_fsdp_wrapped_module', '_orig_mod', '_checkpoint_wrapped_module'])
@pytest.mark.parametrize('reader', READERS)
def test_wrapped_layers_change_nothing(reader, name, as_saved):
  """FSDP and torch.compile by layer, each in the middle of a name."""
  def wrapped(key):
    return re.sub(r'((layers?|blocks)\.\d+)\.', rf'\1.{name}.', key)
  same_names(reader, wrapped, as_saved[reader][2])


@pytest.mark.parametrize('reader', READERS)
def test_wrapped_files_are_loaded(reader, as_saved, mesh, tmp_path):
  source, load, tensors, want = as_saved[reader]
  wrapped = {f'module._orig_mod.model.{key}': tensor
             for key, tensor in tensors.items()}
  same(load(copied(source, tmp_path, wrapped), mesh), want)


# {reader: {layout: (what names begin with, what with instead), ...}}
OTHER_NAMES = {
    'qwen2_vl': {
        'in memory': (('model.', 'model.language_model.'),
                      ('visual.', 'model.visual.')),
        'below a wrapper': (('model.', 'model.model.language_model.'),
                            ('visual.', 'model.model.visual.'),
                            ('lm_head.', 'model.lm_head.')),
        'AutoModel of 5': (('model.', 'language_model.'),),
        'no prefix': (('model.', ''),),
        'a decoder in full': (('model.', 'language_model.model.'),
                              ('lm_head.', 'language_model.lm_head.'))},
    'qwen25_vl': {
        'in memory': (('model.', 'model.language_model.'),
                      ('visual.', 'model.visual.'))},
    'llava_next': {
        'in memory': (
            ('language_model.model.', 'model.language_model.'),
            ('language_model.lm_head.', 'lm_head.'),
            ('vision_tower.', 'model.vision_tower.'),
            ('multi_modal_', 'model.multi_modal_'),
            ('image_newline', 'model.image_newline')),
        'AutoModel': (('language_model.model.', 'language_model.'),
                      ('language_model.lm_head.', 'lm_head.')),
        'tower of 4': (('vision_tower.', 'vision_tower.vision_model.'),)},
    'mm_embed': {
        'as LLaVA': (('language_model.', 'language_model.model.'),),
        'tower of 5': (('vision_tower.vision_model.', 'vision_tower.'),),
        'in memory': (('language_model.', 'model.language_model.'),
                      ('vision_tower.', 'model.vision_tower.'))},
    'bert': {'bare': (('bert.', ''),), 'twice': (('bert.', 'bert.bert.'),)},
    'xlmr': {'bare': (('roberta.', ''),)},
    'clip': {'below a wrapper': (('vision_', 'model.vision_'),
                                 ('text_', 'model.text_'))}}


@pytest.mark.parametrize('reader, layout', [
    (reader, layout) for reader in OTHER_NAMES
    for layout in OTHER_NAMES[reader]])
def test_other_names_change_nothing(reader, layout, as_saved):
  def renamed(key):
    for old, new in OTHER_NAMES[reader][layout]:
      if key.startswith(old):
        return new + key.removeprefix(old)
    return key
  same_names(reader, renamed, as_saved[reader][2])


UNREAD = {
    'visual.rotary_pos_emb.inv_freq': (4,),
    'model.layers.0.self_attn.rotary_emb.inv_freq': (4,),
    'model.rotary_emb.original_inv_freq': (4,),
    'embeddings.position_ids': (1, 5), 'embeddings.token_type_ids': (1, 5),
    'bert.embeddings.position_ids': (1, 5), 'score.weight': (2, 16),
    'vision_model.embeddings.position_ids': (1, 5),
    'vision_tower.vision_model.embeddings.position_ids': (1, 5),
    'classifier.weight': (3, 16), 'classifier.bias': (3,),
    'classifier.dense.weight': (16, 16), 'qa_outputs.bias': (2,)}


def loaded(reader, tensors, as_saved):
  """Of tensors in memory, what the reader asks for."""
  params = as_saved[reader][3]
  params = params.get('params', params)
  return pretrained.load(
      layouts.Checkpoint('tiny', tensors), TABLES[reader], params)[0], params


@pytest.mark.parametrize('reader', READERS)
def test_what_is_not_read_does_not_decide(reader, as_saved):
  tensors = as_saved[reader][2]
  more = {key: np.full(shape, np.nan, np.float32)
          for key, shape in UNREAD.items()}
  more['bert.embeddings.position_ids'] = np.arange(5)[None]
  same(*loaded(reader, tensors | more, as_saved))


@pytest.mark.parametrize('reader', READERS)
@pytest.mark.parametrize('key', [
    'custom_text_proj.weight', 'linear.weight', 'ema.model.norm.weight'])
def test_what_is_not_known_is_refused_by_name(reader, key, as_saved):
  """A projection that somebody trained on top, say: it makes other vectors."""
  more = as_saved[reader][2] | {key: np.ones((4, 16), np.float32)}
  with pytest.raises(ValueError, match=f'fit no parameter: {key};') as caught:
    loaded(reader, more, as_saved)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('reader', READERS)
def test_a_tensor_by_two_names(reader, as_saved):
  tensors = as_saved[reader][2]
  key = next(key for key in sorted(tensors, reverse=True)
             if re.search(r'layers?\.0\.', key))
  def twice(other):
    return loaded(reader, {**tensors, f'module.{key}': other}, as_saved)
  same(*twice(tensors[key]))
  for other in (tensors[key] + np.float32(1e-7), tensors[key][:-1],
                tensors[key].astype(np.float16)):
    with pytest.raises(ValueError, match=f'{key} and module.{key} are the same '
                       'parameter .* and differ; want one of them: remove'):
      twice(other)


@pytest.mark.parametrize('reader', READERS)
def test_shapes_are_compared(reader, as_saved):
  tensors = as_saved[reader][2]
  key = next(key for key in sorted(tensors, reverse=True)
             if 'layers.0' in key or 'layer.0' in key)
  for wrong in (np.concatenate([tensors[key]] * 2), tensors[key][0]):
    with pytest.raises(ValueError, match='has shape .* which makes .* want'):
      loaded(reader, {**tensors, key: wrong}, as_saved)


def test_an_embedder_reads_no_head(as_saved, mesh, tmp_path):
  """There, equal to the embedding, of another shape, by another name."""
  source, _, tensors, whole = as_saved['qwen2_vl']
  copied(source, tmp_path, {key: tensor for key, tensor in tensors.items()
                            if key != 'lm_head.weight'})
  found = load_qwen2_vl(tmp_path, mesh, head=False)['params']
  decoder = {**whole['params']['decoder']}
  del decoder['lm_head']
  same(found, {**whole['params'], 'decoder': decoder})
  embedding = tensors['model.embed_tokens.weight']
  for head in ({'lm_head.weight': embedding},
               {'model.lm_head.weight': embedding[:3]},
               {'lm_head.weight': embedding,
                'model.lm_head.weight': -embedding}):
    for tied in (False, True):
      params, _ = pretrained.load(
          layouts.Checkpoint('tiny', tensors | head), names.QWEN2_VL, found,
          tied=tied)
      same(params, found)


def test_generating_wants_the_head_of_an_untied_model(mesh, tmp_path):
  source = SAVED / 'qwen2_vl_untied'
  tensors = tensors_of(source)
  del tensors['lm_head.weight']
  copied(source, tmp_path, tensors)
  with pytest.raises(ValueError) as caught:
    load_qwen2_vl(tmp_path, mesh, generates=True)
  assert str(caught.value) == (
      f'{tmp_path}: these tensors are missing: lm_head.weight; got a model '
      'laid out as transformers saves it, no output head (lm_head.*); want the '
      'model with its head, ...ForConditionalGeneration, or '
      'tie_word_embeddings in config.json if the embedding is the head')


@pytest.fixture(scope='module')
def tied(mesh):
  """(tensors, parameters) of a model whose head is its embedding."""
  source = SAVED / 'qwen2_vl_tied'
  return tensors_of(source), load_qwen2_vl(source, mesh)['params']


def load_tied(tensors, params, generates):
  return pretrained.load(layouts.Checkpoint('tiny', tensors), names.QWEN2_VL,
                         params, tied=True, generates=generates)[0]


@pytest.mark.parametrize('generates', [False, True])
def test_a_tied_head_is_the_embedding(tied, generates):
  """One of the two is enough, as for transformers; safetensors.torch.
  save_model keeps whichever name comes first."""
  tensors, params = tied
  embedding = tensors['model.embed_tokens.weight']
  without = {key: tensor for key, tensor in tensors.items()
             if key != 'model.embed_tokens.weight'}
  for given in (without | {'lm_head.weight': embedding},
                tensors | {'lm_head.weight': embedding}):
    same(load_tied(given, params, generates), params)


def test_a_tied_head_that_differs_is_refused_where_it_is_used(tied):
  """transformers 4 ties the two all the same, 5 does not and warns."""
  tensors, params = tied
  head = tensors['model.embed_tokens.weight'] * 2
  given = tensors | {'lm_head.weight': head}
  same(load_tied(given, params, generates=False), params)
  with pytest.raises(ValueError, match='lm_head.weight is not model.embed_tok.*'
                     'set it to false if the head was trained, else remove'):
    load_tied(given, params, generates=True)


def test_an_untied_head_is_no_embedding(mesh, tmp_path):
  source = SAVED / 'qwen2_vl_untied'
  tensors = tensors_of(source)
  del tensors['model.embed_tokens.weight']
  with pytest.raises(ValueError, match=r'no token embedding \(embed_tokens'):
    load_qwen2_vl(copied(source, tmp_path, tensors), mesh)


def test_mm_embed_may_hold_a_head(as_saved, mesh, tmp_path):
  source, load, tensors, want = as_saved['mm_embed']
  for key in ('language_model.lm_head.weight', 'lm_head.weight'):
    more = {key: np.zeros((3, 2), np.float32)}
    same(load(copied(source, tmp_path, tensors | more), mesh), want)


def test_every_table_has_names_of_its_own():
  """Without wrappers and containers no two tensors of a table are alike."""
  for table in (names.VIDEOCHAT_FLASH, names.QWEN2_VL, llava_names.LLAVA_NEXT,
                llava_names.with_head(llava_names.MM_EMBED),
                llava_names.with_head(llava_names.NV_EMBED_V1),
                encoder_names.BERT, encoder_names.CLIP,
                encoder_names.OPENAI_CLIP):
    keys = {weight.key for weight in table}
    assert len({layouts.bare(key) for key in keys}) == len(keys)
    for key in keys:
      found = layouts.fitted(layouts.Checkpoint('', {
          f'module.model.{key.format(layer=7)}': 0}), table)
      assert list(found.tensors) == [key.format(layer=7)]


def test_names_of_wrappers_alone_are_names():
  for key in ('module', 'model', 'model.model', 'bert', 'layers', ''):
    found = layouts.fitted(layouts.Checkpoint('', {key: 0}), names.QWEN2_VL)
    assert found.tensors == {key: 0}


def test_layouts_by_name():
  for key, want in (
      ('model.layers.0.mlp.up_proj.weight', 'model laid out as '),
      ('layers.0.mlp.up_proj.weight', 'bare model, as AutoModel saves it'),
      ('module.language_model.layers.0.x',
       'bare model, as AutoModel of transformers 5 saves it, with module. of '
       'DDP or DeepSpeed in its names'),
      ('model.language_model.layers.0.x', 'model as transformers 4.52 and'),
      ('student.layers.0.x', ''),
      ('visual.blocks.0.norm1.bias', '')):
    assert layouts.describe([key]).startswith(want)
    assert want or not layouts.describe([key])


def test_videochat_flash_by_other_names():
  table = names.VIDEOCHAT_FLASH
  for old, new in (('model.', ''), ('model.', 'model.model.'),
                   ('', '_orig_mod.'), ('', 'module.')):
    for weight in table:
      key = weight.key.format(layer=1)
      if key.startswith(old):
        key = new + key.removeprefix(old)
      found = layouts.fitted(layouts.Checkpoint('', {key: 0}), table)
      assert list(found.tensors) == [weight.key.format(layer=1)]
