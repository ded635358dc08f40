"""What a method is: pure functions that the loops and evaluators call.

And what methods with LoRA have in common: where it starts, and its end.
"""
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh

from jaxret import initial, sharding
from jaxret.data import media, types
from jaxret.models import lora as lora_lib
from jaxret.models import names
from jaxret.scoring.likelihood import kernels
from jaxret.scoring.likelihood import score as likelihood

if TYPE_CHECKING:
  from ml_collections import ConfigDict

Params: TypeAlias = dict[str, Any]  # nested, arrays at the leaves
Batch: TypeAlias = Mapping[str, Any]  # arrays [B, ...], what Examples give
Loss: TypeAlias = tuple[jax.Array, dict[str, jax.Array]]  # [B], metrics


class Examples(Protocol):
  """Random access to training examples as dicts of arrays, static shapes.

  ids[i] names example i in messages; `constants` are arrays that every step
  sees besides its batch, such as the train-split video vocabulary.
  """
  ids: list[str]
  constants: dict[str, np.ndarray]

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> dict[str, np.ndarray]: ...


class Pair(Protocol):
  """A training pair of a method that embeds; its media are not decoded yet.

  target_modality: of the candidate, 'text' or 'image,text' say; None = what
  the candidate has. negative: an item that is no answer, a tuple of several,
  or None. It may have `scores` and a `grade`, see data.pair_examples.
  """
  query: types.Item
  candidate: types.Item
  target_modality: str | None
  negative: types.Item | tuple[types.Item, ...] | None


class Reader(Protocol):
  """Turns items into what the model of a method that embeds is given.

  Calling it reads one item, its media decoded, a prompt put where the method
  wants it; raises ValueError naming the item for what it cannot read, a
  media.MediaError if that is a medium. What it returns has the item's `id`.
  check: raises the same for what its text and the headers of its media show,
  without decoding more than a first frame. bucket: the static sizes that hold
  what was read, a tuple of ints; few of them, since the model is compiled for
  each. pad: arrays [B, ...] of several at one such size, rows in order;
  ValueError naming the item that does not fit. trim_text: an attribute, what
  is done with a text that is too long: True cuts it and says so, False refuses
  it.
  """

  def __call__(self, item: types.Item, prompt: str | None = None) -> Any: ...

  def check(self, item: types.Item) -> None: ...

  def bucket(self, inputs: Any) -> tuple[int, ...]: ...

  def pad(self, inputs: list, shape: tuple[int, ...]
          ) -> dict[str, np.ndarray]: ...


class EmbedderConfig(Protocol):
  """Hashable sizes of a model that embeds.

  name: of the model, as Embedder is shown. width: of an embedding, D. module:
  gives what has `apply(params, batch of a Reader)`, unit vectors float32
  [B, D].
  """
  name: str
  width: int

  def __hash__(self) -> int: ...

  def module(self) -> Any: ...


class Evaluated(Protocol):
  """What a method that embeds is evaluated on: tasks with a name together.

  Its run knows more of it: UNITE's methods.evaluated.Evaluated holds
  types.Tasks, MM-Embed's data.sets.mixed.Benchmark pools and mixed.Tasks. What
  its files hold and cannot be used may be `left_out`, types.LeftOuts: a run
  lists these, or refuses them.
  """
  name: str
  tasks: Sequence[Any]


class Embeds(NamedTuple):
  """What a run needs of a method that embeds besides its Method.

  Such a method's module has it as EMBEDS; see methods.embeds.

  stages, compared: sections of the config that `before` and `compare` may
    name: what is trained first, and beside the method.
  model: (config, tokenizer) -> EmbedderConfig.
  reader: (config, tokenizer, cache_bytes=0) -> Reader.
  fingerprint: (config) -> flat dict of what an embedding depends on besides
    the weights, the item and its prompt.
  tokenizer_options: () -> options of data.text.train_tokenizer: what a
    tokenizer must know besides the texts of the pairs.
  training_pairs: (config) -> {source: sequence of Pairs}.
  evaluated: (config) -> [Evaluated], all files found: what the method's own
    run evaluates it on.
  check: (config) raises ValueError for fields that do not go together.
  weight_names: (what `model` gives) -> the table of models.names that an
    exported adapter's keys are from.
  served: (what `model` gives, params) -> the same in the form that embeds
    fastest, for evaluation.
  `examples` of its Method takes (pairs, reader, shapes=None): its Reader,
  which several examples share, and {side: bucket} or None to measure it.
  """
  stages: tuple[str, ...]
  compared: tuple[str, ...]
  model: Callable[..., EmbedderConfig]
  reader: Callable[..., Reader]
  fingerprint: Callable[['ConfigDict'], dict[str, Any]]
  tokenizer_options: Callable[[], dict[str, Any]]
  training_pairs: Callable[['ConfigDict'], dict[str, Sequence[Pair]]]
  evaluated: Callable[['ConfigDict'], Sequence[Evaluated]]
  check: Callable[['ConfigDict'], None] = lambda config: None
  served: Callable[..., tuple] = lambda model, params: (model, params)
  weight_names: Callable[..., tuple[names.Weight, ...]] = (
      lambda model: names.newer(model.weights))


class Scorer(NamedTuple):
  """What scores pairs of a video and a text by likelihood, of one config.

  model: what a decoder offers to `scoring.likelihood`; the same config gives
    the same one, so that `jit` compiles once.
  prompts: (texts, Items) -> scoring.likelihood.score.Prompts. Raises ValueError
    naming the text that it cannot hold.
  video_vocabulary: (Visuals, features) -> float32 [V, clips, Dv], what a clip
    is told apart from.
  feature_shape: (clips, tokens, Dv) of a video's features.
  """
  model: kernels.LikelihoodModel
  prompts: Callable[[Sequence[types.Item]], likelihood.Prompts]
  video_vocabulary: Callable[[types.Visuals], np.ndarray]
  feature_shape: tuple[int, int, int]


class Part(NamedTuple):
  """A file of weights of an exported model.

  table: the names.Weights of `params`, a nested dict. base: a directory or hub
  name of the model that was trained on, whose names of tensors and tensors that
  are no parameters stay; '' = names are the table's. shapes: {key: shape} of
  convolutions, where there is no base. extra: {key: weight_files.Tensor} of
  what is no parameter and the layout has, then.
  """
  table: Sequence[names.Weight]
  params: Params
  base: str = ''
  shapes: Mapping[str, tuple[int, ...]] = {}
  extra: Mapping[str, Any] = {}


class Exported(NamedTuple):
  """What a trained model is in the layout that the Hub has for it.

  A method that has one has a module `export` with `exported(config, tokenizer,
  params)`, which gives it; params: as the run ends with them, LoRA merged.

  layout: 'transformers' or 'sentence-transformers', whose it is.
  parts: {folder, '' for the directory itself: Part}.
  files: {name: what a JSON file holds}, and text of a file that is none.
  also: {another layout that the same weights have: what files it adds}, in the
    form of `files`, each made when it is asked for.
  options: of jaxret.load, which embedding_settings keeps.
  model_type: of config.json, for the card. opened_by: 'load' or
    'load_generator', what of jaxret opens it.
  """
  layout: str
  parts: Mapping[str, Part]
  files: Mapping[str, Any]
  options: Mapping[str, Any]
  model_type: str
  opened_by: str = 'load'
  also: Mapping[str, Callable[[], Mapping[str, Any]]] = {}


class Method(NamedTuple):
  """A retrieval method as pure functions of its parameters.

  Two halves: what training needs, and what gives scores. The latter is
  `scorer`, or for a method that embeds the Embeds of its module.

  name: as in `config.method`.
  init: (key) -> params, {'params': ..., 'lora': ... if any}; may be traced.
  load: (key, mesh) -> params on the mesh, from pretrained files, or None when
    the method trains from `init`.
  loss: (params, constants, batch, key) -> (float32 [B], {name: float32 []});
    without a key there is no dropout.
  examples: what the method trains on -> Examples. It is called by the run of
    the method's own package alone, and takes what there is to train on:
    (Split, Visuals) where videos or images are found by their captions,
    (training pairs, ...) of a method that embeds, as Embeds says. A package
    says what its own takes.
  trainable: regexes on '/'-joined parameter paths; all others are frozen.
  train_flops: (batch) -> model FLOPs of forward and backward on one batch.
  tokens: (batch) -> how many tokens the model reads in it.
  check: (texts, shape) raises ValueError for texts (Items) that the method
    cannot read, or features of a video of another shape than it wants.
  embed: (params, constants, batch, key) -> tree of [B, ...], and
  embedding_loss: (that tree, batch) -> as loss, for a method whose loss is of
    embeddings: training in several chunks then still contrasts the whole
    batch, see gradients.chunked. None for other losses.
  scorer: the Scorer of a method that scores by likelihood; None for others.
  """
  name: str
  init: Callable[[jax.Array], Params]
  load: Callable[[jax.Array, Mesh], Params] | None
  loss: Callable[[Params, Mapping[str, Any], Batch, jax.Array | None], Loss]
  examples: Callable[..., Examples]
  trainable: tuple[str, ...]
  train_flops: Callable[[Batch], float]
  tokens: Callable[[Batch], int]
  check: Callable[[Sequence[types.Item], tuple[int, ...]], None] = (
      lambda texts, shape: None)
  embed: Callable[[Params, Mapping[str, Any], Batch, jax.Array | None], Any
                  ] | None = None
  embedding_loss: Callable[[Any, Batch], Loss] | None = None
  scorer: Scorer | None = None


def alpha(config: 'ConfigDict') -> str:
  """What becomes of transparent pixels, as data.images.shown has it."""
  # Configs of old work directories have no such field.
  return config.data.get('alpha', 'white')


def media_fingerprint(config: 'ConfigDict') -> dict[str, Any]:
  """How media become pixels: what is stored of them depends on it besides."""
  return {'reading': media.READING, 'alpha': alpha(config)}


def lora_fields(lora: 'ConfigDict') -> dict[str, float]:
  """Fields of a DecoderConfig from a config's section `model.lora`."""
  return {'lora_scale': lora.alpha / lora.rank if lora.rank else 1.0,
          'lora_dropout': lora.dropout}


def init(make: Callable[[jax.Array], Params], targets: Sequence[str], rank: int,
         key: jax.Array) -> Params:
  """Random parameters: those of a model, and LoRA factors if rank > 0.

  make: (key) -> {'params': ...}. targets: see models.lora.init.
  """
  base_key, lora_key = jax.random.split(key)
  params = make(base_key)
  if rank:
    params['lora'] = lora_lib.init(lora_key, params['params'], targets, rank)
  return params


def add_lora(init: Callable[[jax.Array], Params], params: Params,
             key: jax.Array, mesh: Mesh) -> Params:
  """`params` with LoRA factors at random, on the mesh, if `init` makes any."""
  abstract = initial.shapes(init)
  if 'lora' not in abstract:
    return params
  places = sharding.shardings(mesh, abstract)['lora']
  factors = jax.jit(lambda key: init(key)['lora'], out_shardings=places)(key)
  return {**params, 'lora': factors}


def merged(config: 'ConfigDict', params: Params) -> Params:
  """{'params': ...} with what LoRA trained folded in.

  It is what a later stage starts from.
  """
  if 'lora' not in params:
    return params
  scale = lora_fields(config.model.lora)['lora_scale']
  return {'params': jax.jit(functools.partial(lora_lib.merge, scale=scale))(
      params['params'], params['lora'])}
