"""LLaVA-NeXT directories: config.json and weights, both checked."""
from typing import Any, NamedTuple

import jax

from jaxret.models import clip, encoder, model_files
from jaxret.models import decoder as decoder_lib
from jaxret.models.llava import model as llava_next
from jaxret.models.llava import names as mm_embed_names

# (key of config.json, the value that we implement, what it means)
SUPPORTED = (
    ('projector_hidden_act', 'gelu', 'the activation of the projector'),
    ('vision_feature_layer', -2, 'the layer whose features are used'),
    ('vision_feature_select_strategy', 'default', 'which tokens are used'),
    ('use_image_newline_parameter', True, 'a vector that ends rows of tiles'),
)
TEXT_SUPPORTED = (
    ('hidden_act', 'silu', 'the activation of the decoder'),
    ('tie_word_embeddings', False, 'an output head that is the embedding'),
)
# A published text_config holds what differs from the defaults of Mistral's
# class, which are these; the base of the rotary positions is never one of them.
TEXT_DEFAULTS = {
    'hidden_size': 4096, 'intermediate_size': 14336, 'num_hidden_layers': 32,
    'num_attention_heads': 32, 'num_key_value_heads': 8, 'vocab_size': 32000,
    'rms_norm_eps': 1e-6}


class Found(NamedTuple):
  """What the files of a model say.

  config: our sizes. image_id: the token that stands for an image, or None.
  pinpoints: (height, width) of the canvases that tiles are cut from.
  """
  config: Any
  image_id: int | None
  pinpoints: tuple[tuple[int, int], ...]


def read_config(name, rope_theta=None, **numerics):
  """Reads config.json of a directory or hub model: a Found.

  Args:
    name: the directory or hub name.
    rope_theta: of a file that does not say it.
    **numerics: dtype, param_dtype, remat of all parts; lora_scale,
      lora_dropout of the decoder.

  Raises:
    ValueError: if a field is missing, or asks for what is not implemented.
  """
  path, whole = model_files.read_json(name, ('llava_next',))
  decoder = decoder_config(path, whole.get('text_config', {}), rope_theta,
                           numerics)
  vision = vision_config(path, whole, numerics)
  return Found(llava_next.LlavaNextConfig(decoder, vision),
               whole.get('image_token_index', whole.get('image_token_id')),
               pinpoints(whole))


def pinpoints(whole):
  return tuple(tuple(size) for size in whole.get('image_grid_pinpoints', ()))


def decoder_config(path, text, rope_theta, numerics):
  """The DecoderConfig of a Mistral; its rope_theta is never a default."""
  model_files.check_supported(path, text, TEXT_SUPPORTED)
  rope = text.get('rope_parameters') or {}
  theta = rope_theta or rope.get('rope_theta') or text.get('rope_theta')
  if not theta:
    raise ValueError(
        f'{path}: no rope_theta in its text_config; a wrong one fails without '
        'a sign, so there is no default: give it as rope_theta')
  sizes = {**TEXT_DEFAULTS, **text}
  heads, width = sizes['num_attention_heads'], sizes['hidden_size']
  return decoder_lib.DecoderConfig(
      vocab_size=sizes['vocab_size'], width=width,
      mlp_width=sizes['intermediate_size'], layers=sizes['num_hidden_layers'],
      heads=heads, kv_heads=sizes['num_key_value_heads'],
      head_width=sizes.get('head_dim') or width // heads,
      rope_theta=float(theta), norm_eps=sizes['rms_norm_eps'],
      qkv_bias=False, **numerics)


def vision_config(path, whole, numerics):
  """The ClipVisionConfig of the layers that run, one less than there are."""
  model_files.check_supported(path, whole, SUPPORTED)
  sizes = whole.get('vision_config', {})
  shared = {name: value for name, value in numerics.items()
            if not name.startswith('lora')}
  try:
    tower = encoder.EncoderConfig(
        sizes['hidden_size'], sizes['intermediate_size'],
        sizes['num_hidden_layers'] - 1, sizes['num_attention_heads'],
        sizes.get('hidden_act', 'quick_gelu'),
        sizes.get('layer_norm_eps', 1e-5), **shared)
    return clip.ClipVisionConfig(tower, sizes['image_size'],
                                 sizes['patch_size'])
  except KeyError as error:
    raise ValueError(f'{path}: no field {error} in its vision_config; want the '
                     'config.json of LLaVA-NeXT or MM-Embed') from error


def load(name, config, mesh):
  """The weights of a directory or hub model, on the mesh: {'params': ...}.

  Any layout of `layouts` is known, in one file or several. Raises ValueError
  for tensors that are left over, missing, of another shape, or not finite.
  """
  abstract = jax.eval_shape(
      lambda key: llava_next.init(config, key), jax.random.key(0))
  return model_files.load(name, mm_embed_names.LLAVA_NEXT, abstract, mesh,
                          config.decoder.tie_embeddings, generates=True)
