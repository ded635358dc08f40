"""Greedy description by `generate` of transformers, on all CPU cores."""
import os
import tempfile

import numpy as np
import safetensors.numpy
import torch
import transformers

from jaxret import sharding
from jaxret.models import names
from jaxret.models.qwen2_vl import vision as vision_lib


def generator(config, params, shown, special, new_tokens):
  """A function without arguments that gives tokens int [B, new_tokens].

  config: a Qwen2VlConfig, params: of it, on the host. shown: inputs.Inputs of
  one length with an image each.
  """
  torch.set_num_threads(os.cpu_count())
  with tempfile.TemporaryDirectory() as directory:
    write_model(directory, config, params, special)
    model = transformers.Qwen2VLForConditionalGeneration.from_pretrained(
        directory, dtype=getattr(torch, config.decoder.dtype)).eval()
  model.generation_config.eos_token_id = None
  patches = np.concatenate([part for one in shown for part in one.patches])
  inputs = {
      'input_ids': torch.from_numpy(
          np.stack([one.tokens for one in shown]).astype(np.int64)),
      'pixel_values': torch.from_numpy(
          np.array(vision_lib.pixel_values(patches))).to(model.dtype),
      'image_grid_thw': torch.tensor([one.grids[0] for one in shown])}
  inputs['attention_mask'] = torch.ones_like(inputs['input_ids'])
  # Newer versions of transformers ask which tokens show something.
  inputs['mm_token_type_ids'] = (
      inputs['input_ids'] == special['image']).int()
  length = inputs['input_ids'].shape[1]

  @torch.inference_mode()
  def run():
    out = model.generate(**inputs, do_sample=False, max_new_tokens=new_tokens,
                         min_new_tokens=new_tokens, pad_token_id=0)
    return out[:, length:].numpy()

  return run


def write_model(directory, config, params, special):
  """A directory as transformers reads it: config.json and the weights."""
  c, v = config.decoder, config.vision
  text = {
      'vocab_size': c.vocab_size, 'hidden_size': c.width,
      'intermediate_size': c.mlp_width, 'num_hidden_layers': c.layers,
      'num_attention_heads': c.heads, 'num_key_value_heads': c.kv_heads,
      'rms_norm_eps': c.norm_eps, 'tie_word_embeddings': c.tie_embeddings,
      'rope_theta': c.rope_theta, 'max_position_embeddings': 32768,
      'rope_scaling': {'type': 'mrope', 'mrope_section': list(
          c.rope_sections)}}
  vision = {
      'embed_dim': v.width, 'hidden_size': v.out_width, 'depth': v.layers,
      'num_heads': v.heads, 'mlp_ratio': v.mlp_width // v.width,
      'patch_size': v.patch_px, 'spatial_merge_size': v.merge,
      'temporal_patch_size': v.temporal_patch}
  transformers.Qwen2VLConfig(
      text_config=text, vision_config=vision,
      tie_word_embeddings=c.tie_embeddings,
      **{f'{name}_token_id': token for name, token in special.items()},
  ).save_pretrained(directory)
  safetensors.numpy.save_file(
      _tensors(params), f'{directory}/model.safetensors', {'format': 'pt'})


def _tensors(params):
  """Our parameters by the names of published checkpoints."""
  flat, tensors = sharding.flatten(params['params']), {}
  for weight in names.QWEN2_VL:
    if weight.path not in flat:
      continue
    leaf = flat[weight.path]
    for layer, part in enumerate(leaf if '{layer}' in weight.key else [leaf]):
      if weight.transform == 'transpose':
        part = part.T
      elif weight.transform == 'flatten':
        part = part.T.reshape(len(part.T), 3, 2, 14, 14)
      tensors[weight.key.format(layer=layer)] = np.ascontiguousarray(part)
  return tensors
