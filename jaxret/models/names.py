"""Which checkpoint tensor fills which parameter: tables, no code.

A weight's `path` is ours, '/'-joined; its `key` is the checkpoint's. '{layer}'
in a key stacks the layers on a leading axis. Transforms:
  copy       as it is
  transpose  PyTorch's [out, in] to our kernels' [in, out]
  flatten    a convolution [D, ...] to a kernel [..., D], flat but for D
  patch      a convolution [D, 3, 1, y, x] or [D, 3, y, x] to a kernel
             [y * x * 3, D], its rows in the order row, column, channel
  query, key, value
             the first, second, third part of a fused [3 D, in], transposed
  first_half, second_half
             of a fused [2 D, in] or [2 D], transposed
An `optional` weight may be absent: whoever loads fills it. A checkpoint may
hold `spare_layers` more layers than the model runs. A weight `tied_to` the key
of an embedding is an output head: it stays unread where none is asked for, and
may stand for the embedding where config.json ties the two.
"""
import re
from typing import NamedTuple


class Weight(NamedTuple):
  path: str
  key: str
  transform: str = 'copy'
  optional: bool = False
  spare_layers: int = 0
  tied_to: str = ''


def within(table, path_prefix='', key_prefix='', **changes):
  """The table with prefixed paths and keys, and other fields changed."""
  return tuple(
      weight._replace(path=path_prefix + weight.path,
                      key=key_prefix + weight.key, **changes)
      for weight in table)


DECODER_LAYER = (
    Weight('attention_norm/scale', 'input_layernorm.weight'),
    Weight('attention/q/kernel', 'self_attn.q_proj.weight', 'transpose'),
    Weight('attention/q/bias', 'self_attn.q_proj.bias'),
    Weight('attention/k/kernel', 'self_attn.k_proj.weight', 'transpose'),
    Weight('attention/k/bias', 'self_attn.k_proj.bias'),
    Weight('attention/v/kernel', 'self_attn.v_proj.weight', 'transpose'),
    Weight('attention/v/bias', 'self_attn.v_proj.bias'),
    Weight('attention/o/kernel', 'self_attn.o_proj.weight', 'transpose'),
    Weight('mlp_norm/scale', 'post_attention_layernorm.weight'),
    Weight('mlp/gate/kernel', 'mlp.gate_proj.weight', 'transpose'),
    Weight('mlp/up/kernel', 'mlp.up_proj.weight', 'transpose'),
    Weight('mlp/down/kernel', 'mlp.down_proj.weight', 'transpose'),
)

# Qwen2. Without `lm_head` among the parameters the embedding is its head.
DECODER = (
    Weight('decoder/embed/embedding', 'model.embed_tokens.weight'),
    *within(DECODER_LAYER, 'decoder/layers/', 'model.layers.{layer}.'),
    Weight('decoder/final_norm/scale', 'model.norm.weight'),
    Weight('decoder/lm_head/kernel', 'lm_head.weight', 'transpose',
           tied_to='model.embed_tokens.weight'),
)

PROJECTOR = (
    Weight('in/kernel', '0.weight', 'transpose'),
    Weight('in/bias', '0.bias'),
    Weight('out/kernel', '2.weight', 'transpose'),
    Weight('out/bias', '2.bias'),
)

# The released checkpoint has neither the TVG projector, which starts as a copy
# of the other, nor the visual head, which starts at random.
BLIM_HEADS = (
    *within(PROJECTOR, 'projector/vtg/', 'model.mm_projector.mlp.'),
    *within(PROJECTOR, 'projector/tvg/', 'model.mm_projector.tvg_mlp.',
            optional=True),
    Weight('visual_head/kernel', 'visual_head.weight', 'transpose', True),
)

VISION_BLOCK = (
    Weight('attention_norm/scale', 'norm1.weight'),
    Weight('attention_norm/bias', 'norm1.bias'),
    Weight('attention/qkv/kernel', 'attn.qkv.weight', 'transpose'),
    Weight('attention/q_bias', 'attn.q_bias'),
    Weight('attention/v_bias', 'attn.v_bias'),
    Weight('attention/out/kernel', 'attn.proj.weight', 'transpose'),
    Weight('attention/out/bias', 'attn.proj.bias'),
    Weight('mlp_norm/scale', 'norm2.weight'),
    Weight('mlp_norm/bias', 'norm2.bias'),
    Weight('mlp/in/kernel', 'mlp.fc1.weight', 'transpose'),
    Weight('mlp/in/bias', 'mlp.fc1.bias'),
    Weight('mlp/out/kernel', 'mlp.fc2.weight', 'transpose'),
    Weight('mlp/out/bias', 'mlp.fc2.bias'),
)

# UMT. `mm_vision_select_layer` is -2, so the last block of pre-training, if a
# checkpoint has kept it, does not run.
VISION = (
    Weight('vision/patch/kernel', 'encoder.patch_embed.proj.weight', 'patch'),
    Weight('vision/patch/bias', 'encoder.patch_embed.proj.bias'),
    *within(VISION_BLOCK, 'vision/blocks/', 'encoder.blocks.{layer}.',
            spare_layers=1),
    Weight('vision/final_norm/scale', 'encoder.vision_layernorm.weight'),
    Weight('vision/final_norm/bias', 'encoder.vision_layernorm.bias'),
)

VISION_PREFIX = 'model.vision_tower.vision_tower.'

VIDEOCHAT_FLASH = DECODER + BLIM_HEADS + within(VISION, '', VISION_PREFIX)

QWEN2_VL_BLOCK = (
    Weight('attention_norm/scale', 'norm1.weight'),
    Weight('attention_norm/bias', 'norm1.bias'),
    Weight('attention/qkv/kernel', 'attn.qkv.weight', 'transpose'),
    Weight('attention/qkv/bias', 'attn.qkv.bias'),
    Weight('attention/out/kernel', 'attn.proj.weight', 'transpose'),
    Weight('attention/out/bias', 'attn.proj.bias'),
    Weight('mlp_norm/scale', 'norm2.weight'),
    Weight('mlp_norm/bias', 'norm2.bias'),
    Weight('mlp/in/kernel', 'mlp.fc1.weight', 'transpose'),
    Weight('mlp/in/bias', 'mlp.fc1.bias'),
    Weight('mlp/out/kernel', 'mlp.fc2.weight', 'transpose'),
    Weight('mlp/out/bias', 'mlp.fc2.bias'),
)

QWEN2_VL_VISION = (
    Weight('patch/kernel', 'patch_embed.proj.weight', 'flatten'),
    *within(QWEN2_VL_BLOCK, 'blocks/', 'blocks.{layer}.'),
    Weight('merger/norm/scale', 'merger.ln_q.weight'),
    Weight('merger/norm/bias', 'merger.ln_q.bias'),
    *within(PROJECTOR, 'merger/', 'merger.mlp.'),
)

# Qwen2-VL and what is trained from it, UNITE among others.
QWEN2_VL = DECODER + within(QWEN2_VL_VISION, 'vision/', 'visual.')

QWEN3_LAYER = (
    *(weight for weight in DECODER_LAYER if not weight.key.endswith('.bias')),
    Weight('attention/q_norm/scale', 'self_attn.q_norm.weight'),
    Weight('attention/k_norm/scale', 'self_attn.k_norm.weight'),
)

QWEN3_VL_MERGER = (
    Weight('norm/scale', 'norm.weight'),
    Weight('norm/bias', 'norm.bias'),
    Weight('in/kernel', 'linear_fc1.weight', 'transpose'),
    Weight('in/bias', 'linear_fc1.bias'),
    Weight('out/kernel', 'linear_fc2.weight', 'transpose'),
    Weight('out/bias', 'linear_fc2.bias'),
)

QWEN3_VL_VISION = (
    Weight('patch/kernel', 'patch_embed.proj.weight', 'flatten'),
    Weight('patch/bias', 'patch_embed.proj.bias'),
    Weight('positions', 'pos_embed.weight'),
    *(weight._replace(key=weight.key.replace('mlp.', 'mlp.linear_'))
      for weight in within(QWEN2_VL_BLOCK, 'blocks/', 'blocks.{layer}.')),
    *within(QWEN3_VL_MERGER, 'merger/', 'merger.'),
    *within(QWEN3_VL_MERGER, 'deepstack/', 'deepstack_merger_list.{layer}.'),
)

# Qwen3-VL and what is trained from it, its embedder and reranker.
QWEN3_VL = (
    *(weight for weight in DECODER if '{layer}' not in weight.key),
    *within(QWEN3_LAYER, 'decoder/layers/', 'model.layers.{layer}.'),
    *within(QWEN3_VL_VISION, 'vision/', 'visual.'))

QWEN25_VL_BLOCK = (
    *(weight for weight in QWEN2_VL_BLOCK
      if weight.path.endswith('_norm/scale')
      or weight.path.startswith('attention/')),
    Weight('mlp/gate/kernel', 'mlp.gate_proj.weight', 'transpose'),
    Weight('mlp/gate/bias', 'mlp.gate_proj.bias'),
    Weight('mlp/up/kernel', 'mlp.up_proj.weight', 'transpose'),
    Weight('mlp/up/bias', 'mlp.up_proj.bias'),
    Weight('mlp/down/kernel', 'mlp.down_proj.weight', 'transpose'),
    Weight('mlp/down/bias', 'mlp.down_proj.bias'),
)

QWEN25_VL = (
    *DECODER,
    Weight('vision/patch/kernel', 'visual.patch_embed.proj.weight', 'flatten'),
    *within(QWEN25_VL_BLOCK, 'vision/blocks/', 'visual.blocks.{layer}.'),
    Weight('vision/merger/norm/scale', 'visual.merger.ln_q.weight'),
    *within(PROJECTOR, 'vision/merger/', 'visual.merger.mlp.'),
)

# (regex at the start of a key, what stands there in the tables): how newer
# versions of transformers name the same tensors.
RENAMED = (
    (r'model\.language_model\.', 'model.'),
    (r'model\.visual\.', 'visual.'),
)

# (regex of a key, why it may stay unused). Matched in full.
IGNORED = (
    (r'(.*\.)?rotary_(pos_)?emb\.(original_)?inv_freq',
     'rotary frequencies, which we compute'),
    (r'(.*\.)?encoder\.(img_)?pos_embed', 'fixed positions, which we compute'),
    (r'(.*\.)?embeddings\.(position_ids|token_type_ids)',
     'buffers of old versions of transformers: 0, 1, 2, ... and zeros'),
    (r'(.*\.)?image_newline', 'separates rows of tiled images, never of video'),
    (r'(.*\.)?(score|classifier|qa_outputs)(\.(dense|out_proj))?\.(weight|bias)',
     'heads of classification, on top of what is read'),
)


def plain(key):
  """The name that the tables have for a checkpoint's key."""
  for pattern, name in RENAMED:
    key = re.sub(f'^{pattern}', name, key)
  return key


def newer_key(key):
  """How transformers 4.52 and later name a tensor of QWEN2_VL."""
  key = re.sub(r'^model\.(?=(embed_tokens|layers|norm)\.)',
               'model.language_model.', key)
  return re.sub(r'^visual\.', 'model.visual.', key)


def newer(table):
  """The table with the keys of newer versions of transformers."""
  return tuple(weight._replace(key=newer_key(weight.key)) for weight in table)


def adapters(table):
  """Yields the LoRA factors of every linear layer of a table of weights."""
  for weight in table:
    if weight.transform == 'transpose' and weight.path.endswith('/kernel'):
      for ours, theirs in (('a', 'lora_A'), ('b', 'lora_B')):
        yield weight._replace(
            path=f'{weight.path.removesuffix("kernel")}{ours}',
            key=f'{weight.key.removesuffix("weight")}{theirs}.weight',
            optional=True, spare_layers=0, tied_to='')


# LoRA factors of every linear layer that an adapter of BLiM may train.
LORA = tuple(adapters(DECODER + BLIM_HEADS))
