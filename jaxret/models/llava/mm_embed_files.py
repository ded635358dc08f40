"""MM-Embed and NV-Embed-v1 directories, and what MM-Embed is trained from."""
import pathlib

import jax

from jaxret import foreign_files
from jaxret.models import config_fields, model_files
from jaxret.models.llava import MODEL_TYPES, latent_attention, mm_embed
from jaxret.models.llava import files as llava
from jaxret.models.llava import names as mm_embed_names

# MM-Embed's file is one of LlavaNextConfig with fields of its own code besides.
TOP = llava.TOP._replace(
    only={**llava.TOP.only, 'global_image_patch_only': (True,),
          'padding_side': ('right',), 'add_eos_token': (True,)},
    harmless=(*llava.TOP.harmless, 'retriever', 'eos_replacement_for_pad'))
# NVEmbedConfig and LatentAttentionConfig, which come with NV-Embed-v1.
NV_EMBED = config_fields.Fields(
    sizes={},
    only={'padding_side': ('right',), 'is_mask_instruction': (True,),
          'add_eos': (True,), 'mask_type': ('b',)},
    harmless=('text_config', 'latent_attention_config', 'hidden_size',
              'add_pad_token', 'tie_word_embeddings'))
LATENT = config_fields.Fields(
    sizes={'hidden_dim': 4096, 'num_latents_value': 512, 'num_cross_heads': 8,
           'cross_dim_head': 4096, 'latent_dim': None,
           # Of files of ours alone: NV-Embed has no other.
           'expansion': latent_attention.LatentConfig.expansion},
    only={'output_normalize': (True,)}, harmless=('tie_word_embeddings',))


def read_config(name, retriever=None, rope_theta=None, **numerics):
  """Reads the config of a directory or hub model: a llava_next_files.Found.

  MM-Embed's own `text_config` describes the decoder of LLaVA-NeXT, which was
  thrown away: what runs is that of the `retriever` which the file names
  (nvidia/NV-Embed-v1), rotary positions, sizes and vocabulary (spec §1).

  Args:
    name: the directory or hub name of MM-Embed, or of NV-Embed-v1, which
      reads text alone.
    retriever: the directory, hub name or file of the retriever's config, where
      it is not to be found by the name that config.json has for it.
    rope_theta: in place of what the retriever's file says, which may be
      nothing: what its class then takes is not known.
    **numerics: dtype, param_dtype, remat of all parts; lora_scale,
      lora_dropout of the decoder.

  Raises:
    ValueError: if a field is missing, asks for what is not implemented, or is
      not known.
  """
  path, whole = model_files.read_json(name, MODEL_TYPES)
  if whole['model_type'] == 'nvembed':
    return llava.Found(mm_embed.MmEmbedConfig(
        **_retriever(path, whole, rope_theta, numerics), vision=None), None, ())
  image_id = config_fields.read(path, whole, TOP)['image_token_index']
  named = retriever or whole.get('retriever')
  if not named:
    raise ValueError(
        f'{path}: no field `retriever`, and text_config describes a decoder '
        'that does not run: give the directory of NV-Embed-v1 as retriever')
  retriever_path, found = _read_retriever(path.parent, named)
  config = mm_embed.MmEmbedConfig(
      **_retriever(retriever_path, found, rope_theta, numerics),
      vision=llava.vision_config(path, whole, numerics))
  return llava.Found(config, whole.get('image_token_id') or image_id,
                     llava.pinpoints(path, whole))


def read_start_config(llava_name, nv_embed, rope_theta=None, **numerics):
  """As `read_config`, of the two models that training starts from.

  llava_name: of the tower, projector and newline; nv_embed: of the rest.
  """
  path, whole = model_files.read_json(llava_name, ('llava_next',))
  image_id = config_fields.read(path, whole, TOP)['image_token_index']
  found = model_files.read_json(nv_embed, ('nvembed',))
  config = mm_embed.MmEmbedConfig(
      **_retriever(*found, rope_theta, numerics),
      vision=llava.vision_config(path, whole, numerics))
  return llava.Found(config, whole.get('image_token_id') or image_id,
                     llava.pinpoints(path, whole))


def _read_retriever(directory, name):
  """(path, contents) of the retriever's config: a file, or of a model."""
  for path in (directory / str(name), pathlib.Path(name).expanduser()):
    if path.is_file():
      whole = foreign_files.read_object(path)
      config_fields.check_not_quantized(path, whole)
      return path, whole
  return model_files.read_json(name, ('nvembed',))


def _retriever(path, whole, rope_theta, numerics):
  """The fields `decoder` and `latent` of an NV-Embed config."""
  config_fields.read(path, whole, NV_EMBED)
  text = config_fields.section(path, whole, 'text_config')
  if not text:
    raise ValueError(f'{path}: no field text_config; want the config of '
                     'NV-Embed-v1')
  # Both names are of the same class, whose attention goes both ways.
  decoder = llava.decoder_config(
      path, {**text, 'model_type': 'bidir_mistral'}, rope_theta, numerics)
  name = 'latent_attention_config'
  sizes = config_fields.read(
      path, config_fields.section(path, whole, name), LATENT, name)
  if sizes['latent_dim'] not in (None, sizes['hidden_dim']):
    raise ValueError(
        f'{path}: {name}: got latent_dim = {sizes["latent_dim"]}, want that of '
        f'hidden_dim, {sizes["hidden_dim"]}: use another model')
  shared = {name: numerics[name] for name in ('dtype', 'param_dtype')
            if name in numerics}
  latent = latent_attention.LatentConfig(
      sizes['hidden_dim'], sizes['num_latents_value'],
      sizes['num_cross_heads'], sizes['cross_dim_head'], sizes['expansion'],
      **shared)
  return {'decoder': decoder, 'latent': latent}


def load(name, config, mesh):
  """The weights of MM-Embed or NV-Embed-v1, on the mesh: {'params': ...}.

  Raises ValueError for tensors that are left over, missing, of another shape,
  or not finite.
  """
  table = mm_embed_names.with_head(weight_names(config))
  return model_files.load(name, table, _abstract(config), mesh)


def weight_names(config):
  """The table of MM-Embed, or of NV-Embed-v1, which sees no images."""
  return (mm_embed_names.NV_EMBED_V1 if config.vision is None
          else mm_embed_names.MM_EMBED)


def load_start(llava_name, nv_embed, config, mesh):
  """What MM-Embed is trained from: {'params': ...}.

  llava_name: LLaVA-NeXT, for its tower, projector and newline
  (llava-hf/llava-v1.6-mistral-7b-hf); nv_embed: NV-Embed-v1, for the rest.
  """
  abstract = _abstract(config)['params']
  params = {}
  for name, table, roots in (
      (llava_name, mm_embed_names.LLAVA_NEXT,
       ('vision', 'projector', 'image_newline')),
      (nv_embed, mm_embed_names.with_head(mm_embed_names.NV_EMBED_V1),
       ('decoder', 'latent_attention'))):
    part = {'params': {root: abstract[root] for root in roots}}
    params |= model_files.load(name, table, part, mesh)['params']
  return {'params': params}


def _abstract(config):
  return jax.eval_shape(
      lambda key: mm_embed.init(config, key), jax.random.key(0))
