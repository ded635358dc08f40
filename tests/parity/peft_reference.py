"""A tiny Qwen2-VL of transformers, adapters by PEFT, and what both compute."""
import shutil
import warnings

import numpy as np
import peft
import torch
import transformers

from jaxret.bench import torch_qwen2_vl
from tests import tiny_unite

ITEMS = [tiny_unite.item(kind, number) for number, kind in enumerate(
    ('text', 'image', 'video', 'image,text'))]
LAYERS, WIDTH, VOCABULARY = 2, 32, 400


def base_directory(directory, tied=False):
  """Writes a random model of two layers, its tokenizer beside it."""
  tokenizer = tiny_unite.tokenizer()
  def ids(token):
    return tokenizer.encode(token)[0]
  config = transformers.Qwen2VLConfig(
      text_config={
          'vocab_size': VOCABULARY, 'hidden_size': WIDTH,
          'intermediate_size': 48, 'num_hidden_layers': LAYERS,
          'num_attention_heads': 4, 'num_key_value_heads': 2,
          'rms_norm_eps': 1e-6, 'bos_token_id': None, 'eos_token_id': None,
          'rope_parameters': {'rope_type': 'default', 'rope_theta': 1e4,
                              'mrope_section': [1, 1, 2]},
          'tie_word_embeddings': tied},
      vision_config={
          'depth': LAYERS, 'embed_dim': WIDTH, 'hidden_size': WIDTH,
          'mlp_ratio': 2, 'num_heads': 2, 'patch_size': 14,
          'spatial_merge_size': 2, 'temporal_patch_size': 2},
      image_token_id=ids('<|image_pad|>'), video_token_id=ids('<|video_pad|>'),
      vision_start_token_id=ids('<|vision_start|>'),
      vision_end_token_id=ids('<|vision_end|>'), tie_word_embeddings=tied)
  torch.manual_seed(0)
  model = transformers.Qwen2VLForConditionalGeneration(config).eval()
  shake(model.parameters(), 0.1)
  model.save_pretrained(directory)
  shutil.copytree(
      tiny_unite.tokenizer_directory(), directory, dirs_exist_ok=True)
  return directory


def shake(parameters, size):
  """Adds noise to every number, as training would."""
  generator = torch.Generator().manual_seed(1)
  with torch.no_grad():
    for parameter in parameters:
      parameter += size * torch.randn(parameter.shape, generator=generator)


def base(directory, bare=False):
  kind = (transformers.Qwen2VLModel if bare
          else transformers.Qwen2VLForConditionalGeneration)
  return kind.from_pretrained(directory).eval()


def make_adapter(model, config, directory, **save):
  """Writes an adapter that PEFT made, nothing in it at its initial value."""
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    torch.manual_seed(2)
    model = peft.get_peft_model(model, config)
    shake([p for p in model.parameters() if p.requires_grad], 0.2)
    model.save_pretrained(directory, **save)


def make_converted_pissa(model, config, directory):
  """As `make_adapter`, of a PiSSA that PEFT turns into plain LoRA."""
  start = directory / 'start'
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    model = peft.get_peft_model(model, config)
    model.peft_config['default'].init_lora_weights = True
    model.save_pretrained(start)
    model.peft_config['default'].init_lora_weights = 'pissa'
    shake([p for p in model.parameters() if p.requires_grad], 0.2)
    model.save_pretrained(
        directory, path_initial_model_for_weight_conversion=start)


def read_by_peft(model, directory):
  """(PeftModel, what PEFT complained of) of an adapter in a directory."""
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    model = peft.PeftModel.from_pretrained(model, directory).eval()
  return model, [str(warning.message) for warning in caught
                 if 'keys' in str(warning.message)]


class Model(torch_qwen2_vl.Model):
  """UNITE's embedding by the modules that PEFT has wrapped."""

  def __init__(self, model):
    model = getattr(model, 'get_base_model', lambda: model)()
    self.qwen2_vl = model.model if hasattr(model, 'lm_head') else model


def embed(model, reader):
  """float32 [items, D] of ITEMS, one by one."""
  model = Model(model)
  with torch.no_grad():
    return np.concatenate([
        model.embed(model.batch([reader(item)])).numpy() for item in ITEMS])
