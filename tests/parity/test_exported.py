"""What is exported, loaded by transformers, PEFT and sentence-transformers.

Each computes what jaxret does, 1e-5, from the same files.
"""
import numpy as np
import pytest
import safetensors.numpy

import jaxret
from jaxret.data import types
from jaxret.exporting import export as exporting
from tests import tiny_exports, tiny_unite

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
pytest.importorskip('peft')

from tests.parity import peft_reference as reference  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_device')]


def opened(kind, directory):
  """(a model of transformers, names of what is left over in its file)."""
  model, found = kind.from_pretrained(
      directory, output_loading_info=True, dtype='float32')
  assert not found['missing_keys'] and not found['mismatched_keys']
  return model.eval(), set(found['unexpected_keys'])


def ours(directory, **options):
  model = jaxret.load(directory, **options)
  return model, model.encode(reference.ITEMS, show_progress=False)


def test_transformers_computes_what_unite_does(tmp_path):
  workdir, _ = tiny_exports.unite(tmp_path / 'run')
  model, want = ours(exporting.export(workdir, tmp_path / 'out'))
  theirs, left = opened(transformers.Qwen2VLModel, tmp_path / 'out')
  assert left <= {'lm_head.weight'}
  np.testing.assert_allclose(
      reference.embed(theirs, model.reader), want, atol=1e-5)
  _, left = opened(
      transformers.Qwen2VLForConditionalGeneration, tmp_path / 'out')
  assert not left


def test_transformers_and_peft_compute_what_lora_trained(tmp_path):
  base = reference.base_directory(tmp_path / 'base')
  workdir, _ = tiny_exports.unite(tmp_path / 'run', **{
      'model.pretrained': str(base), 'model.tokenizer': '',
      'model.vocab_size': 0})
  model, want = ours(exporting.export(workdir, tmp_path / 'out'))
  theirs, _ = opened(
      transformers.Qwen2VLForConditionalGeneration, tmp_path / 'out')
  np.testing.assert_allclose(
      reference.embed(theirs, model.reader), want, atol=1e-5)
  exporting.export(workdir, tmp_path / 'adapter', 'peft')
  wrapped, complaints = reference.read_by_peft(
      reference.base(base), tmp_path / 'adapter')
  assert not complaints
  found = reference.embed(wrapped, model.reader)
  np.testing.assert_allclose(found, want, atol=1e-5)
  assert np.abs(found - ours(base)[1]).max() > 1e-3


def test_sentence_transformers_computes_what_leccr_does(tmp_path):
  library = pytest.importorskip('sentence_transformers')
  workdir, _ = tiny_exports.leccr(tmp_path / 'run')
  out = exporting.export(workdir, tmp_path / 'out')
  texts = ['ein rotes Quadrat', 'Kreis', 'ein blauer Kreis, rot']
  model = library.SentenceTransformer(str(out), device='cpu')
  np.testing.assert_allclose(
      model.encode(texts), jaxret.load(out).encode(texts, show_progress=False),
      atol=1e-5)


def latent_attention(tensors, hidden):
  """NV-Embed-v1's, of its paper, from the tensors of a file."""
  def of(key):
    return torch.from_numpy(tensors[f'latent_attention_model.{key}'])
  def norm(key, x):
    key = f'cross_attend_blocks.{key}'
    return torch.nn.functional.layer_norm(
        x, x.shape[-1:], of(f'{key}.weight'), of(f'{key}.bias'))
  fn, heads = 'cross_attend_blocks.0.fn', 2
  latents = norm('0.norm_context', of('latents'))
  query = norm('0.norm', hidden) @ of(f'{fn}.to_q.weight').T
  key, value = (latents @ of(f'{fn}.to_kv.weight').T).chunk(2, -1)
  def split(x):
    return x.unflatten(-1, (heads, -1)).transpose(-2, -3)
  seen = torch.nn.functional.scaled_dot_product_attention(
      split(query), split(key), split(value)).transpose(-2, -3).flatten(-2)
  x = hidden + seen @ of(f'{fn}.to_out.weight').T
  fn = 'cross_attend_blocks.1.fn.net'
  inner, gate = (norm('1.norm', x) @ of(f'{fn}.0.weight').T
                 + of(f'{fn}.0.bias')).chunk(2, -1)
  return x + (inner * torch.nn.functional.gelu(gate)) @ of(
      f'{fn}.2.weight').T + of(f'{fn}.2.bias')


@torch.inference_mode()
def mm_embed_vector(model, tensors, inputs):
  """float32 [D] of an item, by LLaVA-NeXT's parts in transformers."""
  tokens = torch.from_numpy(inputs.tokens).long()
  x = model.get_input_embeddings()(tokens.clamp(min=0))
  if inputs.image is not None:
    mean, std = ([*map(float, values)] for values in (
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711)))
    pixels = (torch.tensor(inputs.image) / 255 - torch.tensor(mean)
              ) / torch.tensor(std)
    states = model.vision_tower(
        pixels.permute(2, 0, 1)[None], output_hidden_states=True)
    seen = model.multi_modal_projector(states.hidden_states[-2][0, 1:])
    x[tokens < 0] = torch.cat([seen, model.image_newline[None]])
  every = torch.zeros(1, 1, len(tokens), len(tokens))  # nothing is masked
  hidden = model.language_model(
      inputs_embeds=x[None], attention_mask=every).last_hidden_state
  pooled = latent_attention(tensors, hidden)[0, inputs.pool_start:].mean(0)
  return torch.nn.functional.normalize(pooled, dim=0).numpy()


def test_transformers_computes_what_mm_embed_does(tmp_path):
  workdir, _ = tiny_exports.mm_embed(tmp_path / 'run')
  out = exporting.export(workdir, tmp_path / 'out')
  theirs, left = opened(transformers.LlavaNextModel, out)
  assert left and all(
      key.startswith('latent_attention_model.') for key in left)
  model = jaxret.load(out)
  tensors = safetensors.numpy.load_file(out / 'model.safetensors')
  for item, prompt in (
      (types.Item('a', text='red square'), None),
      (types.Item('b', text='circle', image=tiny_unite.pixels(3)), 'Find it.')):
    np.testing.assert_allclose(
        mm_embed_vector(theirs, tensors, model.reader(item, prompt)),
        model.encode(item, prompt, show_progress=False), atol=1e-5)
