"""Writes what a run trained as a model directory of the Hub's layouts.

Everything is written beside OUT and then takes its name: a directory that is
there is whole.
"""
import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from jaxret import (
  checkpoint,
  embedding_settings,
  loading,
  methods,
  optim,
  sharding,
)
from jaxret import run as run_lib
from jaxret.data import text
from jaxret.exporting import card
from jaxret.methods import base
from jaxret.models import adapter_export, pretrained, weight_files

FORMATS = 'transformers', 'sentence-transformers', 'peft'
DTYPES = 'float32', 'bfloat16'
# Of the directory of a base: what is of its weights, or of them alone.
_WEIGHTS = ('.safetensors', '.bin', '.pt', '.pth', '.gguf', '.h5', '.msgpack',
            '.onnx', '.index.json')
_OTHERS = ('.json', '.txt', '.jinja', '.model', '.py')
_TOKENIZER = ('tokenizer.json', 'tokenizer_config.json', 'vocab.json',
              'merges.txt', 'added_tokens.json', 'special_tokens_map.json')


class Trained(NamedTuple):
  """A run, and what it ends with; place: of its tokenizer, a directory or hub
  name. params: as trained, with factors if LoRA trained them."""
  workdir: pathlib.Path
  config: Any
  tokenizer: text.Tokenizer
  place: str | os.PathLike
  params: base.Params


def export(workdir: str | os.PathLike, out: str | os.PathLike,
           layout: str | None = None, dtype: str | None = None,
           licence: str | None = None) -> pathlib.Path:
  """Exports the last checkpoint of a workdir; the directory it wrote.

  Args:
    workdir: of a run, or of a stage of one.
    out: a directory that is not there yet, or is empty.
    layout: one of FORMATS; None = what the model has, 'transformers' or
      'sentence-transformers'. 'peft' writes LoRA's factors alone.
    dtype: of the tensors, one of DTYPES; None = as the run has them.
    licence: for the model card; None = that of the base, as its card says it.

  Raises:
    ValueError: for a method or a model without such a layout, a workdir without
      checkpoints, an `out` that holds something.
  """
  out = _free(pathlib.Path(out).expanduser())
  for name, value, known in (('format', layout, FORMATS),
                             ('dtype', dtype, DTYPES)):
    if value not in (None, *known):
      raise ValueError(f'{name} {value!r} is unknown; want one of '
                       f'{", ".join(known)}')
  workdir = pathlib.Path(workdir).expanduser()
  config = _config(workdir)
  make = _exporter(config, layout)
  place = _tokenizer_place(config, workdir)
  tokenizer = text.load_tokenizer(place)
  trained = Trained(workdir, config, tokenizer, place, run_lib.trained(
      config, tokenizer, workdir, sharding.make_mesh()))
  with _replacing(out) as directory:
    if layout == 'peft':
      facts = _write_adapter(trained, directory, dtype)
    else:
      facts = _write_model(trained, make, directory, layout, dtype)
    card.write(directory, workdir, config, facts, licence)
  logging.info('exported to %s', out)
  return out


def _free(out):
  """The directory, which must not be there yet, or be empty."""
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise ValueError(f'{out} is there already: remove it, or give another '
                     '--out')
  return out


def _config(workdir):
  """The config of a workdir that holds checkpoints."""
  if not loading.is_workdir(workdir):
    raise ValueError(f'{workdir} is no workdir: give the directory of a run, '
                     'which holds config.json and checkpoints/')
  if not run_lib.has_checkpoints(workdir):
    inner = sorted(str(path.parent.relative_to(workdir)) for depth in (
        '*', '*/*') for path in workdir.glob(f'{depth}/checkpoints'))
    raise ValueError(f'{workdir} holds no checkpoints of its own: ' + (
        f'export one of those in it, {", ".join(inner)}' if inner else
        'nothing was trained there'))
  return checkpoint.read_config(workdir)


def _exporter(config, layout):
  """`exported` of the method's module; None for an adapter.

  Raises ValueError for what it has no layout for.
  """
  lora = config.model.get('lora', {}).get('rank', 0)
  if layout == 'peft':
    if not lora:
      raise ValueError('format peft wants a run that trains with LoRA; '
                       'model.lora.rank is 0: export it as transformers')
    return None
  made = methods.exporter(config.method)
  if made is None or not methods.has_layout(config):
    adapter = 'use --format=peft for the factors of LoRA' if lora else (
        'jaxret.score_matrix and jaxret.load_generator open the workdir itself')
    raise ValueError(
        f'{config.method}: what it trains has no layout on the Hub that '
        f'transformers loads: {adapter}')
  return made


def _tokenizer_place(config, workdir):
  """The directory or hub name of the tokenizer that a run reads texts with."""
  m = config.model
  for name in ('tokenizer', 'text_pretrained', 'pretrained'):
    if m.get(name, ''):
      return m[name]
  start = pathlib.Path(config.get('init_from', '') or workdir)
  for directory in (start, *list(start.absolute().parents)[:2]):
    if (directory / 'tokenizer').is_dir():
      return directory / 'tokenizer'
  raise ValueError(f'{start} holds no tokenizer, nor does a directory above it:'
                   ' the workdir is not whole')


@contextlib.contextmanager
def _replacing(out):
  """Gives a directory to fill, which then is `out`; nothing where it fails."""
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
    part = pathlib.Path(tempfile.mkdtemp(
        prefix=f'.{out.name}-', suffix='.partial', dir=out.parent))
  except OSError as error:
    raise ValueError(f'{out}: it cannot be written ({error.strerror})'
                     ) from error
  try:
    yield part
    part.chmod(0o755)
    os.replace(part, out)  # an empty directory may be there
  except BaseException:
    shutil.rmtree(part, ignore_errors=True)
    raise


def _write_model(trained, make, directory, layout, dtype):
  """Writes weights and what goes with them; the card.Facts of it."""
  config = trained.config
  made = make(config, trained.tokenizer, merged(config, trained.params, dtype))
  if layout not in (None, made.layout, *made.also):
    raise ValueError(
        f'{config.method}: a {made.model_type} has no layout of {layout}, '
        f'which would not embed as it was trained: use --format={made.layout}; '
        'what that writes, or the workdir itself, jaxret.load opens with the '
        'methods of a SentenceTransformer, for its evaluators and others')
  files = {**made.files, **made.also.get(layout, dict)()}
  written = np.dtype(dtype or jax.tree.leaves(
      made.parts[''].params)[0].dtype).name
  origin = made.parts[''].base
  if origin:
    _copy_files(pretrained.find_model(origin), directory)
  for folder, part in made.parts.items():
    _write_part(part, directory / folder, dtype)
  for name, content in files.items():
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + '\n')
  _say_dtype(directory / 'config.json', written)
  _write_tokenizer(trained.place, directory,
                   made.layout == 'sentence-transformers')
  if made.options:
    embedding_settings.write(directory, made.options)
  return card.Facts(layout or made.layout, made.model_type, origin, written,
                    'lora' in trained.params, made.opened_by)


def merged(config: Any, params: base.Params, dtype: str | None
           ) -> base.Params:
  """base.merged; what is written in another dtype is merged in that."""
  if 'lora' in params and dtype is not None:
    params = {**params, 'params': jax.tree.map(
        lambda leaf: leaf.astype(dtype), params['params'])}
  return base.merged(config, params)


def _write_part(part, directory, dtype):
  found = weight_files.tensors(part.table, part.params, part.shapes or (
      part.base and {key: tensor.shape for key, tensor in
                     weight_files.by_table(pretrained.open_checkpoint(
                         part.base), part.table).items()}))
  if part.base:
    found = weight_files.filled(
        pretrained.open_checkpoint(part.base), part.table, found)
  weight_files.save(directory, {**part.extra, **found}, dtype=dtype)


def _copy_files(source, directory):
  """What a base has beside its weights: its config, processor, tokenizer."""
  for path in sorted(source.iterdir()):
    if path.is_file() and path.suffix in _OTHERS and not path.name.endswith(
        _WEIGHTS) and path.name != embedding_settings.FILE:
      shutil.copyfile(path, directory / path.name)


def _say_dtype(path, dtype):
  """Says in config.json what the tensors are, so that they are read as that."""
  whole = json.loads(path.read_text('utf-8-sig'))
  for part in (whole, *(one for one in whole.values()
                        if isinstance(one, dict))):
    for field in ('torch_dtype', 'dtype'):
      if field in part:
        part[field] = dtype
  if 'dtype' not in whole:
    whole['torch_dtype'] = dtype
  path.write_text(json.dumps(whole, indent=2) + '\n')


def _write_tokenizer(place, directory, marked):
  """Copies a tokenizer; marked: with a start and end put around a text."""
  place = pretrained.find_model(place)
  for name in _TOKENIZER:
    (directory / name).unlink(missing_ok=True)  # of the base
    if (place / name).is_file():
      shutil.copyfile(place / name, directory / name)
  if marked:
    text.mark_texts(directory / _TOKENIZER[0])


def _write_adapter(trained, directory, dtype):
  """Writes LoRA's factors as PEFT does; the card.Facts of it."""
  config, params = trained.config, trained.params
  if dtype not in (None, 'float32'):
    raise ValueError(f"dtype {dtype!r}: PEFT's factors are float32: leave it "
                     'out')
  embeds = methods.embeds(config.method)
  if embeds is None:
    return _copy_adapter(trained, directory)
  method = methods.get(config.method).method(config, trained.tokenizer)
  model = embeds.model(config, trained.tokenizer)
  weights = embeds.weight_names(model)
  whole = optim.partition(params, method.trainable)[0].get('params', {})
  _, others = adapter_export.modules_to_save(whole, params['lora'], weights)
  if others:
    raise ValueError(
        f'format peft has no place for {pretrained.some(others)}, trained as '
        'well: use --format=transformers, which merges all')
  inner = directory / 'adapter'
  run_lib.export_adapter(config, directory, params, weights, whole)
  for path in inner.iterdir():
    os.replace(path, directory / path.name)
  inner.rmdir()
  options = methods.exporter(config.method)(
      config, trained.tokenizer, params).options
  embedding_settings.write(directory, options)
  return card.Facts('peft', model.name, config.model.pretrained, 'float32',
                    True, 'load')


def _copy_adapter(trained, directory):
  """The adapter that a run of another kind has written when it ended."""
  source = trained.workdir / 'adapter'
  if not (source / 'adapter_config.json').is_file():
    raise ValueError(f'{source} is not there: the training has not ended; go '
                     'on with it')
  for path in source.iterdir():
    shutil.copyfile(path, directory / path.name)
  return card.Facts('peft', trained.config.method,
                    trained.config.model.pretrained, 'float32', True,
                    'load_generator')
