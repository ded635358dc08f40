"""Where the page finds the file of a medium: beside it, or within itself."""
import base64
import mimetypes
import os
import pathlib
import urllib.parse
from typing import NamedTuple

from jaxret.data import images, sources
from jaxret.report import gallery

MOST_EMBEDDED = 256 * 2 ** 20  # bytes of files in a page; browsers hold twice


class Embedded(NamedTuple):
  """A file in the page: the name of its place there, and its bytes as a URL."""
  name: str
  url: str
  is_image: bool


class Links:
  """The link of a Shown, relative to the page in `workdir`; None = no file.

  embed: the page holds the files, each once in `embedded`, and links lead
  there, also to what lies in an archive or a table, where no link leads else.
  One that would take them above MOST_EMBEDDED bytes stays a link to the file;
  `too_large` counts these.
  """

  def __init__(self, workdir: str | os.PathLike, embed: bool = False) -> None:
    self._base, self._embed = pathlib.Path(workdir), embed
    self._made: dict[str, str | None] = {}
    self._stills: set[str] = set()
    self._left = MOST_EMBEDDED
    self.embedded: list[Embedded] = []
    self.too_large = 0

  def __call__(self, shown: gallery.Shown) -> str | None:
    """The URL for an attribute; not yet escaped for HTML."""
    if shown.path is None:
      return None
    if shown.path not in self._made:
      self._made[shown.path] = self._link(shown)
    return self._made[shown.path]

  def is_still(self, shown: gallery.Shown) -> bool:
    """Whether what a link leads to is an image."""
    return shown.is_image or shown.path in self._stills

  def _link(self, shown):
    path = pathlib.Path(shown.path)
    if path.is_file():
      if self._embed and path.stat().st_size <= self._left:
        return self._held(shown, path.read_bytes())
      self.too_large += self._embed
      return relative(path, self._base)
    data = _inside(shown.path) if self._embed else None
    if data is None or len(data) > self._left:
      self.too_large += data is not None
      return None
    return self._held(shown, data)

  def _held(self, shown, data):
    """Puts a file into the page; the link to its place."""
    self._left -= len(data)
    kind = mimetypes.guess_type(shown.path)[0]
    if kind is None:  # a cell of a table is named by its column
      form = images.form_of(data)
      kind = f'image/{form.lower()}' if form else 'application/octet-stream'
    if kind.startswith('image/'):
      self._stills.add(shown.path)
    self.embedded.append(Embedded(
        f'medium-{len(self.embedded)}',
        f'data:{kind};base64,{base64.b64encode(data).decode()}',
        self.is_still(shown)))
    return f'#{self.embedded[-1].name}'


def _inside(path):
  """The bytes of a medium inside a file; None where there is none."""
  try:
    found = sources.checked(path, 'medium')
  except (OSError, ValueError):  # it is gone since the run has read it
    return None
  return found if isinstance(found, bytes) else None


def relative(path: str | os.PathLike, base: str | os.PathLike) -> str:
  """The URL of a file, from a page in the directory `base`."""
  found = os.path.relpath(pathlib.Path(path).resolve(),
                          pathlib.Path(base).resolve())
  # A leading './': no name is taken for a scheme, as 'a:b.mp4' would be.
  return './' + urllib.parse.quote(pathlib.PurePath(found).as_posix())
