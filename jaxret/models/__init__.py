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

The wing of a backbone that writes says likewise

  GENERATIVE_TYPES  the `model_type` of what jaxret.load_generator opens by it

and has a module `generator` with `open_generator(path, mesh, **options)`, which
gives (config, parameters with the output head). config.module() is a Linen
module with these methods; P prompts of S tokens, M suffix tokens:

  start(batch)        reads prompts: (last hidden [P, D], decoder.Cache, the
                      position int [P] of what follows each)
  suffix(cache, x [P, M, D], positions int [P, M], chains)
                      hidden [P, M, D] of packed tokens behind the prompts, as
                      decoder.Chains(*chains) hang together
  step(cache, tokens int [P], positions int [P], column)
                      one more token of each: (hidden [P, D], Cache)
  vocabulary_terms(hidden)   see losses.token_log_likelihood

and a part `decoder`, a decoder.Decoder. A batch is what the reader of
`open_reader(config, tokenizer, **options)` in jaxret.data's wing, module
`continuations`, pads. That reader has

  reader(item, chat=False)         a prompt: the item as it is, or as the turn
                                   of a user whom the model is to answer
  reader.masked(item, chat=False)  the same prompt without its media's keys;
                                   all other tokens keep their positions
  reader.bucket(prompt), reader.pad(prompts, bucket)   see methods.base.Reader
  reader.suffix(text, name)        the tokens that are scored, int32 [L]
  reader.decode(ids), reader.ends  ids to text; the ids that end an answer

That of SCORING_WINGS, whose items jaxret.score_matrix scores, has as well

  reader.outline(item, chat=False) a prompt from headers alone, all but pixels
  reader.unseen(prompt)            a prompt or outline as `masked` has it

and is trained by BLiM: its module has what `visual_head` calls as well, and its
module `generator` `read_config(path, **numerics)`, `init(config, key)` and
`load(path, config, mesh)`.

The wing of a backbone whose answers rerank says

  RERANKING_TYPES  the `model_type` of what jaxret.load_reranker opens by it

is opened by its module `generator`, and its module has what `reranking` calls:
`visual_tokens`, `placed`, `start`. The reader is that of `open_reader` in
jaxret.data's wing, module `pairs`: a data.qwen2_vl.pairs.Pairs; of LLaVA-NeXT
one of its own, which reranking.question_reranker asks.
"""
import importlib
import pkgutil

# Backbones that are Qwen2-VL's decoder behind a tower: they share what trains
# one to embed or to describe. Each has a module `files` as qwen2_vl.files.
QWEN2_VL_WINGS = ('qwen2_vl', 'qwen25_vl')
SCORING_WINGS = (*QWEN2_VL_WINGS, 'qwen3_vl')
# Those that UNITE trains to embed.
TRAINED_WINGS = SCORING_WINGS


def embedding_wings():
  """{model_type: name of the wing that opens it}, of all that embed."""
  return _wings('MODEL_TYPES')


def generative_wings():
  """The same of all that continue prompts."""
  return _wings('GENERATIVE_TYPES')


def scoring_types():
  """The `model_type` of all whose items jaxret.score_matrix scores, sorted."""
  return sorted(model_type for model_type, wing in generative_wings().items()
                if wing in SCORING_WINGS)


def reranking_wings():
  """The same of all whose answers rerank."""
  return _wings('RERANKING_TYPES')


def _wings(attribute):
  found = {}
  for module in pkgutil.iter_modules(__path__):
    if module.ispkg:
      wing = importlib.import_module(f'{__name__}.{module.name}')
      found.update(dict.fromkeys(getattr(wing, attribute, ()), module.name))
  return found


def files_of(name, wings=QWEN2_VL_WINGS):
  """The module `files` of the wing that reads a directory or hub model.

  Raises ValueError for a `model_type` that is of none of the wings.
  """
  from jaxret.models import model_files
  known = {model_type: wing for model_type, wing in embedding_wings().items()
           if wing in wings}
  _, config = model_files.read_json(name, sorted(known))
  return importlib.import_module(
      f'{__name__}.{known[config["model_type"]]}.files')
