"""Tables of media for tests, as people upload them."""
import io
import pathlib

import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet

MEDIUM = pyarrow.struct([('bytes', pyarrow.binary()),
                         ('path', pyarrow.string())])


def png(value, side=8):
  """A grey image."""
  buffer = io.BytesIO()
  PIL.Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(
      buffer, 'PNG')
  return buffer.getvalue()


def medium(data, name=None):
  return {'bytes': data, 'path': name}


def parquet(path, rows_per_group=None, **columns):
  """Writes columns: lists of values, or (type, list)."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  arrays = {name: pyarrow.array(given[1], given[0])
            if isinstance(given, tuple) else pyarrow.array(given)
            for name, given in columns.items()}
  pyarrow.parquet.write_table(
      pyarrow.table(arrays), path, row_group_size=rows_per_group)
  return path


def images(names, start=0):
  """(type, values) of a column of images, a grey of its own each."""
  return MEDIUM, [medium(png(start + i), name)
                  for i, name in enumerate(names)]
