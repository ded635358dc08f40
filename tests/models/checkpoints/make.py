"""Makes the tiny checkpoints here: saved, and run, by one transformers.

  PYTHONPATH=<transformers of a version> python tests/models/checkpoints/make.py

writes <version>/<case>/ for each of CASES beside this file: config.json and
model.safetensors as `save_pretrained` leaves them, and expected.npz: inputs,
and what that very version computes of them in float32. It needs torch; the
tests that read them do not. Versions: 4.47.1, which UNITE pins, 4.57.6, the
last of 4, and 5.24.0.
"""
import pathlib

import numpy as np
import torch
import transformers as tf

HERE = pathlib.Path(__file__).parent
# Control tokens of the tiny Qwen2-VL; an image of 4 x 4 patches between words.
IMAGE, VIDEO, START, END = 28, 29, 30, 31
QWEN2_VL_TOKENS = [[3, 4, START, *[IMAGE] * 4, END, 5, 6, 7]]
GRID = [[1, 4, 4]]
ROPE = {'rope_theta': 1e4, 'mrope_section': [1, 1, 2]}
SMALL = {'hidden_size': 16, 'intermediate_size': 24, 'num_hidden_layers': 2,
         'num_attention_heads': 2}


def randomized(model):
  """All weights at random: none is alike, no norm is the identity."""
  random = torch.Generator().manual_seed(0)
  with torch.no_grad():
    for name, weight in model.named_parameters():
      noise = torch.randn(weight.shape, generator=random)
      one = weight.ndim == 1 and name.endswith('weight')
      weight.copy_(1 + 0.1 * noise if one else 0.2 * noise)
  return model.float().eval()


def uniform(*shape):
  random = np.random.default_rng(1)
  return torch.from_numpy(random.uniform(-1, 1, shape).astype(np.float32))


def qwen2_vl_config(tied):
  text = {**SMALL, 'vocab_size': 32, 'num_key_value_heads': 1,
          'bos_token_id': None, 'eos_token_id': None,
          'tie_word_embeddings': tied}
  control = {'image_token_id': IMAGE, 'video_token_id': VIDEO,
             'vision_start_token_id': START, 'vision_end_token_id': END}
  vision = {'depth': 2, 'embed_dim': 8, 'hidden_size': 16, 'mlp_ratio': 2,
            'num_heads': 2}
  if tf.__version__.startswith('5'):
    text['rope_parameters'] = {'rope_type': 'default', **ROPE}
    return tf.Qwen2VLConfig(text_config=text, vision_config=vision,
                            tie_word_embeddings=tied, **control)
  return tf.Qwen2VLConfig(
      **text, **control, vision_config=vision, rope_theta=ROPE['rope_theta'],
      rope_scaling={'type': 'mrope', 'mrope_section': ROPE['mrope_section']})


def qwen2_vl(tied):
  model = randomized(tf.Qwen2VLForConditionalGeneration(qwen2_vl_config(tied)))
  tokens = torch.tensor(QWEN2_VL_TOKENS)
  patches = (4 * uniform(16, 1176)).round() / 4  # few values: a small file
  inputs = {'input_ids': tokens, 'pixel_values': patches,
            'image_grid_thw': torch.tensor(GRID),
            'attention_mask': torch.ones_like(tokens)}
  sequential = torch.arange(tokens.shape[1]).expand(3, 1, -1)
  found = {'tokens': tokens, 'patches': patches}
  for name, more in (('sequential', {'position_ids': sequential}),
                     ('mrope', mrope(tokens))):
    out = model(**inputs, **more, output_hidden_states=True, use_cache=False)
    found |= {f'{name}_hidden': out.hidden_states[-1],
              f'{name}_logits': out.logits}
  return model, found


def mrope(tokens):
  """What makes a version count time, row and column by itself."""
  if tf.__version__.startswith('5'):
    return {'mm_token_type_ids': (tokens == IMAGE).int()}
  return {}


def qwen2_vl_bare(tied=False):
  """What AutoModel makes: up to 4.51 of the decoder alone."""
  whole, found = qwen2_vl(tied)
  model = tf.AutoModel.from_config(qwen2_vl_config(tied))
  weights = {key.removeprefix('model.'): weight
             for key, weight in whole.state_dict().items()}
  model.load_state_dict({key: weights[key] for key in model.state_dict()})
  return model.eval(), found


def clip():
  sizes = tf.CLIPConfig(
      text_config={**SMALL, 'num_hidden_layers': 1, 'vocab_size': 20,
                   'max_position_embeddings': 6},
      vision_config={**SMALL, 'image_size': 8, 'patch_size': 4},
      projection_dim=12)
  model = randomized(tf.CLIPModel(sizes))
  pixels = uniform(2, 3, 8, 8)
  out = model(input_ids=torch.tensor([[1, 2, 3, 19]]), pixel_values=pixels)
  return model, {
      'pixels': pixels.permute(0, 2, 3, 1), 'image_embeds': out.image_embeds,
      'hidden': out.vision_model_output.last_hidden_state}


def encoder(config_class, model_class):
  sizes = config_class(**SMALL, vocab_size=30, max_position_embeddings=12)
  model = randomized(model_class(sizes))
  tokens = torch.tensor([[5, 6, 7, 8], [9, 10, 1, 1]])  # 1: padding of XLM-R
  mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
  base = getattr(model, model.base_model_prefix, model)
  out = base(input_ids=tokens, attention_mask=mask)
  return model, {'tokens': tokens, 'mask': mask,
                 'hidden': out.last_hidden_state}


def llava_next():
  """An image that is its own only tile: the whole, then rows with newlines."""
  vision = tf.CLIPVisionConfig(**SMALL, image_size=8, patch_size=4)
  text = tf.MistralConfig(**SMALL, vocab_size=40, num_key_value_heads=1)
  sizes = tf.LlavaNextConfig(
      vision_config=vision, text_config=text, image_token_index=39,
      image_seq_length=4, image_grid_pinpoints=[[8, 8]])
  model = randomized(tf.LlavaNextForConditionalGeneration(sizes))
  tokens = torch.tensor([[3, 4, *[39] * (4 + 2 * 3), 5, 6]])
  pixels = uniform(1, 2, 3, 8, 8)
  out = model(input_ids=tokens, pixel_values=pixels,
              image_sizes=torch.tensor([[8, 8]]), output_hidden_states=True,
              attention_mask=torch.ones_like(tokens), use_cache=False)
  return model, {'tokens': tokens, 'pixels': pixels.permute(0, 1, 3, 4, 2),
                 'hidden': out.hidden_states[-1], 'logits': out.logits}


CASES = {
    'qwen2_vl_tied': lambda: qwen2_vl(True),
    'qwen2_vl_untied': lambda: qwen2_vl(False),
    'qwen2_vl_bare': qwen2_vl_bare,
    'clip': clip,
    'bert': lambda: encoder(tf.BertConfig, tf.BertModel),
    'bert_heads': lambda: encoder(tf.BertConfig, tf.BertForPreTraining),
    'xlmr': lambda: encoder(tf.XLMRobertaConfig, tf.XLMRobertaModel),
    'xlmr_heads': lambda: encoder(
        tf.XLMRobertaConfig, tf.XLMRobertaForMaskedLM),
    'llava_next': llava_next,
}


def make(case, directory):
  """Writes a case; returns the model and {name: array}."""
  torch.manual_seed(0)
  with torch.no_grad():
    model, found = CASES[case]()
  directory.mkdir(parents=True, exist_ok=True)
  model.save_pretrained(directory)
  (directory / 'generation_config.json').unlink(missing_ok=True)
  found = {name: tensor.numpy() for name, tensor in found.items()}
  np.savez_compressed(directory / 'expected.npz', **found)
  return model, found


if __name__ == '__main__':
  for case in CASES:
    make(case, HERE / tf.__version__ / case)
