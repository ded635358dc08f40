"""MM-Embed's adapter: PEFT's names, and what was trained comes back."""
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import jaxret
from jaxret import embedder as embedding
from jaxret import main, methods, sharding
from jaxret import run as run_lib
from jaxret.data import text, types
from jaxret.data.sets import mixed
from jaxret.methods import embedding_run
from jaxret.models import adapter_export, adapter_import, adapters
from jaxret.models.llava import names as mm_embed_names
from tests import tiny_mm_embed

RANK, WIDTH, SEEN, LAYERS = 2, 8, 6, 2
LINEAR = {'attention': {'q': (WIDTH, WIDTH), 'k': (WIDTH, 4), 'v': (WIDTH, 4),
                        'o': (WIDTH, WIDTH)},
          'mlp': {'gate': (WIDTH, 10), 'up': (WIDTH, 10), 'down': (10, WIDTH)}}
MODEL = 'mm_embed/model'


def random(*shape):
  return np.random.default_rng(shape).normal(size=shape).astype(np.float32)


def adapter(parts=('attention', 'mlp')):
  """Of all linear layers of the decoder, with a projector trained whole."""
  def layer(width, features):
    return {'kernel': random(width, features), 'bias': random(features)}
  return adapters.Adapter(
      {'decoder': {'layers': {part: {
          name: {'a': random(LAYERS, inputs, RANK),
                 'b': random(LAYERS, RANK, features)}
          for name, (inputs, features) in LINEAR[part].items()}
                              for part in parts}}}, 4.0,
      modules={'projector': {'in': layer(SEEN, WIDTH),
                             'out': layer(WIDTH, WIDTH)}})


def export(given, directory):
  adapter_export.export_peft(given, directory, nested=False,
                       weights=mm_embed_names.MM_EMBED)
  return load_file(directory / 'adapter_model.safetensors')


def test_round_trip(tmp_path):
  given = adapter()
  export(given, tmp_path)
  read = adapter_import.import_peft(tmp_path, mm_embed_names.MM_EMBED)
  assert read.scale == given.scale
  for got, want in ((read.lora, given.lora), (read.modules, given.modules)):
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_latent_attention_comes_back_whole(tmp_path):
  """Its fused tensors are two of ours each."""
  linear = {'kernel': random(WIDTH, WIDTH), 'bias': random(WIDTH)}
  norm = {'scale': random(WIDTH), 'bias': random(WIDTH)}
  plain = {'kernel': random(WIDTH, WIDTH)}
  latent = {'latents': random(3, WIDTH), 'token_norm': norm,
            'latent_norm': norm, 'mlp_norm': norm, 'q': plain,
            'k': {'kernel': random(4, WIDTH)}, 'v': {'kernel': random(4, 5)},
            'o': plain, 'mlp': {'value': linear, 'gate': {
                'kernel': -linear['kernel'], 'bias': -linear['bias']},
                                'out': linear}}
  latent['v']['kernel'] = 2 * latent['k']['kernel']
  held, others = adapter_export.modules_to_save(
      {'latent_attention': latent, 'image_newline': random(WIDTH),
       'decoder': {'final_norm': {'scale': random(WIDTH)}}},
      adapter().lora, mm_embed_names.MM_EMBED)
  assert others == ['image_newline']
  export(adapter()._replace(modules=held), tmp_path)
  read = adapter_import.import_peft(tmp_path, mm_embed_names.MM_EMBED)
  jax.tree.map(np.testing.assert_array_equal, read.modules, held)


def test_a_module_that_the_model_does_not_have_is_refused(tmp_path):
  export(adapter(), tmp_path)
  path = tmp_path / 'adapter_config.json'
  path.write_text(json.dumps(
      json.loads(path.read_text()) | {'modules_to_save': ['embed_tokens']}))
  with pytest.raises(ValueError, match="modules_to_save 'embed_tokens', and"):
    adapter_import.import_peft(tmp_path, mm_embed_names.MM_EMBED)


def skeleton():
  """The modules of the released MM-Embed that have to do with adapters."""
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  model = torch.nn.Module()
  model.language_model = transformers.MistralModel(transformers.MistralConfig(
      vocab_size=12, hidden_size=WIDTH, intermediate_size=10,
      num_hidden_layers=LAYERS, num_attention_heads=4, num_key_value_heads=2))
  model.multi_modal_projector = torch.nn.Module()
  model.multi_modal_projector.linear_1 = torch.nn.Linear(SEEN, WIDTH)
  model.multi_modal_projector.linear_2 = torch.nn.Linear(WIDTH, WIDTH)
  # As LlavaNextForConditionalGeneration has it; PEFT asks for its name alone.
  model.prepare_inputs_for_generation = None
  # Layers of the tower have the decoder's names.
  model.vision_tower = torch.nn.ModuleDict(
      {name: torch.nn.Linear(SEEN, SEEN) for name in ('q_proj', 'k_proj')})
  return model


def test_keys_are_those_that_peft_writes(tmp_path):
  peft = pytest.importorskip('peft')
  linear = '(q|k|v|o|gate|up|down)_proj'
  wrapped = peft.get_peft_model(skeleton(), peft.LoraConfig(
      r=RANK, target_modules=rf'language_model\..*\.{linear}',
      modules_to_save=['multi_modal_projector']))
  wrapped.save_pretrained(tmp_path / 'theirs')
  theirs = load_file(tmp_path / 'theirs/adapter_model.safetensors')
  ours = export(adapter(), tmp_path / 'ours')
  assert {key: tensor.shape for key, tensor in ours.items()} == {
      key: tensor.shape for key, tensor in theirs.items()}


def test_peft_merges_what_is_exported(tmp_path):
  peft = pytest.importorskip('peft')
  given, model = adapter(), skeleton()
  before = {key: tensor.numpy().copy()
            for key, tensor in model.state_dict().items()}
  export(given, tmp_path)
  wrapped = peft.PeftModel.from_pretrained(model, tmp_path)
  assert not [key for key in wrapped.state_dict()
              if 'lora_' in key and 'vision_tower' in key]
  after = {key: tensor.detach().numpy() for key, tensor in
           wrapped.merge_and_unload().state_dict().items()}
  key = 'language_model.layers.1.mlp.down_proj.weight'
  factors = given.lora['decoder']['layers']['mlp']['down']
  np.testing.assert_allclose(
      after[key] - before[key],
      given.scale * (factors['a'][1] @ factors['b'][1]).T, atol=1e-4)
  np.testing.assert_array_equal(
      after['multi_modal_projector.linear_2.weight'],
      given.modules['projector']['out']['kernel'].T)
  for key, tensor in after.items():
    if key.startswith('vision_tower.'):
      np.testing.assert_array_equal(tensor, before[key])


def settings(golden, root):
  config = main.load_config(f'{tiny_mm_embed.CONFIG}')
  config.update({'before': (), 'starts_from': '', 'negatives': ''})
  config.data.update(shape=(), candidate_shape=(), max_tokens=64,
                     root=str(root))
  config.pairs.update(per_source=False, sources=(), weights=())
  config.model.update(pretrained=str(golden / MODEL), tokenizer='',
                      trainable=('lora/.*', 'params/projector/.*'))
  config.model.lora.update(rank=RANK, targets=(
      'decoder/layers/attention/[qkvo]', 'decoder/layers/mlp/(gate|up|down)'))
  config.optim.update(learning_rate=1e-2)
  config.train.update(batch_size=8, steps=3)
  return config


def items(n):
  pixels = np.random.default_rng(0).integers(0, 256, (n, 9, 9, 3), np.uint8)
  return [types.Item(str(i), f'number {i}' if i % 3 else None,
                     pixels[i] if i % 2 or not i % 3 else None)
          for i in range(n)]


@pytest.mark.slow
@pytest.mark.usefixtures('one_device')
def test_a_trained_adapter_on_the_base_embeds_alike(tmp_path, pytestconfig):
  golden = pytestconfig.getoption('--golden')
  if not (golden / MODEL).is_dir():
    pytest.skip(f'{golden} holds no folder {MODEL}')
  config, mesh = settings(golden, tmp_path), sharding.make_mesh()
  embeds = methods.embeds('mm_embed')
  tokenizer = text.load_tokenizer(golden / MODEL)
  reader, shown = embeds.reader(config, tokenizer), items(16)
  pairs = [mixed.Pair(query, candidate, mixed.modality(candidate), None, 'find')
           for query, candidate in zip(shown[:8], shown[8:])]
  params = embedding_run.train(
      embedding_run.Run(config, tmp_path, mesh, embeds, tokenizer, {}),
      run_lib.Stage('mm_embed', config, tmp_path), {'all': pairs}, reader)
  trained = embedding.Embedder(
      *embeds.served(embeds.model(config, tokenizer), params), reader, mesh)
  load = {'max_tokens': 64, 'trim_text': True, 'mesh': mesh}
  again, base = (jaxret.load(golden / MODEL, adapter=given, **load)
                 for given in (tmp_path / 'adapter', None))
  want, got, plain = (model.encode(shown, show_progress=False)
                      for model in (trained, again, base))
  np.testing.assert_allclose(got, want, atol=1e-5)
  assert np.abs(plain - want).max(1).min() > 1e-3
  saved = load_file(tmp_path / 'adapter/adapter_model.safetensors')
  np.testing.assert_array_equal(
      saved['base_model.model.multi_modal_projector.linear_1.weight'].T,
      params['params']['projector']['in']['kernel'])
