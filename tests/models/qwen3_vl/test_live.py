"""Qwen3-VL against the installed transformers; needs PyTorch."""
import copy
import types as types_lib

import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.data import types
from jaxret.data.qwen3_vl import pixels, prompts, reader
from jaxret.models import adapter_export, adapters, generation, lora, names
from jaxret.models.qwen3_vl import files, vision
from tests import tiny_unite

pytestmark = pytest.mark.slow

SEED = 7
LORA = ('decoder/layers/(attention/[qkvo]|mlp/(gate|up|down))',)
ROPE = {'rope_type': 'default', 'mrope_section': [3, 2, 1],
        'mrope_interleaved': True}
TEXT = {'vocab_size': 400, 'hidden_size': 24, 'intermediate_size': 40,
        'num_hidden_layers': 4, 'num_attention_heads': 6,
        'num_key_value_heads': 3, 'head_dim': 12, 'rms_norm_eps': 1e-5,
        'rope_theta': 50.0, 'rope_scaling': ROPE}
VISION = {'depth': 4, 'hidden_size': 24, 'intermediate_size': 36,
          'num_heads': 3, 'out_hidden_size': 24, 'num_position_embeddings': 49,
          'deepstack_visual_indexes': [1, 2, 3]}


@pytest.fixture(scope='module')
def torch():
  return pytest.importorskip('torch')


@pytest.fixture(scope='module')
def special():
  return reader.Reader(tiny_unite.tokenizer(), pixels.Resolution()).special


@pytest.fixture(scope='module')
def theirs(torch, special):
  """A model of transformers, all weights at random, untied."""
  transformers = pytest.importorskip('transformers')
  encode = tiny_unite.tokenizer().encode
  config = transformers.Qwen3VLConfig(
      text_config=TEXT, vision_config=VISION, tie_word_embeddings=False,
      image_token_id=special['image'], video_token_id=special['video'],
      vision_start_token_id=encode(prompts.qwen2_vl.VISION_START)[0],
      vision_end_token_id=encode(prompts.qwen2_vl.VISION_END)[0])
  config._attn_implementation = 'eager'
  model = transformers.Qwen3VLForConditionalGeneration(config)
  noise = torch.Generator().manual_seed(SEED)
  with torch.no_grad():
    for weight in model.parameters():
      base = 1 if weight.ndim == 1 else 0
      weight.copy_(base + 0.2 * torch.randn(weight.shape, generator=noise))
  return model.float().eval()


@pytest.fixture(scope='module')
def ours(theirs, tmp_path_factory):
  """(directory, Qwen3VlConfig, parameters) of what it saves."""
  directory = tmp_path_factory.mktemp('saved')
  theirs.save_pretrained(directory, max_shard_size='60KB')
  assert len(list(directory.glob('*.safetensors'))) > 1
  config = files.read_config(directory).config
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  return directory, config, files.load(directory, config, mesh, generates=True)


ITEMS = [
    types.Item('text', text='red square'),
    types.Item('image', text='up', image=tiny_unite.pixels(0, 70, 130)),
    types.Item('video', video=tiny_unite.pixels(1, 96, 64, 5)),
    types.Item('both', text='left', image=tiny_unite.pixels(2, 64, 64),
               video=tiny_unite.pixels(3, 32, 64, 4))]


@pytest.fixture(scope='module')
def read():
  return reader.Reader(tiny_unite.tokenizer(), pixels.Resolution(
      frame=(32 * 32, 6 * 32 * 32), listed_px=32))


def their_inputs(torch, read, item):
  """What their model is given of an item, a row alone."""
  found = read(item)
  grids = {kind: [] for kind in ('image', 'video')}
  seen = {kind: [] for kind in grids}
  kinds, slices = list(found.kinds), list(found.grids)
  for patches in found.patches:
    _, h, w = slices[0]
    t = len(patches) // (h * w)
    grids[kinds[0]].append((t, h, w))
    seen[kinds[0]].append(np.asarray(vision.pixel_values(patches)))
    del kinds[:t], slices[:t]
  tokens = found.tokens[None].astype(np.int64)
  inputs = {'input_ids': torch.tensor(tokens),
            'attention_mask': torch.ones(tokens.shape, dtype=torch.long)}
  import transformers
  if not transformers.__version__.startswith('4'):
    inputs['mm_token_type_ids'] = torch.tensor(
        (tokens == read.special['image'])
        + 2 * (tokens == read.special['video']))
  for kind, names_ in (('image', ('pixel_values', 'image_grid_thw')),
                       ('video', ('pixel_values_videos', 'video_grid_thw'))):
    if seen[kind]:
      inputs[names_[0]] = torch.tensor(np.concatenate(seen[kind]))
      inputs[names_[1]] = torch.tensor(grids[kind])
  return found, inputs


def our_outputs(config, params, read, found):
  def whole(module, batch):
    x, visual = module.read(batch)
    keys = np.arange(x.shape[1]) < batch['length'][:, None]
    hidden = module.hidden(x, keys, batch['positions'], visual)
    return hidden, sum(left @ right for left, right
                       in module.vocabulary_terms(hidden))
  batch = read.pad([found], read.bucket(found))
  hidden, logits = jax.jit(
      lambda params: config.module().apply(params, batch, method=whole))(params)
  n = len(found.tokens)
  return batch, np.asarray(hidden)[:, :n], np.asarray(logits)[:, :n]


@pytest.mark.parametrize('item', ITEMS, ids=lambda item: item.id)
def test_hidden_states_logits_and_answers(torch, theirs, ours, read, item):
  _, config, params = ours
  found, inputs = their_inputs(torch, read, item)
  with torch.no_grad():
    out = theirs.model(**inputs)
    logits = theirs.lm_head(out.last_hidden_state)
    answer = theirs.generate(
        **inputs, max_new_tokens=6, do_sample=False, eos_token_id=None,
        pad_token_id=0)
  batch, hidden, own = our_outputs(config, params, read, found)
  np.testing.assert_allclose(hidden, out.last_hidden_state, atol=1e-4)
  np.testing.assert_allclose(own, logits, atol=1e-3)
  written = generation.greedy(config.module(), 6, (), params, batch)
  np.testing.assert_array_equal(
      written.tokens[0], answer[0, len(found.tokens):])


def test_an_adapter_of_ours_is_applied_by_peft(
    torch, theirs, ours, read, tmp_path):
  peft = pytest.importorskip('peft')
  _, config, params = ours
  rng = np.random.default_rng(SEED)
  factors = jax.tree.map(
      lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32),
      lora.init(jax.random.key(0), params['params'], LORA, 2))
  adapter = adapters.Adapter(factors, 1.5)
  adapter_export.export_peft(adapter, tmp_path, nested=False,
                             weights=names.newer(names.QWEN3_VL))
  wrapped = peft.PeftModel.from_pretrained(copy.deepcopy(theirs), tmp_path)
  found, inputs = their_inputs(torch, read, ITEMS[1])
  with torch.no_grad():
    want = wrapped(**inputs).logits
  merged = adapters.merge(params, adapter)
  _, _, own = our_outputs(config, merged, read, found)
  np.testing.assert_allclose(own, want, atol=1e-3)
  _, _, plain = our_outputs(config, params, read, found)
  assert np.abs(own - plain).max() > 1e-2


def test_prompts_of_videos_as_this_version_has_them(torch):
  """4.57 puts times where the whole mark was; 5 leaves a pair around them."""
  import transformers
  from transformers.models.qwen3_vl import processing_qwen3_vl as lib
  indices, fps, grid = np.array([0, 5, 11, 16, 22]), 5.0, (3, 4, 6)
  found = {'video_grid_thw': np.array([grid]), 'video_metadata': [
      types_lib.SimpleNamespace(frames_indices=indices.tolist(), fps=fps)]}
  processor = object.__new__(lib.Qwen3VLProcessor)
  processor.image_token, processor.video_token = prompts.PADS.values()
  processor.vision_start_token, processor.vision_end_token = (
      prompts.qwen2_vl.VISION_START, prompts.qwen2_vl.VISION_END)
  processor.video_processor = type('Videos', (), {
      'merge_size': 2, 'temporal_patch_size': 2,
      '__call__': lambda self, videos: dict(found)})()
  seconds = pixels.seconds_shown(
      pixels.Processor().times(indices, fps, False))
  pad = prompts.PADS['video']
  ours = prompts.video(seconds).replace(pad, pad * 6)
  if transformers.__version__.startswith('5'):
    assert processor.replace_video_token(found, 0) == ours
    return
  texts = []
  processor.tokenizer = types_lib.SimpleNamespace(init_kwargs={})
  processor._merge_kwargs = lambda *args, **kwargs: {
      'videos_kwargs': {}, 'text_kwargs': {}}
  processor._check_special_mm_tokens = lambda *args, **kwargs: None
  processor.tokenizer = lambda text, **kwargs: texts.append(text) or {}
  processor.tokenizer.init_kwargs = {}
  mark = prompts.qwen2_vl.seen('video')
  processor(text=[prompts.prompt(f'{mark}What?')], videos=['a video'])
  assert texts == [[prompts.prompt(f'{ours}What?')]]
