"""Names of tensors of MM-Embed, NV-Embed-v1 and LLaVA-NeXT, as in `names`."""
from jaxret.models import encoder_names, names
from jaxret.models.names import Weight, within

_NORM = (Weight('scale', 'weight'), Weight('bias', 'bias'))
_LINEAR = (Weight('kernel', 'weight', 'transpose'), Weight('bias', 'bias'))

_MISTRAL_LAYER = tuple(weight for weight in names.DECODER_LAYER
                       if not weight.path.endswith('/bias'))


def _mistral(prefix):
  """The decoder without its output head."""
  return (
      Weight('decoder/embed/embedding', f'{prefix}embed_tokens.weight'),
      *within(_MISTRAL_LAYER, 'decoder/layers/', prefix + 'layers.{layer}.'),
      Weight('decoder/final_norm/scale', f'{prefix}norm.weight'))


# The features are those of the last but one layer of the tower.
_VISION = (
    *within(encoder_names.CLIP_VISION, '', 'vision_tower.vision_model.',
            spare_layers=1),
    *within(_LINEAR, 'projector/in/', 'multi_modal_projector.linear_1.'),
    *within(_LINEAR, 'projector/out/', 'multi_modal_projector.linear_2.'),
    Weight('image_newline', 'image_newline'))


def _halves(paths, key, parts=('kernel', 'bias')):
  """Two linear layers in one tensor, the first half of its rows the first."""
  theirs = {'kernel': 'weight', 'bias': 'bias'}
  for path, half in zip(paths, ('first_half', 'second_half')):
    for part in parts:
      yield Weight(f'{path}/{part}', f'{key}.{theirs[part]}', half)


_LATENT = (
    Weight('latents', 'latents'),
    *within(_NORM, 'token_norm/', 'cross_attend_blocks.0.norm.'),
    *within(_NORM, 'latent_norm/', 'cross_attend_blocks.0.norm_context.'),
    Weight('q/kernel', 'cross_attend_blocks.0.fn.to_q.weight', 'transpose'),
    *_halves(('k', 'v'), 'cross_attend_blocks.0.fn.to_kv', ('kernel',)),
    Weight('o/kernel', 'cross_attend_blocks.0.fn.to_out.weight', 'transpose'),
    *within(_NORM, 'mlp_norm/', 'cross_attend_blocks.1.norm.'),
    *_halves(('mlp/value', 'mlp/gate'), 'cross_attend_blocks.1.fn.net.0'),
    *within(_LINEAR, 'mlp/out/', 'cross_attend_blocks.1.fn.net.2.'),
)
LATENT = within(_LATENT, 'latent_attention/', 'latent_attention_model.')

MM_EMBED = _VISION + _mistral('language_model.') + LATENT
NV_EMBED_V1 = _mistral('embedding_model.') + LATENT
LLAVA_NEXT = (
    *_VISION, *_mistral('language_model.model.'),
    Weight('decoder/lm_head/kernel', 'language_model.lm_head.weight',
           'transpose', tied_to='language_model.model.embed_tokens.weight'))


def with_head(table):
  """The table of an embedder, and the head that its file may hold unread."""
  embedding = next(weight.key for weight in table
                   if weight.path == 'decoder/embed/embedding')
  return (*table, Weight('decoder/lm_head/kernel', 'lm_head.weight',
                         'transpose', tied_to=embedding))
