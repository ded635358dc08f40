"""MM-Embed in the layout of nvidia/MM-Embed."""
from jaxret.data.llava import prompts
from jaxret.methods import base
from jaxret.methods.mm_embed import method as mm_embed
from jaxret.models import model_files, pretrained, weight_files
from jaxret.models.llava import files as llava
from jaxret.models.llava import mm_embed_files, saving
from jaxret.models.llava import names as mm_embed_names


def exported(config, tokenizer, params):
  """See base.Exported.

  What was trained from LLaVA-NeXT and NV-Embed-v1 (model.llava) or from scratch
  has a config.json of ours, and the retriever's beside it.
  """
  m, model = config.model, mm_embed.model_config(config, tokenizer)
  table = mm_embed_names.with_head(mm_embed_files.weight_names(model))
  part = base.Part(table, params['params'], m.pretrained)
  files = {}
  if m.llava or not m.pretrained:
    image_id, pinpoints = tokenizer.encode(prompts.IMAGE)[0], llava.PINPOINTS
    if m.llava:
      path, whole = model_files.read_json(m.llava, ('llava_next',))
      pinpoints = llava.pinpoints(path, whole)
    files = {'config.json': saving.config_json(model, image_id, pinpoints),
             saving.RETRIEVER: saving.retriever_json(model),
             'preprocessor_config.json': saving.preprocessor_json(
                 model, pinpoints)}
    part = part._replace(base='', shapes=saving.shapes(model, table),
                         extra=_unread(m.llava, model, table, params))
  return base.Exported('transformers', {'': part}, files, {
      'max_tokens': config.data.max_tokens, 'alpha': base.alpha(config)},
                       model.name)


def _unread(name, model, table, params):
  """{key: Tensor} of layers of the tower that do not run."""
  zeros = saving.unread(model, table, params['params'])
  if not name:
    return zeros
  checkpoint = pretrained.open_checkpoint(name)
  found = weight_files.by_table(checkpoint, table)
  return {key: found.get(key, tensor) for key, tensor in zeros.items()}
