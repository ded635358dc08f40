"""The same scores by transformers: the cache of a prefix, batches of suffixes.
"""
import os
import tempfile

import numpy as np
import torch
import transformers

from jaxret.bench import torch_captioning
from jaxret.models.qwen2_vl import vision as vision_lib


def scorer(config, params, special, reader, batch_size):
  """A function from prefix numbers [n] to sums float64 [n, S].

  config: a Qwen2VlConfig, params: of it, on the host. reader: of bench.
  sequences, its prompts and suffixes.
  """
  torch.set_num_threads(os.cpu_count())
  with tempfile.TemporaryDirectory() as directory:
    torch_captioning.write_model(directory, config, params, special)
    model = transformers.Qwen2VLForConditionalGeneration.from_pretrained(
        directory, dtype=getattr(torch, config.decoder.dtype)).eval()
  # Suffixes of like lengths lie together: least is padded.
  order = np.argsort([len(ids) for ids in reader.suffixes], kind='stable')
  batches = [order[i:i + batch_size] for i in range(0, len(order), batch_size)]

  @torch.inference_mode()
  def run(numbers):
    found = np.empty((len(numbers), len(order)))
    for row, number in zip(found, numbers):
      prefix = _read(model, reader.prompts[number], special)
      for batch in batches:
        row[batch] = _score(
            model, *prefix, [reader.suffixes[i] for i in batch])
    return found
  return run


def _read(model, prompt, special):
  """(log P of the next token [V], cache, position of the next token)."""
  tokens = torch.from_numpy(prompt.tokens.astype(np.int64))[None]
  out = model(
      input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=True,
      mm_token_type_ids=(tokens == special['image']).int(),
      pixel_values=torch.from_numpy(np.array(vision_lib.pixel_values(
          prompt.patches[0]))).to(model.dtype),
      image_grid_thw=torch.tensor(prompt.grids), logits_to_keep=1)
  return (torch.log_softmax(out.logits[0, -1].float(), -1), out.past_key_values,
          int(prompt.positions[0, -1]) + 1)


def _score(model, first, cache, start, suffixes):
  """Sums float64 [B] of suffixes behind copies of a cache."""
  labels = torch.nn.utils.rnn.pad_sequence(
      [torch.from_numpy(ids).long() for ids in suffixes], batch_first=True,
      padding_value=-100)
  value = first[labels[:, 0]].double()
  tokens = labels[:, :-1].clamp(min=0)
  if tokens.shape[1]:
    copies = transformers.DynamicCache()
    for number, layer in enumerate(cache.layers):
      copies.update(layer.keys.expand(len(tokens), -1, -1, -1),
                    layer.values.expand(len(tokens), -1, -1, -1), number)
    positions = start + torch.arange(tokens.shape[1])
    out = model(input_ids=tokens, past_key_values=copies, use_cache=True,
                position_ids=positions.expand(3, len(tokens), -1))
    rest = torch.nn.functional.cross_entropy(
        out.logits.flatten(0, 1).float(), labels[:, 1:].flatten(),
        reduction='none')
    value = value - rest.view(len(tokens), -1).double().sum(1)
  return value.numpy()
