"""The model of an index, opened once it is needed, and no other one."""
import os
import pathlib
from typing import Any

from jaxret import embedder, loading
from jaxret.indexing import identity, store


class Opener:
  """A model that is opened at first use.

  model: what jaxret.load opens, with options, or an Embedder. opened: what an
  index keeps of the former. wanted: what identity.of_model must give, of the
  index `of`; weights: their checksum where it is known.
  """

  def __init__(self, model: str | os.PathLike | embedder.Embedder,
               options: dict[str, Any], weights: str | None = None,
               wanted: store.Description | None = None,
               of: str | os.PathLike = ''):
    self.opened = None
    if not isinstance(model, embedder.Embedder):
      self.opened = {'path': _name_of(model), 'options': _kept(options),
                     'files': identity.files_of(model)}
    elif options:
      raise ValueError(f'{next(iter(options))} has no effect on a model that '
                       'is open: leave it out')
    self._given, self._options = model, options
    self._weights, self._wanted, self._of = weights, wanted, of
    self._model: embedder.Embedder | None = None
    self._identity: dict[str, Any] | None = None

  @property
  def model(self) -> embedder.Embedder:
    """The Embedder; ValueError for another one than the index was made by."""
    if self._model is None:
      self._model = self._given if isinstance(
          self._given, embedder.Embedder) else loading.load(
              self._given, **self._options)
      if self._wanted is not None:
        self._refuse_another()
    return self._model

  def identity(self) -> dict[str, Any]:
    """What tells the model from others, see identity.of_model."""
    if self._identity is None:
      self._identity = identity.of_model(self.model, self._weights)
    return self._identity

  def _refuse_another(self):
    assert self._wanted is not None
    other = identity.difference(self._wanted.model, self.identity())
    if other:
      made = self._wanted
      was = made.opened['path'] if made.opened else made.model['name']
      now = self.opened['path'] if self.opened else self.model.config.name
      self._model = None
      raise ValueError(
          f'{self._of} was made by {was}, got {now}: another {other}; use the '
          'model that it was made by, or index into another directory')


def of_index(path: str | os.PathLike, made: store.Description,
             model: str | os.PathLike | embedder.Embedder,
             options: dict[str, Any]) -> Opener:
  """The Opener of an index's own model; ValueError for another one.

  Where the files of a model are those that the index was made by, the model is
  looked at when it is opened.
  """
  opener = Opener(model, options, None, made, path)
  if opener.opened is not None and opener.opened == made.opened:
    return Opener(model, options, made.model['weights'], made, path)
  assert opener.model is not None  # it is opened, and looked at
  return opener


def of_description(path: str | os.PathLike, made: store.Description) -> Opener:
  """The Opener of the model that an index says it was made by."""
  if made.opened is None:
    raise ValueError(f'{path} was made by a model that was open, '
                     f'{made.model["name"]}: open it again, and give it')
  return of_index(path, made, made.opened['path'], made.opened['options'])


def _name_of(model):
  path = pathlib.Path(model).expanduser()
  return str(path.resolve()) if path.exists() else str(model)


def _kept(options):
  """The options of jaxret.load as JSON keeps them; ValueError."""
  for name, value in options.items():
    if not isinstance(value, (str, int, float, bool, type(None))):
      raise ValueError(f'{name}: got a {type(value).__name__}, which an index '
                       'does not keep: open the model with jaxret.load and '
                       'give that')
  return dict(options)
