"""The networks: the only place where Flax Linen is used.

A backbone is a package here, a wing, and one of the same name in jaxret.data.
The wing of a backbone that embeds says in its `__init__`, which imports
nothing, what jaxret.load opens by it:

  MODEL_TYPES  what config.json of such a checkpoint has as its `model_type`

and has a module `embedder` with `open_embedder(path, mesh, **options)`, which
gives (sizes as methods.base.Embeds.model gives them, parameters). The reader
is that of `open_reader(sizes, tokenizer, **options)` in jaxret.data's wing,
module `reader`. An option that neither has a parameter for has no effect on
such a checkpoint: jaxret.load refuses it.
"""
import importlib
import pkgutil

# Backbones that are Qwen2-VL's decoder behind a tower: they share what trains
# one to embed or to describe. Each has a module `files` as qwen2_vl.files.
QWEN2_VL_WINGS = ('qwen2_vl', 'qwen25_vl')


def embedding_wings():
  """{model_type: name of the wing that opens it}, of all that embed."""
  found = {}
  for module in pkgutil.iter_modules(__path__):
    if module.ispkg:
      wing = importlib.import_module(f'{__name__}.{module.name}')
      found.update(dict.fromkeys(getattr(wing, 'MODEL_TYPES', ()),
                                 module.name))
  return found


def files_of(name, wings=QWEN2_VL_WINGS):
  """The module `files` of the wing that reads a directory or hub model.

  Raises ValueError for a `model_type` that is none of those of `wings`.
  """
  from jaxret.models import model_files
  known = {model_type: wing for model_type, wing in embedding_wings().items()
           if wing in wings}
  _, config = model_files.read_json(name, sorted(known))
  return importlib.import_module(
      f'{__name__}.{known[config["model_type"]]}.files')
