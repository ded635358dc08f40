"""What sentence-transformers calls a model by, for tools written for it.

Its evaluators, `mine_hard_negatives` and `semantic_search` run on an Embedder
unchanged. Vectors are unit vectors whatever is asked, and numpy arrays unless a
tensor is asked for; PyTorch is imported then alone.
"""
import types
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# What a model's `prompts` may call those of queries and of documents, as there.
QUERY, DOCUMENT = ('query',), ('document', 'passage', 'corpus')


# Keywords of its `encode` that mean nothing here, with the value they have.
DEFAULTS = {'output_value': 'sentence_embedding', 'pool': None,
            'chunk_size': None}


class Options(NamedTuple):
  """Keywords of its `encode` that say how vectors are asked for and given.

  prompt_name: of a text in `prompts`. show_progress_bar: None = as
  show_progress says. convert_to_tensor: PyTorch's, on the CPU; comes before
  convert_to_numpy, and where both are False a list of arrays is given.
  normalize_embeddings: vectors are unit vectors either way. device: None or
  'cpu', where vectors are; the model is where its mesh is.
  """
  prompt_name: str | None = None
  show_progress_bar: bool | None = None
  convert_to_numpy: bool = True
  convert_to_tensor: bool = False
  normalize_embeddings: bool = True
  device: Any = None

  def prompt(self, prompts: dict[str, str], prompt: str | None) -> str | None:
    """The prompt that is given, or that of a name.

    Raises ValueError for both of them, an unknown name, and another device.
    """
    if self.device is not None and str(self.device) != 'cpu':
      raise ValueError(
          f'device: got {str(self.device)!r}; the model is where its mesh is '
          "(jaxret.load(..., mesh=...)) and vectors come to 'cpu': leave it "
          'out')
    if self.prompt_name is None:
      return prompt
    if prompt is not None:
      raise ValueError(f'got a prompt and prompt_name={self.prompt_name!r}: '
                       'want one of them')
    if self.prompt_name not in prompts:
      raise ValueError(
          f'prompt_name: got {self.prompt_name!r}, there is '
          f'{", ".join(prompts) or "none"}: set model.prompts, or give the '
          'prompt itself')
    return prompts[self.prompt_name]

  def progress(self, show_progress: bool) -> bool:
    """Whether a bar is shown."""
    return (show_progress if self.show_progress_bar is None
            else self.show_progress_bar)

  def given(self, vectors: np.ndarray) -> Any:
    """Vectors [N, D] or [D] as they are asked for."""
    if self.convert_to_tensor or self.convert_to_numpy:
      return as_asked(vectors, self.convert_to_tensor)
    return list(vectors) if vectors.ndim == 2 else vectors


class SentenceNames:
  """Names of sentence-transformers for a class that has `encode`.

  prompts: {name: text} for `prompt_name`; empty unless they are set.
  """
  similarity_fn_name = 'cosine'
  prompts: dict[str, str]

  @property
  def width(self) -> int:
    raise NotImplementedError

  def encode(self, items: Any, prompt: str | None = None, **options: Any
             ) -> Any:
    raise NotImplementedError

  def encode_query(self, items: Any, prompt_name: str | None = None,
                   prompt: str | None = None, **options: Any) -> Any:
    """`encode` with the prompt of queries, where `prompts` has one."""
    return self._encode_as(QUERY, items, prompt_name, prompt, options)

  def encode_document(self, items: Any, prompt_name: str | None = None,
                      prompt: str | None = None, **options: Any) -> Any:
    """`encode` with the prompt of documents, where `prompts` has one."""
    return self._encode_as(DOCUMENT, items, prompt_name, prompt, options)

  def _encode_as(self, names, items, prompt_name, prompt, options):
    if prompt is None and prompt_name is None:
      prompt_name = next((name for name in names if name in self.prompts),
                         None)
    return self.encode(items, prompt, prompt_name=prompt_name, **options)

  def similarity(self, left: Any, right: Any) -> Any:
    """Cosine similarity of all pairs, [N, D] and [M, D] -> float32 [N, M].

    A PyTorch tensor where one is given, else a numpy array.
    """
    tensor = is_tensor(left) or is_tensor(right)
    left, right = units(left), units(right)
    return as_asked(left @ right.T, tensor)

  def similarity_pairwise(self, left: Any, right: Any) -> Any:
    """Cosine similarity of each pair, twice [N, D] -> float32 [N]."""
    tensor = is_tensor(left) or is_tensor(right)
    left, right = units(left), units(right)
    if len(left) != len(right):
      raise ValueError(f'similarity_pairwise: got {len(left)} and '
                       f'{len(right)} vectors, want as many')
    return as_asked((left * right).sum(1), tensor)

  def get_embedding_dimension(self) -> int:
    """How many numbers an embedding has."""
    return self.width

  get_sentence_embedding_dimension = get_embedding_dimension

  @property
  def device(self) -> str:
    """Where tensors that it gives are: on the CPU, wherever it computes."""
    return 'cpu'

  @property
  def model_card_data(self) -> types.SimpleNamespace:
    """Takes what evaluators would write into a model card, and drops it."""
    return types.SimpleNamespace(
        base_model=None, set_evaluation_metrics=lambda *args, **more: None)


def check_defaults(more: dict[str, Any]) -> None:
  """TypeError for a keyword that is none; ValueError for another value."""
  for name, value in more.items():
    if name not in DEFAULTS:
      raise TypeError(f'encode() has no keyword {name!r}')
    if value != DEFAULTS[name]:
      raise ValueError(f'{name}: got {value!r}, want {DEFAULTS[name]!r}, which '
                       'is all there is here: leave it out')


def as_asked(array: np.ndarray, tensor: bool) -> Any:
  """A numpy array, or the same as a PyTorch tensor."""
  if not tensor:
    return array
  import torch
  return torch.from_numpy(np.ascontiguousarray(array))


def is_tensor(array: Any) -> bool:
  """Whether it is one of PyTorch's, which need not be installed."""
  return type(array).__module__.partition('.')[0] == 'torch'


def units(vectors: Any) -> np.ndarray:
  """float32 [N, D] of length 1; ValueError for codes.

  vectors: arrays or tensors, [N, D] or one [D], or a sequence of such.
  """
  if is_tensor(vectors):
    vectors = vectors.detach().cpu().numpy()
  elif isinstance(vectors, Sequence) and vectors and is_tensor(vectors[0]):
    vectors = np.stack([one.detach().cpu().numpy() for one in vectors])
  rows = np.atleast_2d(np.asarray(not_codes(vectors), np.float32))
  return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def not_codes(vectors: Any) -> Any:
  """What is given; ValueError for codes, whose cosines mean something else."""
  if getattr(vectors, 'dtype', None) in (np.int8, np.uint8):
    raise ValueError(
        f'got {vectors.dtype} vectors, want floats: what is quantized is '
        "compared by the tool that it is made for; encode with "
        "precision='float32' to compare here")
  return vectors
