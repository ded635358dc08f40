"""Tiny random models of transformers, saved with a tokenizer, and run."""
import numpy as np
import torch
import transformers as tf

from jaxret.data.llava import prompts as llava_prompts
from tests import tiny_generators as tiny
from tests.models.checkpoints import make

SIZES = {'hidden_size': 32, 'intermediate_size': 48, 'num_hidden_layers': 2,
         'num_attention_heads': 4, 'num_key_value_heads': 2}
VISION = {'depth': 2, 'embed_dim': 16, 'hidden_size': 32, 'mlp_ratio': 2,
          'num_heads': 2}


def qwen2_vl(directory, tied=False):
  """A Qwen2VLForConditionalGeneration, saved in a directory."""
  tokenizer = tiny.save_tokenizer(directory)
  def one(token):
    return tokenizer.encode(token)[0]
  config = tf.Qwen2VLConfig(
      text_config={**SIZES, 'vocab_size': tokenizer.vocab_size,
                   'tie_word_embeddings': tied, 'bos_token_id': None,
                   'eos_token_id': None, 'rope_parameters': {
                       'rope_type': 'default', 'rope_theta': 1e4,
                       'mrope_section': [1, 1, 2]}},
      vision_config=VISION, tie_word_embeddings=tied,
      image_token_id=one('<|image_pad|>'), video_token_id=one('<|video_pad|>'),
      vision_start_token_id=one('<|vision_start|>'),
      vision_end_token_id=one('<|vision_end|>'))
  model = make.randomized(tf.Qwen2VLForConditionalGeneration(config))
  model.save_pretrained(directory)
  return model


def qwen2(directory, tied=False):
  """A Qwen2ForCausalLM, saved in a directory."""
  tokenizer = tiny.save_tokenizer(directory)
  model = make.randomized(tf.Qwen2ForCausalLM(tf.Qwen2Config(
      **SIZES, vocab_size=tokenizer.vocab_size, tie_word_embeddings=tied,
      bos_token_id=None, eos_token_id=None)))
  model.save_pretrained(directory)
  return model


@torch.inference_mode()
def text_log_softmax(model, tokens):
  """log P of the next token behind each of one sequence, float64 [T, V]."""
  logits = model(input_ids=torch.tensor(tokens)[None]).logits[0]
  return torch.log_softmax(logits.double(), -1).numpy()


def llava_next(directory):
  """A LlavaNextForConditionalGeneration, saved in a directory."""
  tokenizer = tiny.save_tokenizer(directory, llava_prompts.CONTROL_TOKENS)
  vision = tf.CLIPVisionConfig(
      hidden_size=16, intermediate_size=24, num_hidden_layers=2,
      num_attention_heads=2, image_size=8, patch_size=4)
  text = tf.MistralConfig(**SIZES, vocab_size=tokenizer.vocab_size)
  model = make.randomized(tf.LlavaNextForConditionalGeneration(
      tf.LlavaNextConfig(
          vision_config=vision, text_config=text, image_seq_length=4,
          image_token_index=tokenizer.encode(llava_prompts.IMAGE)[0],
          image_grid_pinpoints=[[8, 16], [16, 8], [16, 16]])))
  model.save_pretrained(directory)
  return model


@torch.inference_mode()
def llava_next_log_softmax(model, tokens, sizes, pixel_values):
  """log P of the next token behind each of one sequence, float64 [T, V].

  sizes: (height, width) of each image; pixel_values: float32
  [crops, S, S, 3] of each.
  """
  inputs = {'input_ids': torch.tensor(tokens)[None]}
  inputs['attention_mask'] = torch.ones_like(inputs['input_ids'])
  if sizes:
    most = max(map(len, pixel_values))
    padded = [np.pad(x, [(0, most - len(x))] + 3 * [(0, 0)])
              for x in pixel_values]
    inputs |= {'pixel_values': torch.from_numpy(
        np.stack(padded).transpose(0, 1, 4, 2, 3)),
               'image_sizes': torch.tensor(sizes)}
  return torch.log_softmax(model(**inputs).logits[0].double(), -1).numpy()


@torch.inference_mode()
def qwen2_vl_log_softmax(model, tokens, kinds, grids, pixel_values):
  """log P of the next token behind each of one sequence, float64 [T, V].

  pixel_values: float32 [patches, 1176] of each medium.
  """
  config, tokens = model.config, torch.tensor(tokens)[None]
  ids = {'image': config.image_token_id, 'video': config.video_token_id}
  inputs = {'input_ids': tokens, 'attention_mask': torch.ones_like(tokens),
            'mm_token_type_ids': ((tokens == ids['image']).int()
                                  + 2 * (tokens == ids['video']).int())}
  for kind, name, grid in (('image', 'pixel_values', 'image_grid_thw'),
                           ('video', 'pixel_values_videos', 'video_grid_thw')):
    own = [i for i, its in enumerate(kinds) if its == kind]
    if own:
      inputs |= {name: torch.from_numpy(np.concatenate(
          [pixel_values[i] for i in own])),
                 grid: torch.tensor([grids[i] for i in own])}
  return torch.log_softmax(model(**inputs).logits[0].double(), -1).numpy()
