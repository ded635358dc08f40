"""Where the page finds the file of a medium: beside it, or within itself."""
import base64
import mimetypes
import os
import pathlib
import urllib.parse

from jaxret.report import gallery


class Links:
  """The link of a Shown, relative to the page in `workdir`; None = no file.

  embed: the file's bytes as a data URL; each is read once, but stands in the
  page wherever it is shown.
  """

  def __init__(self, workdir: str | os.PathLike, embed: bool = False) -> None:
    self._base, self._embed = pathlib.Path(workdir).resolve(), embed
    self._made: dict[str, str | None] = {}

  def __call__(self, shown: gallery.Shown) -> str | None:
    """The URL for an attribute; not yet escaped for HTML."""
    if shown.path is None:
      return None
    if shown.path not in self._made:
      self._made[shown.path] = self._link(pathlib.Path(shown.path))
    return self._made[shown.path]

  def _link(self, path):
    if not path.is_file():
      return None
    if self._embed:
      kind = mimetypes.guess_type(path.name)[0] or 'application/octet-stream'
      data = base64.b64encode(path.read_bytes()).decode()
      return f'data:{kind};base64,{data}'
    relative = os.path.relpath(path.resolve(), self._base)
    # A leading './': no name is taken for a scheme, as 'a:b.mp4' would be.
    return './' + urllib.parse.quote(pathlib.PurePath(relative).as_posix())
