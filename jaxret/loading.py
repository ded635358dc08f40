"""`jaxret.load`: a directory, a hub model or a workdir as an Embedder.

`jaxret.load_generator`: one that continues prompts, as a Generator.
"""
import importlib
import inspect
import os
import pathlib
from collections.abc import Callable
from typing import Any, TypeAlias

from jax.sharding import Mesh

from jaxret import (
  checkpoint,
  embedder,
  embedding_settings,
  foreign_files,
  generator,
  methods,
  models,
  own_files,
  process_settings,
  sharding,
)
from jaxret.data import recipes, text
from jaxret.data.dual_encoder import pixels as dual_encoder
from jaxret.data.qwen2_vl import pixels as qwen2_vl
from jaxret.data.qwen3_vl import pixels as qwen3_vl
from jaxret.methods import base
from jaxret.models import model_files

Resolution: TypeAlias = (
    qwen2_vl.Resolution | qwen3_vl.Resolution | qwen3_vl.Processor
    | dual_encoder.Resolution)


def load(path: str | os.PathLike, position_mode: str | None = None,
         dtype: str = 'float32', adapter: str | os.PathLike | None = None,
         resolution: Resolution | None = None, max_tokens: int | None = None,
         trim_text: bool = False, alpha: str | None = None,
         truncate_dim: int | None = None, mesh: Mesh | None = None,
         recipe: str | None = None, prompt: str | None = None,
         pooling: str | None = None) -> embedder.Embedder:
  """Opens a model: an Embedder.

  Args:
    path: a directory or hub model as transformers writes it (Qwen2-VL,
      Qwen2.5-VL and what is trained from them, UNITE among others;
      Qwen3-VL-Embedding and Qwen3-VL; nvidia/MM-Embed and
      nvidia/NV-Embed-v1; CLIP and SigLIP 2; of sentence-transformers what is a
      BERT or XLM-R), or the workdir of a training run of ours, which keeps its
      own settings: only trim_text, truncate_dim and mesh count there. What
      `jaxret export` wrote says how it is used; options come before that.
    position_mode: of Qwen2-VL and Qwen2.5-VL; 'sequential', as UNITE is
      trained and by default, or 'mrope', as the model itself is.
    dtype: of weights and computation, 'float32' or 'bfloat16'.
    adapter: a directory or hub name of a PEFT adapter, to be merged into the
      weights.
    resolution: of what Qwen2-VL or Qwen3-VL sees; default: as UNITE is
      released, or as the script of Qwen3-VL-Embedding has it. Of CLIP and
      SigLIP 2 how many frames of a video are seen; default: 12.
    max_tokens: of an item, visual tokens included; default: 2048, of Qwen3-VL
      8192, of a text encoder as its files say. CLIP and SigLIP have their own.
    trim_text: True cuts the text of a longer item and says so; False refuses.
    alpha: 'white', the default, lays transparent pixels on white; 'released'
      shows the colours that lie hidden under them, as the authors' code does.
    truncate_dim: how many numbers of an embedding are kept; see Embedder.
    mesh: of devices; default: all of them.
    recipe: how what is trained on Qwen2-VL or Qwen2.5-VL is used, a name of
      data.recipes.RECIPES: its prompt, pooling, position_mode, resolution and
      max_tokens. What is given besides comes before it. Default: 'unite'.
    prompt: of these, a prompt of your own: the whole text with {content} where
      an item stands, and {instruction} for what `encode` is told, if at all.
    pooling: of these, the state at the 'last' token, or the 'mean' of all.

  Raises:
    ValueError: for what is not there, damaged, or of another kind, and for an
      option that has no effect on the model at `path`.
  """
  process_settings.keep_compiled_of_user()
  mesh = mesh or sharding.make_mesh()
  options = {'position_mode': position_mode, 'dtype': dtype, 'adapter': adapter,
             'resolution': resolution, 'max_tokens': max_tokens,
             'trim_text': trim_text, 'alpha': alpha, 'prompt': prompt,
             'pooling': pooling}
  if is_workdir(path):
    _refuse_without_effect(path, options | {'recipe': recipe}, {'trim_text'},
                           'a workdir, which keeps its own settings', load)
    return _open_workdir(
        pathlib.Path(path).expanduser(), trim_text, truncate_dim, mesh)
  sizes, params, reader = _open_embedder(path, options, recipe, mesh)
  return embedder.Embedder(
      sizes, params, reader, mesh, truncate_dim=truncate_dim)


def _open_embedder(path, options, recipe, mesh):
  """(sizes, parameters, reader); what is None is as the recipe has it."""
  wings = models.embedding_wings()
  file, config = model_files.read_json(path, sorted(wings))
  wing = wings[config['model_type']]
  told = [embedding_settings.read(place) for place in (
      options['adapter'] or file.parent, file.parent)]
  if recipe is not None:
    told.insert(0, recipes.options(recipe, config['model_type']))
  for chosen in told:
    options = options | {name: value for name, value in chosen.items()
                         if options[name] is None}
  parts = (named(f'models.{wing}.embedder', 'open_embedder'),
           named(f'data.{wing}.reader', 'open_reader'))
  return open_checkpoint(
      path, config['model_type'], parts, options, mesh, load)


def load_generator(
    path: str | os.PathLike, dtype: str = 'float32',
    adapter: str | os.PathLike | None = None,
    resolution: Resolution | None = None, max_tokens: int = 4096,
    clips: int = 4, alpha: str = 'white', mesh: Mesh | None = None
    ) -> generator.Generator:
  """Opens a model that continues prompts: a Generator.

  Args:
    path: a directory or hub model as transformers writes it, with its output
      head: Qwen2-VL, Qwen2.5-VL, Qwen3-VL, LLaVA-NeXT on Mistral,
      VideoChat-Flash, Qwen2 and Qwen2.5 (texts alone); or the workdir of a run
      of BLiM or answers, which keeps its own settings.
    dtype, adapter, alpha, mesh: as for `load`.
    resolution: of what Qwen2-VL, Qwen2.5-VL or Qwen3-VL sees; default: of the
      first two data.qwen2_vl.continuations.RESOLUTION, of a video at most
      twelve small frames; of Qwen3-VL as its files have it.
    max_tokens: of a prompt, visual tokens included; a longer one is refused.
    clips: how many of a video VideoChat-Flash sees, four frames each.

  Raises:
    ValueError: as `load` does.
  """
  process_settings.keep_compiled_of_user()
  mesh = mesh or sharding.make_mesh()
  options = {'dtype': dtype, 'adapter': adapter, 'resolution': resolution,
             'max_tokens': max_tokens, 'clips': clips, 'alpha': alpha}
  if is_workdir(path):
    _refuse_without_effect(path, options, set(), 'a workdir, which keeps its '
                           'own settings', load_generator)
    return _open_generating_workdir(pathlib.Path(path).expanduser(), mesh)
  wings = models.generative_wings()
  _, config = model_files.read_json(path, sorted(wings))
  wing = wings[config['model_type']]
  parts = (named(f'models.{wing}.generator', 'open_generator'),
           named(f'data.{wing}.continuations', 'open_reader'))
  sizes, params, reader = open_checkpoint(
      path, config['model_type'], parts, options, mesh, load_generator)
  return generator.Generator(sizes, params, reader, mesh)


def _open_generating_workdir(workdir, mesh):
  config = checkpoint.read_config(workdir)
  opened = methods.open_generator(config.method)
  if opened is None:
    raise ValueError(f'{workdir} was made by the method {config.method!r}, '
                     "which continues no prompts; want one made by 'blim', say")
  return generator.Generator(*opened(config, workdir, mesh), mesh)


def named(module: str, name: str) -> Any:
  """What a module of jaxret has under a name."""
  return getattr(importlib.import_module(f'jaxret.{module}'), name)


def open_checkpoint(
    path: str | os.PathLike, model_type: str, parts: tuple[Callable, Callable],
    options: dict[str, Any], mesh: Mesh, function: Callable
    ) -> tuple[Any, dict[str, Any], Any]:
  """(config, parameters, reader), as the two wings of a backbone open them.

  parts: what opens the model and its reader; function: whose options they are.
  """
  open_model, open_reader = parts
  weight_options, reader_options = (
      {name: value for name, value in options.items()
       if name in inspect.signature(part).parameters and value is not None}
      for part in parts)
  _refuse_without_effect(path, options, {*weight_options, *reader_options},
                         f'a model of type {model_type}', function)
  tokenizer = text.load_tokenizer(path)  # before gigabytes are read
  config, params = open_model(path, mesh, **weight_options)
  return config, params, open_reader(config, tokenizer, **reader_options)


def _refuse_without_effect(path, options, known, kind, function):
  """Raises ValueError for an option that is set and that nothing reads."""
  parameters = inspect.signature(function).parameters
  for name, value in options.items():
    if name not in known and value != parameters[name].default:
      raise ValueError(f'{path}: {name} = {value!r} has no effect on {kind}: '
                       'leave it out')


def is_workdir(path: str | os.PathLike) -> bool:
  """Whether a directory is that of a run of ours, not a model's."""
  file = pathlib.Path(path).expanduser() / 'config.json'
  return file.is_file() and 'method' in foreign_files.read_object(file)


def chosen_weights(path: str | os.PathLike, method: str) -> dict[str, float]:
  """The weights of the main row of a workdir's results, {} without any.

  method: whose workdir it must be; weights of another one are none.

  Raises ValueError for results that cannot be read.
  """
  file = pathlib.Path(path).expanduser() / 'results.json'
  if not is_workdir(path) or not file.is_file():
    return {}
  if checkpoint.read_config(path).method != method:
    return {}
  main = methods.package(method).MAIN_ROW
  of_tasks = own_files.read_object(file, 'evaluate again').get('weights', {})
  return next((rows[main] for rows in of_tasks.values() if main in rows), {})


def workdir_tokenizer(config: Any, workdir: pathlib.Path) -> Any:
  """The tokenizer of what a workdir has trained."""
  return text.load_tokenizer(tokenizer_place(config, workdir))


def tokenizer_place(config: Any, workdir: pathlib.Path) -> str | pathlib.Path:
  """The directory or hub name of the same."""
  name = config.model.tokenizer or config.model.pretrained
  directory = pathlib.Path(config.init_from or workdir) / 'tokenizer'
  if not directory.is_dir():  # the stages of a run share the run's
    directory = workdir.parent / 'tokenizer'
  return name or directory


def _open_workdir(workdir, trim_text, truncate_dim, mesh):
  from jaxret import run  # slow: it trains, too
  config = checkpoint.read_config(workdir)
  embeds = methods.embeds(config.method)
  if embeds is None:
    raise ValueError(f'{workdir} was made by the method {config.method!r}, '
                     "which gives no embeddings; want one made by 'unite', say")
  tokenizer = workdir_tokenizer(config, workdir)
  reader = embeds.reader(config, tokenizer)
  reader.trim_text = trim_text
  params = run.trained(config, tokenizer, workdir, mesh)
  if config.model.param_dtype == 'float32':  # where merging loses nothing
    params = base.merged(config, params)
  return embedder.Embedder(
      *embeds.served(embeds.model(config, tokenizer), params), reader, mesh,
      truncate_dim=truncate_dim)
