"""The scenes of a run, as plain functions; a paper's run.py tells its story.

A run opens its workdir, leaves out what cannot be read, opens or trains a
tokenizer, restores or trains its stages, evaluates, exports and publishes.
"""
import functools
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxret import (
  checkpoint,
  config_ranges,
  files,
  initial,
  methods,
  optim,
  own_files,
  processes,
  provenance,
  report,
  sharding,
  trackers,
)
from jaxret import skipped as skipped_lib
from jaxret import train as train_lib
from jaxret.data import sources, text, types
from jaxret.methods import base
from jaxret.models import adapter_export, adapters, names


class Stage(NamedTuple):
  """One training: its row in the results, its config and its directory."""
  row: str
  config: ConfigDict
  directory: pathlib.Path


def open_workdir(config: ConfigDict, workdir: str | os.PathLike) -> Mesh:
  """Makes the workdir this config's own and gives the mesh of the run."""
  config_ranges.check(config)
  trackers.check(config.get('log', {}).get('to', ()))
  sources.limit_pixels(config.data.get('max_pixels', sources.MOST_PIXELS))
  checkpoint.claim_workdir(workdir, config)
  mesh = sharding.make_mesh(config.mesh)
  logging.info('%d %s, mesh %s, workdir %s', jax.device_count(),
               jax.devices()[0].device_kind, dict(mesh.shape), workdir)
  return mesh


def has_checkpoints(workdir: str | os.PathLike) -> bool:
  """Whether anything was trained in this very directory."""
  return (pathlib.Path(workdir) / 'checkpoints').is_dir()


def check_weights(config: ConfigDict, workdir: str | os.PathLike,
                  trained: bool) -> None:
  """Raises ValueError where an evaluation finds no weights.

  trained: whether checkpoints are there.
  """
  if not trained and not config.init_from and not config.model.pretrained:
    raise ValueError(
        f'{workdir} holds no checkpoints and the config names no weights: '
        'train there first, or set model.pretrained or init_from')


# What cannot be used.


class Media(Protocol):
  """What can be tried: {index: why it does not decode} of those that fail."""

  def scan(self, indices: Iterable[int], progress: bool = True
           ) -> dict[int, str]: ...


def unreadable(ids: list[str], media: Media, record: pathlib.Path
               ) -> dict[str, str]:
  """{id: why it cannot be used} of the files that do not decode.

  media: anything of as many media as `ids` with a `scan` like media.Frames.
  Each process decodes its share. What is seen is kept in the file `record`:
  a rerun goes on with the same videos and does not decode them all again.
  """
  digest = hashlib.sha256(json.dumps(ids).encode()).hexdigest()
  known = own_files.read_object(record) if record.is_file() else {}
  if processes.agreed(known.get('ids') == digest):
    return known['unreadable']
  share = range(jax.process_index(), len(ids), jax.process_count())
  bad = media.scan(share, progress=processes.first())
  if jax.process_count() > 1:
    is_bad = processes.gathered(
        np.isin(np.arange(len(ids)), list(bad))).any(0)
    # Reasons are texts, which do not travel: the few bad ones fail again.
    again = media.scan(np.flatnonzero(is_bad), progress=False)
    bad = {i: again.get(i, 'one of the processes cannot read it')
           for i in map(int, np.flatnonzero(is_bad))}
  reasons = {ids[i]: reason for i, reason in bad.items()}
  if processes.first():
    files.write_atomically(
        record, json.dumps({'ids': digest, 'unreadable': reasons}, indent=1))
  return reasons


def leave_out(workdir: str | os.PathLike, split: str,
              skipped: Sequence[Mapping[str, str]], total: int, what: str
              ) -> None:
  """Lists [{'id', 'reason'}] of `split`; ValueError if that is all there is.

  total: how many there are, unusable ones included; what: their name in the
  message, 'files of shapes train' say.
  """
  if not skipped:
    return
  list_skipped(workdir, split, skipped)
  if len(skipped) == total:
    raise ValueError(f'none of the {total} {what} can be read; the first: '
                     f'{skipped[0]["id"]}: {skipped[0]["reason"]}')


def leave_out_entries(config: ConfigDict, workdir: str | os.PathLike,
                      split: str, left_out: Iterable[types.LeftOut]) -> None:
  """Lists what data files hold that cannot be used, of `split`.

  Errors: ValueError that names the first where `data.strict` is set.
  """
  left_out = list(dict.fromkeys(left_out))
  if not left_out:
    return
  if config.data.get('strict', False):
    first = '; '.join(one.reason for one in left_out[:3])
    more = f'; and {len(left_out) - 3} more' if len(left_out) > 3 else ''
    raise ValueError(
        f'data.strict: {len(left_out)} entries of split {split} cannot be '
        f'used: {first}{more}: mend the files, or set data.strict=False to '
        'leave them out')
  list_skipped(workdir, split, [one._asdict() for one in left_out])


def list_skipped(workdir: str | os.PathLike, split: str,
                 skipped: Sequence[Mapping[str, str]]) -> None:
  """Adds what is new of [{'id', 'reason'}] to skipped.jsonl."""
  if not processes.first():
    return
  logging.warning('%d items of split %s cannot be used and are left out, see '
                  'skipped.jsonl', len(skipped), split)
  skipped_lib.add(workdir, [{**record, 'split': split} for record in skipped])


def left_out(workdir: str | os.PathLike) -> int:
  """How many items cannot be used, each counted once."""
  return len({one['id'] for one in skipped_lib.read(workdir)})


# Tokenizer.


def open_tokenizer(config: ConfigDict, workdir: str | os.PathLike,
                   captions: Iterable[str] | None = None, **options: Any
                   ) -> text.Tokenizer:
  """The tokenizer of the model, or a small one trained on the captions.

  A run that starts from another one's parameters reads its tokenizer too.
  captions: None = it was trained before. options: of text.train_tokenizer.
  """
  name = config.model.tokenizer or config.model.pretrained
  if name:
    return text.load_tokenizer(name)
  directory = pathlib.Path(config.init_from or workdir) / 'tokenizer'
  if captions is not None and not config.init_from:
    return processes.one_then_all(functools.partial(
        _train_tokenizer, config, workdir, directory, captions, options))
  if not directory.is_dir():
    raise ValueError(f'{directory.parent} holds no tokenizer: train there '
                     'first, or set model.tokenizer')
  return text.load_tokenizer(directory)


def _train_tokenizer(config, workdir, directory, captions, options):
  if processes.first() and not checkpoint.has_results(workdir):
    # Left by a start that failed, whose captions may since have been mended.
    shutil.rmtree(directory, ignore_errors=True)
  return text.train_tokenizer(
      captions, config.model.vocab_size, directory, **options)


# Where parameters come from and go to.


def stage_config(config: ConfigDict, sections: Iterable[str], name: str,
                 **fields: Any) -> ConfigDict:
  """The config of one training: `config` changed by its section `name`.

  sections: all names of such sections, which a stage's config has none of;
  fields: set before the section's own.
  """
  whole = {key: value for key, value in config.to_dict().items()
           if key not in sections}
  changed = ConfigDict({**whole, **fields})
  changed.update(config[name])
  return changed


def earlier_run(config: ConfigDict, workdir: str | os.PathLike
                ) -> pathlib.Path | None:
  """The workdir whose result a run goes on from, or None.

  A stage `starts_from` another of its run: they lie in the run's workdir.
  """
  stage, workdir = config.get('starts_from'), pathlib.Path(workdir)
  if stage:
    return (workdir if stage in config.before else workdir.parent) / stage
  return pathlib.Path(config.init_from) if config.init_from else None


def trained(config: ConfigDict, tokenizer: text.Tokenizer,
            workdir: str | os.PathLike, mesh: Mesh) -> base.Params:
  """The parameters that the last checkpoint of a workdir completes.

  What was frozen comes from where the run started, see `start`. Raises
  ValueError without a checkpoint.
  """
  method = methods.get(config.method).method(config, tokenizer)
  _, frozen = optim.partition(initial.shapes(method.init), method.trainable)
  train_lib.trained_steps(workdir)  # before the base is read
  params = start(config, method, tokenizer, workdir, mesh) if frozen else None
  return train_lib.restore_trained(method, config, workdir, mesh, params)


def start(config: ConfigDict, method: base.Method, tokenizer: text.Tokenizer,
          workdir: str | os.PathLike, mesh: Mesh) -> base.Params:
  """What a run begins with: another run's result, merged, or its own weights.

  LoRA factors are no part of another run's result: fresh ones are made.
  """
  earlier = earlier_run(config, workdir)
  if earlier is None:
    return train_lib.init_params(method, config.seed, mesh)
  first = checkpoint.read_config(earlier)
  if first is None:
    raise ValueError(f'init_from {earlier} holds no config.json: name the '
                     'workdir of a run, or leave it out')
  params = base.merged(first, trained(first, tokenizer, earlier, mesh))
  key = jax.random.split(jax.random.key(config.seed))[0]
  return base.add_lora(method.init, params, key, mesh)


def export_adapter(
    config: ConfigDict, directory: str | os.PathLike, params: base.Params,
    weights: Sequence[names.Weight], trained: base.Params | None = None,
    visual_head: jax.Array | None = None) -> None:
  """Writes what LoRA trained to adapter/ in a directory, as PEFT does.

  weights: the table of models.names that the keys are taken from. trained:
  those of params['params'] that were trained besides; what PEFT's files have
  no place for is named in the log. visual_head: of BLiM, its kernel.
  """
  lora = config.model.lora
  held, others = adapter_export.modules_to_save(
      trained or {}, params['lora'], weights)
  factors, held, head = sharding.to_host((params['lora'], held, visual_head))
  if not processes.first():
    return
  directory = pathlib.Path(directory) / 'adapter'
  if others:
    logging.warning('%s lacks %s, trained as well: checkpoints/ beside it has '
                    'all', directory, ', '.join(others))
  adapter_export.export_peft(
      adapters.Adapter(factors, lora.alpha / lora.rank, head, modules=held),
      directory, config.model.pretrained, nested=False, weights=weights)


# Results.


def trained_on(config: ConfigDict, workdir: str | os.PathLike
               ) -> list[ConfigDict]:
  """The `data` of each training that led to a run's weights, its own first.

  A run without checkpoints has trained nothing; its weights, or those that its
  training began with, may be of the run that `init_from` names.
  """
  sections = [config.data] if has_checkpoints(workdir) else []
  earlier = config.init_from and checkpoint.read_config(config.init_from)
  return (sections + trained_on(earlier, config.init_from) if earlier
          else sections)


def publish(config: ConfigDict, workdir: str | os.PathLike,
            results: dict[str, Any], sweeps: report.Sweeps | None = None,
            hubness: Sequence[report.Hubness] = (),
            gallery: Sequence[report.GalleryQuery] = (),
            written: Sequence[report.Written] = (),
            queries: Sequence[report.Queries] = ()) -> None:
  """Writes results.json, report.html, results.txt, and prints the table.

  Besides provenance.json, and ranks.npz of the queries.
  """
  rows = _rows(methods.package(config.method))
  found = provenance.gather(config.get('seed'))
  provenance.write(workdir, found)
  report.write(workdir, results, _facts(config, results), rows, sweeps,
               hubness, gallery, written, queries, {
                   'line': provenance.line(found),
                   'command': found['command']},
               # Configs of old work directories have no such field.
               embed_media=config.get('eval', {}).get('embed_media', False))
  table = report.format_table(results, rows)
  (pathlib.Path(workdir) / 'results.txt').write_text(table)
  print(report.format_table(report.main_rows(results, rows), rows))
  if results['left_out']:
    print(f'left out: {results["left_out"]} items, see skipped.jsonl')
  if 'note' in results:
    logging.warning('%s', results['note'])
  logging.info('%s Look at it: %s; against another run: jaxret compare %s '
               'OTHER', report.headline(results, rows),
               pathlib.Path(workdir) / 'report.html', workdir)


def _rows(package):
  """What a method says of its rows, all of which it may leave out."""
  return report.Rows(getattr(package, 'ROWS', {}),
                     getattr(package, 'MAIN_ROW', None),
                     getattr(package, 'EXPLAINED', {}))


def _facts(config, results):
  facts = {'method': config.method, 'device': jax.devices()[0].device_kind,
           'devices': jax.device_count()}
  for name in ('selected_on', 'note'):
    if name in results:
      facts[name.replace('_', ' ')] = results[name]
  return facts
