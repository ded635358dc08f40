"""Names of CLIP's, SigLIP's, BERT's and XLM-R's tensors, as in `names`.

What stands under `unread/` is in published checkpoints and belongs to parts
that are not built here; no model asks for it.
"""
from jaxret.models.names import Weight, within

_NORM = (Weight('scale', 'weight'), Weight('bias', 'bias'))
_LINEAR = (Weight('kernel', 'weight', 'transpose'), Weight('bias', 'bias'))


def _unread(*keys):
  return tuple(Weight(f'unread/{key}', key, optional=True) for key in keys)


def _attention(ours, theirs, q, k, v, o):
  """Four linear layers under their own names."""
  for name, key in zip('qkvo', (q, k, v, o)):
    yield from within(_LINEAR, f'{ours}{name}/', f'{theirs}{key}.')


def fused_attention(ours, theirs):
  """Of PyTorch's MultiheadAttention, which fuses query, key and value."""
  for part in ('query', 'key', 'value'):
    yield Weight(f'{ours}{part[0]}/kernel', f'{theirs}in_proj_weight', part)
    yield Weight(f'{ours}{part[0]}/bias', f'{theirs}in_proj_bias', part)
  yield from within(_LINEAR, f'{ours}o/', f'{theirs}out_proj.')


_CLIP_LAYER = (
    *within(_NORM, 'attention_norm/', 'layer_norm1.'),
    *_attention('attention/', 'self_attn.', 'q_proj', 'k_proj', 'v_proj',
                'out_proj'),
    *within(_NORM, 'mlp_norm/', 'layer_norm2.'),
    *within(_LINEAR, 'mlp/in/', 'mlp.fc1.'),
    *within(_LINEAR, 'mlp/out/', 'mlp.fc2.'),
)

# The tower alone, 'pre_layrnorm' as it is written there. For a model that takes
# the features of the last but one layer: within(CLIP_VISION, spare_layers=1).
CLIP_VISION = (
    Weight('vision/class_embedding', 'embeddings.class_embedding'),
    Weight('vision/patch/kernel', 'embeddings.patch_embedding.weight',
           'patch'),
    Weight('vision/positions', 'embeddings.position_embedding.weight'),
    *within(_NORM, 'vision/pre_norm/', 'pre_layrnorm.'),
    *within(_CLIP_LAYER, 'vision/layers/', 'encoder.layers.{layer}.'),
    *within(_NORM, 'vision_head/norm/', 'post_layernorm.'),
    *_unread('embeddings.position_ids'),
)

CLIP = (
    *within(CLIP_VISION, '', 'vision_model.'),
    Weight('vision_head/projection/kernel', 'visual_projection.weight',
           'transpose'),
    Weight('clip_text/embed/tokens',
           'text_model.embeddings.token_embedding.weight'),
    Weight('clip_text/embed/positions',
           'text_model.embeddings.position_embedding.weight'),
    *within(_CLIP_LAYER, 'clip_text/layers/',
            'text_model.encoder.layers.{layer}.'),
    *within(_NORM, 'clip_text/final_norm/', 'text_model.final_layer_norm.'),
    Weight('clip_text_head/kernel', 'text_projection.weight', 'transpose'),
    Weight('logit_scale', 'logit_scale'),
    *_unread('text_model.embeddings.position_ids'),
)

_OPENAI_LAYER = (
    *within(_NORM, 'attention_norm/', 'ln_1.'),
    *fused_attention('attention/', 'attn.'),
    *within(_NORM, 'mlp_norm/', 'ln_2.'),
    *within(_LINEAR, 'mlp/in/', 'mlp.c_fc.'),
    *within(_LINEAR, 'mlp/out/', 'mlp.c_proj.'),
)

# OpenAI's own format, which multiplies from the right by both projections.
OPENAI_CLIP = (
    Weight('vision/class_embedding', 'visual.class_embedding'),
    Weight('vision/patch/kernel', 'visual.conv1.weight', 'patch'),
    Weight('vision/positions', 'visual.positional_embedding'),
    *within(_NORM, 'vision/pre_norm/', 'visual.ln_pre.'),
    *within(_OPENAI_LAYER, 'vision/layers/',
            'visual.transformer.resblocks.{layer}.'),
    *within(_NORM, 'vision_head/norm/', 'visual.ln_post.'),
    Weight('vision_head/projection/kernel', 'visual.proj'),
    Weight('clip_text/embed/tokens', 'token_embedding.weight'),
    Weight('clip_text/embed/positions', 'positional_embedding'),
    *within(_OPENAI_LAYER, 'clip_text/layers/',
            'transformer.resblocks.{layer}.'),
    *within(_NORM, 'clip_text/final_norm/', 'ln_final.'),
    Weight('clip_text_head/kernel', 'text_projection'),
    Weight('logit_scale', 'logit_scale'),
    *_unread('input_resolution', 'context_length', 'vocab_size'),
)

# SigLIP and SigLIP 2: `patch` of a convolution, `transpose` of a linear layer.
SIGLIP = (
    Weight('vision/patch/kernel',
           'vision_model.embeddings.patch_embedding.weight', 'patch'),
    Weight('vision/patch/bias', 'vision_model.embeddings.patch_embedding.bias'),
    Weight('vision/positions',
           'vision_model.embeddings.position_embedding.weight'),
    *within(_CLIP_LAYER, 'vision/layers/',
            'vision_model.encoder.layers.{layer}.'),
    *within(_NORM, 'vision/final_norm/', 'vision_model.post_layernorm.'),
    Weight('vision_head/probe', 'vision_model.head.probe'),
    *fused_attention('vision_head/attention/', 'vision_model.head.attention.'),
    *within(_NORM, 'vision_head/norm/', 'vision_model.head.layernorm.'),
    *within(_LINEAR, 'vision_head/mlp/in/', 'vision_model.head.mlp.fc1.'),
    *within(_LINEAR, 'vision_head/mlp/out/', 'vision_model.head.mlp.fc2.'),
    Weight('text_encoder/embed/tokens',
           'text_model.embeddings.token_embedding.weight'),
    Weight('text_encoder/embed/positions',
           'text_model.embeddings.position_embedding.weight'),
    *within(_CLIP_LAYER, 'text_encoder/layers/',
            'text_model.encoder.layers.{layer}.'),
    *within(_NORM, 'text_encoder/final_norm/', 'text_model.final_layer_norm.'),
    *within(_LINEAR, 'text_head/', 'text_model.head.'),
    Weight('logit_scale', 'logit_scale'),
    Weight('logit_bias', 'logit_bias'),
    *_unread('vision_model.embeddings.position_ids',
             'text_model.embeddings.position_ids'),
)
SIGLIP_NAFLEX = (SIGLIP[0]._replace(transform='transpose'), *SIGLIP[1:])

_BERT_LAYER = (
    *_attention('attention/', 'attention.', 'self.query', 'self.key',
                'self.value', 'output.dense'),
    *within(_NORM, 'attention_norm/', 'attention.output.LayerNorm.'),
    *within(_LINEAR, 'mlp/in/', 'intermediate.dense.'),
    *within(_LINEAR, 'mlp/out/', 'output.dense.'),
    *within(_NORM, 'mlp_norm/', 'output.LayerNorm.'),
)

# BERT and XLM-R. Their pooler and the heads of their pre-training are unread.
BERT = (
    Weight('text_encoder/embed/tokens', 'embeddings.word_embeddings.weight'),
    Weight('text_encoder/embed/positions',
           'embeddings.position_embeddings.weight'),
    Weight('text_encoder/embed/types',
           'embeddings.token_type_embeddings.weight'),
    *within(_NORM, 'text_encoder/embed_norm/', 'embeddings.LayerNorm.'),
    *within(_BERT_LAYER, 'text_encoder/layers/', 'encoder.layer.{layer}.'),
    *within(_LINEAR, 'pooler/', 'pooler.dense.', optional=True),
    *_unread(
        'embeddings.position_ids', 'cls.predictions.bias',
        'cls.predictions.transform.dense.weight',
        'cls.predictions.transform.dense.bias',
        'cls.predictions.transform.LayerNorm.weight',
        'cls.predictions.transform.LayerNorm.bias',
        'cls.predictions.decoder.weight', 'cls.predictions.decoder.bias',
        'cls.seq_relationship.weight', 'cls.seq_relationship.bias',
        'lm_head.bias', 'lm_head.dense.weight', 'lm_head.dense.bias',
        'lm_head.layer_norm.weight', 'lm_head.layer_norm.bias',
        'lm_head.decoder.weight', 'lm_head.decoder.bias'),
)
